"""What `visiontok reconstruct` makes of one file: reconstructions from several numbers of codebook levels, numbers on them, and files to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontok.base.errors import SignalError
from visiontok.cli.clips import ClipFile
from visiontok.cli.output import save_signal

if TYPE_CHECKING:
    from torch import Tensor

    from visiontok.core.tokenizer import Tokenizer
    from visiontok.signals import SignalBatch
    from visiontok.signals.writing import SignalWriter
    from visiontok.tokens import Latents, Tokens


@dataclass(frozen=True)
class Comparison:
    """A signal and its reconstructions.

    Attributes:
        original: (C, *axes); of a long clip, its beginning.
        decoded: from each number of levels.
        tokens: of the original, a batch of one, all levels.
        facts: what the table says of each reconstruction, by column.
        rate: of the signal, in samples or frames per second; None where it has none.
    """

    original: Tensor
    decoded: Sequence[Tensor]
    tokens: Tokens | Latents
    facts: Sequence[dict[str, str]]
    rate: float | None


def compare(prepared: SignalBatch, tokenizer: Tokenizer[Any], counts: Sequence[int | None], writer: SignalWriter, *, text: str | None) -> Comparison:
    """Reconstruct a batch of one signal from these numbers of codebook levels; None for all."""
    from visiontok.evaluation.metrics.one_number import one_number_of

    spec, number = tokenizer.spec, one_number_of(tokenizer.spec)
    tokens = tokenizer.encode(prepared, text=text)
    original = tokenizer.target_of(prepared.values)[0].float()
    decoded, facts = [], []
    for count in counts:
        kept = tokens if count is None else tokens.levels(count)
        signal = tokenizer.decode(kept, text=text)[0].float()
        decoded.append(signal)
        quality = None if number is None or original.shape != signal.shape else number.of(writer.stored(original), writer.stored(signal))
        seconds = None if spec.rate is None else signal.shape[1] / spec.rate
        facts.append(_facts(None if number is None else number.name, quality, [kept], seconds))
    return Comparison(original, decoded, tokens, facts, spec.rate)


def save_comparison(comparison: Comparison, path: Path, counts: Sequence[int | None], writer: SignalWriter) -> None:
    """Side by side in one file, or the reconstructions in one file each."""
    if writer.side_by_side is not None:
        save_signal(writer.side_by_side([comparison.original, *comparison.decoded]), path, writer)
        return
    for count, signal in zip(counts, comparison.decoded, strict=True):
        save_signal(signal, path if count is None else path.with_name(f"{path.stem}-{count}{path.suffix}"), writer)


def compare_clip(
    clip: ClipFile, source: Path, path: Path, tokenizer: Tokenizer[Any], counts: Sequence[int | None], writer: SignalWriter
) -> Comparison:
    """Reconstruct a clip in parts, and write them side by side as mp4, with the sound of the file, as they are made.

    Raises:
        SignalError: if the file cannot be read, or the network takes no clips of this size.
    """
    import torch

    from visiontok.evaluation.metrics.fidelity import psnr_from_mse
    from visiontok.signals.video_writing import with_even_sides, writing_video

    parts = clip.reconstructed(counts)
    first = next(parts, None)
    if first is None:
        raise SignalError(f"{source} holds no frame")
    errors, values, frames = torch.zeros(len(counts), dtype=torch.float64), 0, 0
    tokens: list[Tokens | Latents] = []
    with writing_video(path, rate=clip.rate, sound=source, start=clip.start) as file:
        for part in chain([first], parts):
            file.write(with_even_sides(torch.cat([part.original, *part.decoded], dim=3)), part.times)
            original = writer.stored(part.original).double()
            errors += torch.stack([(original - writer.stored(decoded).double()).square().sum().cpu() for decoded in part.decoded])
            values += original.numel()
            frames += original.shape[1]
            tokens += [each.to("cpu") for each in part.tokens]
    qualities = psnr_from_mse(errors / values, data_range=1.0).tolist()
    seconds = frames / clip.rate
    facts = [
        _facts("PSNR", quality, tokens if count is None else [each.levels(count) for each in tokens], seconds)
        for count, quality in zip(counts, qualities, strict=True)
    ]
    return Comparison(first.original, first.decoded, first.tokens[0], facts, clip.rate)


def _facts(number: str | None, quality: float | None, tokens: Iterable[Tokens | Latents], seconds: float | None) -> dict[str, str]:
    """What the table says of one reconstruction, by column; the tokens are of one signal, perhaps in parts."""
    from visiontok.tokens import Latents

    parts = list(tokens)
    bits = None if isinstance(parts[0], Latents) else sum(float(part.bits[0]) for part in parts if not isinstance(part, Latents))
    facts = {} if number is None else {f"{number} (dB)": "-" if quality is None else f"{quality:.2f}"}
    facts |= {"tokens": str(sum(part.layout.length for part in parts)), "bits": "-" if bits is None else f"{bits:g}"}
    if seconds is not None:
        facts["kbit/s"] = "-" if bits is None else f"{bits / seconds / 1000:.3g}"
    return facts
