import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from visiontok.tokens import Segment, TokenLayout, Tokens
from visiontok.training.usage import UsageWindow

CPU = torch.device("cpu")


def layout(*segments):
    return TokenLayout(modality="image", segments=segments, signal_shape=(8, 8))


@given(batches=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=12), window=st.integers(1, 5))
def test_usage_counts_the_codes_of_the_last_steps(batches, window):
    usage = UsageWindow(ONE := layout(Segment(name="grid", shape=(3,), vocab_size=10)), window=window, device=CPU)
    for step, indices in enumerate(batches):
        usage.update(Tokens(torch.tensor([indices]), ONE), step)
        recent = {code for batch in batches[max(0, step + 1 - window) : step + 1] for code in batch}
        assert abs(usage.usage(step, Accelerator(cpu=True))["grid"] - len(recent) / 10) < 1e-6
        assert usage.is_full(step) == (step + 1 >= window)


def test_every_codebook_has_its_own_share():
    """Two residual codebooks of a grid, and two scales that share one codebook."""
    tokens_layout = layout(
        Segment(name="grid", shape=(2,), vocab_size=(4, 8), codebooks=2),
        Segment(name="coarse", shape=(1,), vocab_size=10, codebook="shared"),
        Segment(name="fine", shape=(2,), vocab_size=10, codebook="shared"),
    )
    usage = UsageWindow(tokens_layout, window=1, device=CPU)
    usage.update(Tokens(torch.tensor([[0, 5, 1, 5, 7, 8, 9]]), tokens_layout), 0)
    shares = usage.usage(0, Accelerator(cpu=True))
    assert {name: round(share, 4) for name, share in shares.items()} == {"grid.0": 0.5, "grid.1": 0.125, "shared": 0.3}


def test_samples_may_have_another_shape_than_the_layout():
    usage = UsageWindow(layout(Segment(name="grid", shape=(2, 2), vocab_size=8)), window=1, device=CPU)
    larger = layout(Segment(name="grid", shape=(1, 6), vocab_size=8))
    usage.update(Tokens(torch.tensor([[0, 1, 2, 3, 4, 5]]), larger), 0)
    assert usage.usage(0, Accelerator(cpu=True)) == {"grid": 0.75}


def test_codebooks_without_room_for_a_table_are_left_out():
    usage = UsageWindow(layout(Segment(name="bits", shape=(3,), vocab_size=2**36)), window=1, device=CPU)
    assert usage.usage(0, Accelerator(cpu=True)) == {}


def test_a_window_goes_on_from_its_state():
    grid = layout(Segment(name="grid", shape=(1,), vocab_size=4))
    whole, first, second = (UsageWindow(grid, window=3, device=CPU) for _ in range(3))
    accelerator = Accelerator(cpu=True)
    for step, code in enumerate([0, 1, 2, 3]):
        tokens = Tokens(torch.tensor([[code]]), grid)
        whole.update(tokens, step)
        if step == 2:
            second.load_state(first.state(accelerator))
        (first if step < 2 else second).update(tokens, step)
    assert second.usage(3, accelerator) == whole.usage(3, accelerator)
    assert second.is_full(3)
