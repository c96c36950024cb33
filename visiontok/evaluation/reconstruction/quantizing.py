"""How much quality a continuous tokenizer loses by dimension-wise quantization: reconstructions before and after, at several numbers of levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.base.files import replacing
from visiontok.core.quantized_latents import to_latents, to_tokens
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import Source, Texts
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.loading import SignalLoader
from visiontok.evaluation.metrics.code_counts import CodeCounts
from visiontok.evaluation.metrics.entropy import plugin_entropy
from visiontok.evaluation.metrics.fidelity import psnr
from visiontok.evaluation.metrics.ssim import ssim
from visiontok.evaluation.run_state import ProgressCallback
from visiontok.quantizers.dimension_wise import DimensionWiseQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokens import Latents


@dataclass(frozen=True)
class OperatingPoint:
    """The results at one number of levels.

    Attributes:
        levels: per dimension; None for the continuous tokenizer.
        bits: log2(levels) for every dimension of every latent of an image; None for the continuous tokenizer.
        entropy_bits: the same with the first-order entropy of each dimension's tokens in place of log2(levels); biased low if there are few images.
        psnr: mean over the images, in dB, at 8 bits.
        ssim: mean over the images, at 8 bits.
    """

    levels: int | None
    bits: float | None
    entropy_bits: float | None
    psnr: float
    ssim: float


@torch.no_grad()
def latent_rms(
    tokenizer: Tokenizer[Any], source: Source, *, size: int, batch_size: int, progress: ProgressCallback, texts: Texts | None = None
) -> float:
    """Root mean square of the latents over all images, positions and dimensions: their scale.

    The arguments are those of `evaluate_levels`.

    Raises:
        EvaluationError: if the latents are all zero, or not finite.
    """
    count, squares = 0, 0.0
    for _, latents, _ in _encoded(tokenizer, source, size, batch_size, progress, texts):
        count, squares = count + latents.values.numel(), squares + float(latents.values.double().square().sum())
    rms = float((squares / count) ** 0.5)
    if not 0 < rms < float("inf"):
        raise EvaluationError(f"the latents have a root mean square of {rms}; they must be finite and not all zero to be quantized")
    return rms


@torch.no_grad()
def evaluate_levels(
    tokenizer: Tokenizer[Any],
    source: Source,
    *,
    levels: Sequence[int],
    latent_range: float,
    size: int,
    batch_size: int,
    progress: ProgressCallback,
    texts: Texts | None = None,
) -> list[OperatingPoint]:
    """Reconstructions of the continuous tokenizer and of its quantized forms, each decoded from token indices, on the same images.

    Args:
        tokenizer: continuous, in evaluation mode.
        source: of the images.
        levels: to be evaluated.
        latent_range: of the latents; see `DimensionWiseQuantizerConfig`.
        size: side of the squares that images become.
        batch_size: images per call of the model.
        progress: called with the images done and their number.
        texts: of the images, for tokenizers that read one; the tokenizer needs a text encoder.

    Returns:
        The continuous tokenizer first, then one point for every number of levels.
    """
    forms = [_Quantized(tokenizer, DimensionWiseQuantizerConfig(levels=count, range=latent_range)) for count in levels]
    scores = []
    for images, latents, text in _encoded(tokenizer, source, size, batch_size, progress, texts):
        scores.append(_scores(images, tokenizer.decode(latents, text=text)))
        for form in forms:
            form.update(images, latents, text)
    return [OperatingPoint(None, None, None, *_means(scores)), *(form.point() for form in forms)]


def draw_curve(points: Sequence[OperatingPoint], path: Path, *, title: str, pixels: int) -> None:
    """The rate-distortion plot, as PNG: PSNR against bits per pixel, the continuous tokenizer as a line across.

    Args:
        points: from `evaluate_levels`.
        path: of the file, which is written completely or not at all.
        title: above.
        pixels: of one image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    quantized = [point for point in points if point.levels is not None]
    for label, marker, rates in (
        ("tokens as they are, log2(levels) bits each", "o-", [point.bits for point in quantized]),
        ("entropy of each dimension's tokens", "s--", [point.entropy_bits for point in quantized]),
    ):
        axes.plot([(rate or 0.0) / pixels for rate in rates], [point.psnr for point in quantized], marker, label=label)
    for point in quantized:
        axes.annotate(str(point.levels), ((point.bits or 0.0) / pixels, point.psnr), textcoords="offset points", xytext=(0, 7), ha="center")
    axes.axhline(points[0].psnr, color="0.4", linewidth=1, linestyle=":", label="continuous latents")
    axes.set(xlabel="bits per pixel", ylabel="PSNR in dB, mean over images", title=title.replace("$", r"\$"))
    axes.margins(y=0.15)
    axes.legend(loc="lower right", frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, metadata={"Software": None})


class _Quantized:
    """One quantized form of a tokenizer, and its results."""

    def __init__(self, tokenizer: Tokenizer[Any], config: DimensionWiseQuantizerConfig) -> None:
        self._tokenizer, self._quantizer = tokenizer, config.build().to(tokenizer.device)
        self._counts: CodeCounts | None = None
        self._samples, self._bits = 0, 0.0
        self._scores: list[Tensor] = []

    def update(self, images: Tensor, latents: Latents, text: Sequence[str] | None) -> None:
        tokens = to_tokens(latents, self._quantizer)
        self._counts = self._counts or CodeCounts(tokens.layout)
        self._counts.update(tokens)
        self._samples, self._bits = self._samples + len(tokens), self._bits + float(tokens.bits.sum())
        decoded = self._tokenizer.decode(to_latents(tokens, self._tokenizer.layout, self._quantizer), text=text)
        self._scores.append(_scores(images, decoded))

    def point(self) -> OperatingPoint:
        assert self._counts is not None
        books = [book.counts for book in self._counts.compute() if not book.is_joint]
        entropy = sum(plugin_entropy(counts) * float(counts.sum()) for counts in books) / self._samples
        return OperatingPoint(self._quantizer.config.levels, self._bits / self._samples, entropy, *_means(self._scores))


def _encoded(
    tokenizer: Tokenizer[Any], source: Source, size: int, batch_size: int, progress: ProgressCallback, texts: Texts | None
) -> Iterator[tuple[Tensor, Latents, list[str] | None]]:
    """The images (B, 3, size, size) as 8-bit values, their latents, and their texts where the tokenizer reads them."""
    done = 0
    loader = SignalLoader(source, ImagePreprocessing(size=size), batch_size=batch_size)
    for _, loaded in loader.batches(0, len(source)):
        images, text = loaded.signals.values, None if texts is None else texts.of(loaded)
        latents = tokenizer.encode(images, text=text)
        assert isinstance(latents, Latents)
        yield images, latents, text
        done += len(images)
        progress(done, len(source))


def _means(scores: Sequence[Tensor]) -> list[float]:
    means: list[float] = torch.cat(list(scores)).mean(dim=0).tolist()
    return means


def _scores(images: Tensor, decoded: Tensor) -> Tensor:
    """(B, 2): PSNR and SSIM of every image."""
    reconstruction = to_uint8(decoded.float()).cpu()
    return torch.stack([psnr(images, reconstruction, data_range=255), ssim(images, reconstruction, data_range=255)], dim=1)
