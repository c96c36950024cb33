"""A seeded fuzzer of everything that visiontok reads.

Every reader of files is an `Entry`: valid inputs, a function that reads one, and what a correct result looks like. Valid inputs are damaged by
mutators that know their formats, and read in a child process. Right is a result that passes the entry's check, or one of the library's own
errors, within limits of time and memory, without code that is run or files that are written. `python -m fuzzing --help` says how to run it.
"""
