"""Random batches of tokens and latents of every kind of layout, for the tests of everything that carries them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

from visiontok.tokens import Latents, Segment, TokenLayout, Tokens


@dataclass(frozen=True)
class Kind:
    """A layout at some extent, and how units of a signal (frames, rows, columns) become extents."""

    layout: TokenLayout
    per_unit: tuple[int, ...]  # positions per unit along each axis of every segment; 0 where the number is fixed

    def extents(self, units: int) -> list[int]:
        return [size if not each else units * each for size, each in zip(self.layout.extents, self.per_unit, strict=True)]


def _layout(modality: str, *segments: Segment, signal_shape: tuple[int, ...], **options: Any) -> TokenLayout:
    return TokenLayout.parse({"modality": modality, "segments": segments, "signal_shape": signal_shape, **options})


SNAC = Kind(
    _layout(
        "audio",
        Segment(name="coarse", shape=(2,), vocab_size=300, stride=(32,), free_axes=(0,)),
        Segment(name="middle", shape=(4,), vocab_size=5, stride=(16,), free_axes=(0,)),
        Segment(name="fine", shape=(8,), vocab_size=5, stride=(8,), free_axes=(0,)),
        signal_shape=(64,),
        rate=24000,
        levels="any",
        order="depth-first",
    ),
    (1, 2, 4),
)
RVQ = Kind(
    _layout(
        "audio",
        Segment(name="frames", shape=(3,), vocab_size=9, codebooks=4, stride=(320,), free_axes=(0,)),
        signal_shape=(960,),
        rate=24000,
        levels="any",
        order="by-scale",
    ),
    (1,),
)
GRID = Kind(_layout("image", Segment(name="grid", shape=(2, 3), vocab_size=70000, stride=(8, 8), free_axes=(0, 1)), signal_shape=(16, 24)), (1, 2))
VIDEO = Kind(
    _layout(
        "video",
        Segment(name="grid", shape=(2, 2, 2), vocab_size=(7, 300), codebooks=2, stride=(4, 8, 8), free_axes=(0, 1, 2)),
        signal_shape=(8, 16, 16),
        order="interleaved",
    ),
    (1, 1, 1),
)
FIXED_AND_FREE = Kind(
    _layout(
        "image",
        Segment(name="registers", shape=(3,), vocab_size=5),
        Segment(name="grid", shape=(1, 2), vocab_size=300, stride=(8, 8), free_axes=(1,)),
        signal_shape=(8, 16),
        order="reverse",
    ),
    (0, 0, 2),
)
PATCHES = Kind(
    _layout("image", Segment(name="patches", shape=(2, 2), vocab_size=50, stride=(8, 8), free_axes=(0, 1)), signal_shape=(16, 16), ragged=True),
    (1, 1),
)
QUERIES = Kind(
    _layout("image", Segment(name="queries", shape=(6,), vocab_size=50, free_axes=(0,)), signal_shape=(16, 16), prefixes="any"),
    (2,),
)
FIXED = Kind(_layout("image", Segment(name="grid", shape=(2, 3), vocab_size=(5, 300), codebooks=2), signal_shape=(16, 16)), (0, 0))
MEL = Kind(
    _layout("audio", Segment(name="frames", shape=(3,), channels=4, stride=(80,), free_axes=(0,)), signal_shape=(240,), rate=16000),
    (1,),
)
KEPT_LATENTS = Kind(
    _layout("image", Segment(name="patches", shape=(2, 2), channels=3, stride=(8, 8), free_axes=(0, 1)), signal_shape=(16, 16), ragged=True),
    (1, 1),
)
QUERY_LATENTS = Kind(_layout("image", Segment(name="queries", shape=(6,), channels=3), signal_shape=(16, 16), prefixes="any"), (0,))

DISCRETE = {
    "snac": SNAC,
    "rvq": RVQ,
    "grid": GRID,
    "video": VIDEO,
    "fixed-and-free": FIXED_AND_FREE,
    "patches": PATCHES,
    "queries": QUERIES,
    "fixed": FIXED,
}
CONTINUOUS = {"mel": MEL, "kept-latents": KEPT_LATENTS, "query-latents": QUERY_LATENTS}
KINDS = DISCRETE | CONTINUOUS


@st.composite
def batches(draw: st.DrawFn, kinds: dict[str, Kind] | None = None, *, min_size: int = 1) -> Tokens | Latents:
    """A batch of one to four samples of different extents, perhaps shorter ones, perhaps with positions and extras."""
    kind = draw(st.sampled_from(list((KINDS if kinds is None else kinds).values())))
    layout = kind.layout
    shorter = layout.ragged or layout.prefixes != "none"
    with_positions = layout.ragged and draw(st.booleans())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    samples, positions, extents = [], [], []
    for _ in range(draw(st.integers(min_size, 4))):
        own = layout.at(kind.extents(draw(st.integers(1, 4))))
        held = torch.arange(draw(st.integers(0, own.length)) if shorter else own.length)
        if with_positions:
            held = torch.tensor(sorted(draw(st.sets(st.integers(0, own.length - 1)))), dtype=torch.int64)
        samples.append(_random(own, held, generator))
        positions.append(held)
        extents.append(own.extents)
    largest = layout.at([max(sizes) for sizes in zip(*extents, strict=True)]) if extents else layout
    batch_class = Latents if layout.is_continuous else Tokens
    return batch_class.from_samples(
        samples,
        largest,
        positions=positions if with_positions else None,
        extents=torch.tensor(extents, dtype=torch.int64) if layout.is_variable and extents else None,
        extras=_extras(draw, len(samples), generator),
    )


def _random(layout: TokenLayout, held: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if layout.is_continuous:
        return torch.randn(len(held), layout.segments[0].channels, generator=generator)
    sizes = torch.from_numpy(layout.vocab_sizes)[held]
    return (torch.rand(len(held), generator=generator, dtype=torch.float64) * sizes).long()


def _extras(draw: st.DrawFn, samples: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    extras = {
        "signal_size": torch.arange(2 * samples).reshape(samples, 2),
        "codebook": torch.randn(samples, 2, 3, generator=generator),
        "is_music": torch.arange(samples) % 2 == 0,
        "scale": torch.rand(samples, generator=generator, dtype=torch.float64),
    }
    return {name: extras[name] for name in draw(st.lists(st.sampled_from(sorted(extras)), unique=True))}


def assert_same(one: Tokens | Latents, other: Tokens | Latents) -> None:
    """Every field is equal, dtypes too."""
    assert type(one) is type(other)
    assert one.layout == other.layout
    assert one.data.dtype == other.data.dtype
    assert torch.equal(one.data, other.data)
    assert torch.equal(one.sample_lengths, other.sample_lengths)
    assert torch.equal(one.sample_extents, other.sample_extents)
    assert (one.positions is None) == (other.positions is None)
    assert one.positions is None or torch.equal(one.positions, other.positions)
    assert set(one.extras) == set(other.extras)
    for name, value in one.extras.items():
        assert value.dtype == other.extras[name].dtype
        assert torch.equal(value, other.extras[name])
