from hypothesis import settings

# How long an example takes depends on the machine and on what else runs there; it says nothing about the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
