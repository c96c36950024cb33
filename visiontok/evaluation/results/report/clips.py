"""Clips for a report: an animation of what is compared, and contact sheets with their differences, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.evaluation.metrics.fidelity import psnr
from visiontok.evaluation.results.report.images import difference_image, to_image_array, token_image
from visiontok.evaluation.results.report.sections import ClipGrid, ImageArray, ImageRow
from visiontok.signals import SignalSpec
from visiontok.signals.animation import animation_grid, encode_animation
from visiontok.signals.image_writing import as_rgb
from visiontok.tokens import Latents, Tokens

SHEET = 8
"""The most frames of a contact sheet, evenly spread from the first to the last."""

MOST_FRAMES = 96
"""The most frames of an animation, from the beginning, so that a page stays one of some MB."""

LARGEST = 256
"""Pixels of the longer side of a frame beyond which it is shown smaller."""

RATE = 8.0
"""Frames per second at which clips without a rate of their own are shown."""

GAIN = 4.0
"""By which differences are brightened."""

KNOWN_COLOR, CONTINUED_COLOR = (0.9, 0.45, 0.1), (0.5, 0.5, 0.5)
"""Of the borders of frames that a continuation begins with, and of those that follow."""

_SMALLEST, _FRAME = 160, 72
"""Width of a frame on the page, in CSS pixels: at least, in the animation; of the contact sheet."""


def clip_grid(
    title: str, original: Tensor, reconstructions: Mapping[str, Tensor], *, spec: SignalSpec, tokens: Tokens | Latents | None = None
) -> ClipGrid | None:
    """A clip beside its reconstructions and their differences. Frames that only one of both has are not compared.

    Args:
        title: heading.
        original: (C, T, H, W).
        reconstructions: by label, of the original's frame size.
        spec: of all of them.
        tokens: of the clip, a batch of one; drawn below.

    Returns:
        None for clips that cannot be looked at, such as those of two channels.
    """
    shown = as_shown(original, spec)
    if shown is None:
        return None
    decoded = {label: rgb for label, clip in reconstructions.items() if (rgb := as_shown(clip, spec)) is not None}
    count = min(clip.shape[1] for clip in (shown, *decoded.values()))
    parts, labels = [shown[:, :MOST_FRAMES]], ["original"]
    chosen = spread(count)
    first = frames(shown, chosen)
    rows = [ImageRow("original", first, _times(chosen, spec))]
    for label, clip in decoded.items():
        parts += [clip[:, :MOST_FRAMES], (GAIN * (clip[:, :count] - shown[:, :count]).abs()).clamp(0, 1)[:, :MOST_FRAMES]]
        labels += [label, f"difference, {GAIN:g} times"]
        images = frames(clip, chosen)
        numbers = psnr(torch.from_numpy(np.stack(first)), torch.from_numpy(np.stack(images)), data_range=255).tolist()
        rows.append(ImageRow(label, images, ["identical" if number == float("inf") else f"{number:.1f} dB" for number in numbers]))
        rows.append(ImageRow(f"difference, {GAIN:g} times", [difference_image(*pair, gain=GAIN) for pair in zip(first, images, strict=True)]))
    maps = [] if tokens is None else token_maps(tokens, side=first[0].shape[1])
    if maps:
        rows.append(ImageRow("tokens", maps))
    return _grid(title, parts, labels, rows, rate=spec.rate, drawn=bool(maps))


def clip_gallery(title: str, clips: Sequence[Tensor], *, spec: SignalSpec, captions: Sequence[str] = ()) -> ClipGrid | None:
    """Clips (C, T, H, W) side by side, each with a contact sheet; None where they cannot be looked at.

    Args:
        title: heading.
        clips: one or more, of one frame size.
        spec: of all of them.
        captions: one per clip; empty for numbers.
    """
    shown = [rgb for clip in clips if (rgb := as_shown(clip, spec)) is not None]
    if not shown:
        return None
    labels = list(captions) or [str(number) for number in range(1, len(shown) + 1)]
    rows = [ImageRow(label, frames(clip, spread(clip.shape[1]))) for label, clip in zip(labels, shown, strict=True)]
    return _grid(title, [clip[:, :MOST_FRAMES] for clip in shown], labels, rows, rate=spec.rate, drawn=False)


def continuation_grid(title: str, original: Tensor, others: Mapping[str, Tensor], *, known: int, spec: SignalSpec) -> ClipGrid | None:
    """A clip beside clips that have its first frames in common; the border of a frame tells those from what follows.

    Args:
        title: heading.
        original: (C, T, H, W), with what really follows, as far as it goes.
        others: by label, of the original's frame size, such as continuations.
        known: the number of first frames.
        spec: of all of them.

    Returns:
        None for clips that cannot be looked at.
    """
    clips = {label: rgb for label, clip in {"original": original, **others}.items() if (rgb := as_shown(clip, spec)) is not None}
    if not clips:
        return None
    bordered = {label: _bordered(clip, known) for label, clip in clips.items()}
    chosen = spread(max(clip.shape[1] for clip in clips.values()))
    captions = [f"{time}, known" if index < known else time for index, time in zip(chosen, _times(chosen, spec), strict=True)]
    sheets = {label: frames(clip, [index for index in chosen if index < clip.shape[1]]) for label, clip in bordered.items()}
    rows = [ImageRow(label, sheet, () if number else captions) for number, (label, sheet) in enumerate(sheets.items())]
    grid = _grid(title, [clip[:, :MOST_FRAMES] for clip in bordered.values()], [*bordered], rows, rate=spec.rate, drawn=False)
    return replace(grid, note=f"The {known} known frames have an orange border, those that follow a gray one. {grid.note}")


def as_shown(clip: Tensor, spec: SignalSpec) -> Tensor | None:
    """(C, T, H, W) as RGB (3, T, H, W) in [0, 1], large frames smaller; None for clips that cannot be looked at."""
    values = clip.float() / (255 if clip.dtype == torch.uint8 else 1)
    rgb = as_rgb(values.transpose(0, 1), spec.replace(modality="image", rate=None))
    if rgb is None:
        return None
    longest = max(rgb.shape[-2:])
    if longest > LARGEST:
        size = [max(1, round(side * LARGEST / longest)) for side in rgb.shape[-2:]]
        rgb = F.interpolate(rgb, size=size, mode="area")
    return rgb.transpose(0, 1).cpu()


def spread(count: int) -> list[int]:
    """Up to `SHEET` frames of `count`, the first and the last among them."""
    return sorted({round(position) for position in np.linspace(0, count - 1, min(SHEET, count)).tolist()})


def frames(clip: Tensor, indices: Sequence[int]) -> list[ImageArray]:
    """Some frames of (3, T, H, W) in [0, 1]."""
    return [to_image_array(clip[:, index]) for index in indices]


def _times(indices: Sequence[int], spec: SignalSpec) -> list[str]:
    """When some frames are shown."""
    return [f"frame {index}" if spec.rate is None else f"{index / spec.rate:.2f} s" for index in indices]


def _bordered(clip: Tensor, known: int) -> Tensor:
    """(3, T, H, W) -> (3, T, H + 2 b, W + 2 b)."""
    width = max(1, round(max(clip.shape[-2:]) / 32))
    framed = F.pad(clip, (width,) * 4)
    for part, color in ((framed[:, :known], KNOWN_COLOR), (framed[:, known:], CONTINUED_COLOR)):
        for side in (part[..., :width, :], part[..., -width:, :], part[..., :width], part[..., -width:]):
            side.copy_(torch.tensor(color)[:, None, None, None].expand_as(side))
    return framed


def token_maps(tokens: Tokens | Latents, *, side: int) -> list[ImageArray]:
    """The tokens of one clip, a grid (t, h, w), as colored squares frame by frame, of several tokens at a position the first.

    Empty for latents, for tokens that are no such grid, and for samples that do not hold every token.
    """
    if isinstance(tokens, Latents) or not tokens.is_full:
        return []
    (sample,) = (group for _, group in tokens[:1].groups())
    (first, *others) = sample.layout.segments
    if others or len(first.shape) != 3:
        return []
    grid = sample.view()[0].reshape(*first.shape, -1)[..., 0].cpu().numpy()
    cell, size = max(1, side // first.shape[2]), int(sample.layout.vocab_sizes.max())
    return [token_image(grid[index], size, cell=cell) for index in spread(len(grid))]


def _grid(title: str, parts: Sequence[Tensor], labels: Sequence[str], rows: Sequence[ImageRow], *, rate: float | None, drawn: bool) -> ClipGrid:
    count, width = max(part.shape[1] for part in parts), parts[0].shape[-1]
    shown_rate = rate or RATE
    speed = f"{shown_rate:g} frames per second" + ("" if rate is not None else ", since the clips have no rate of their own")
    note = f"The animation shows {count} frames at {speed}; the contact sheet shows up to {SHEET} frames of the whole clip."
    if any(row.captions and row.captions[0].endswith("dB") for row in rows):
        note += " Decibels are the PSNR of that frame."
    return ClipGrid(
        title,
        encode_animation(animation_grid(parts, columns=len(parts)), rate=shown_rate),
        labels,
        rows,
        animation_width=len(parts) * max(width, _SMALLEST),
        width=_FRAME,
        note=f"{note} Equal tokens have equal colors." if drawn else note,
    )
