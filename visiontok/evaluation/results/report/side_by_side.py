"""One signal beside its reconstructions, as a section of a report."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from visiontok.evaluation.results.report.clips import clip_grid
from visiontok.evaluation.results.report.images import difference_image, signal_image, token_map
from visiontok.evaluation.results.report.sections import ClipGrid, ImageGrid, ImageRow, SoundGrid
from visiontok.evaluation.results.report.sounds import MOST_SAMPLES, SECONDS, sound_grid
from visiontok.signals import SignalSpec
from visiontok.tokens import Latents, Tokens

_SMALLEST, _LARGEST = 72, 256
"""Width of an image on the page, in CSS pixels."""


def side_by_side(
    title: str,
    original: Tensor,
    reconstructions: Mapping[str, Tensor],
    *,
    spec: SignalSpec,
    tokens: Tokens | Latents,
    seconds: float = SECONDS,
) -> ImageGrid | ClipGrid | SoundGrid | None:
    """The section for one signal; None for signals that can be neither shown nor played.

    Args:
        title: heading.
        original: (C, *axes).
        reconstructions: by label, of the size of the original.
        spec: of all of them.
        tokens: of the signal, a batch of one.
        seconds: the most of a sound that is shown and played.
    """
    if spec.modality == "audio" and spec.rate is not None:
        return sound_grid(title, original, reconstructions, rate=round(spec.rate), tokens=tokens, seconds=seconds)
    if spec.modality == "video":
        return clip_grid(title, original, reconstructions, spec=spec, tokens=tokens)
    shown = signal_image(original, spec)
    decoded = {label: image for label, signal in reconstructions.items() if (image := signal_image(signal, spec)) is not None}
    if shown is None:
        return None
    first = token_map(tokens, side=shown.shape[1])
    below = [difference_image(shown, shown) if first is None else first, *(difference_image(shown, image) for image in decoded.values())]
    captions = ["" if first is None else "tokens", *("difference, 4 times" for _ in decoded)]
    rows = [ImageRow("", [shown, *decoded.values()], ["original", *decoded]), ImageRow("", below, captions)]
    return ImageGrid(title, rows, width=min(max(shown.shape[1], _SMALLEST), _LARGEST))


def seconds_shown(spec: SignalSpec, *, sounds: int) -> float:
    """The most of each of so many sounds that a page shows and plays, so that it stays a page of some MB."""
    if spec.modality != "audio" or spec.rate is None:
        return SECONDS
    return min(SECONDS, MOST_SAMPLES / (sounds * spec.channels * spec.rate))
