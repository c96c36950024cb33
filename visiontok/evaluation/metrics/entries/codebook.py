"""The tokens in a suite: how the codebooks are used, how many tokens and bits an image costs."""

from __future__ import annotations

import numpy as np

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.code_counts import CodeCounts, CodeUse
from visiontok.evaluation.metrics.codebook import perplexity
from visiontok.evaluation.metrics.entries.base import Batch, Measure
from visiontok.evaluation.metrics.entropy import miller_madow_entropy, plugin_entropy
from visiontok.evaluation.metrics.per_sample import PerImage
from visiontok.evaluation.metrics.rates import entropy_bits
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.tokens import TokenLayout, Tokens


class CodebookMeasure(Measure):
    """Usage, perplexity and entropy of every codebook, and of all codebooks of a position together where that can be counted."""

    def __init__(self, layout: TokenLayout) -> None:
        self._counts = CodeCounts(layout)
        super().__init__(codes=self._counts)

    def update(self, batch: Batch) -> None:
        self._counts.update(_ids(batch))

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        uses = [use for use in self._counts.compute() if use.counts.any()]  # ragged samples may hold no id of some codebook
        single = [use for use in uses if not use.is_joint]
        count = single[0].samples
        coded = MetricValue(
            name="bits_per_image.entropy",
            value=entropy_bits([use.counts for use in single], [use.counts.sum() / count for use in single]),
            unit="bits",
            better="lower",
            count=count,
            protocol="an image's ids at the plug-in entropy of their codebook over all images measured, neighbours ignored",
        )
        return [*(value for use in uses for value in _use(use, None if len(uses) == 1 else use.name)), coded]

    def code_counts(self) -> dict[str, np.ndarray]:
        return {use.name: use.counts for use in self._counts.compute() if not use.is_joint}


class RateMeasure(Measure):
    """Tokens per image and their nominal bits, log2 K for each id."""

    def __init__(self) -> None:
        self._table = PerImage()
        super().__init__(images=self._table)

    def update(self, batch: Batch) -> None:
        tokens = _ids(batch)
        pixels = batch.reference.shape[-2] * batch.reference.shape[-1]
        self._table.update(batch.numbers, tokens=tokens.sample_lengths.double(), bits=tokens.bits, bits_per_pixel=tokens.bits / pixels)

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        table = self._table.compute()
        return [
            MetricValue(
                name=name,
                value=float(column.mean()),
                unit=unit,
                better="lower",
                count=len(column),
                interval=bootstrap_mean(column, bootstrap) if np.ptp(column) else None,  # a fixed length has nothing to resample
                protocol=protocol,
                details={"min": float(column.min()), "max": float(column.max())},
            )
            for name, unit, column, protocol in (
                ("tokens_per_image", "", table["tokens"], "ids that an image is stored as, mean over images"),
                ("bits_per_image.nominal", "bits", table["bits"], "sum of log2 K over an image's ids, mean over images"),
                ("bits_per_pixel.nominal", "bits", table["bits_per_pixel"], "sum of log2 K over an image's ids, over its pixels, mean over images"),
            )
        ]

    def per_image(self) -> dict[str, np.ndarray]:
        table = self._table.compute()
        return {"tokens_per_image": table["tokens"], "bits_per_image.nominal": table["bits"], "bits_per_pixel.nominal": table["bits_per_pixel"]}


def _use(use: CodeUse, part: str | None) -> list[MetricValue]:
    used, total = int((use.counts > 0).sum()), int(use.counts.sum())
    scope = "over all ids of the images measured"
    return [
        MetricValue(
            name=name,
            part=part,
            value=value,
            unit=unit,
            better="higher",
            count=use.samples,
            protocol=protocol,
            details={"vocab_size": use.vocab_size, "tokens": total, "used_codes": used},
        )
        for name, value, unit, protocol in (
            ("codebook.usage", used / use.vocab_size, "", f"share of the codebook's ids that occur {scope}"),
            ("codebook.perplexity", perplexity(use.counts), "", f"2^H with the plug-in entropy {scope}, not a mean over batches"),
            ("codebook.entropy.plugin", plugin_entropy(use.counts), "bits", f"-sum p log2 p {scope}"),
            ("codebook.entropy.miller_madow", miller_madow_entropy(use.counts), "bits", f"plug-in plus (used codes - 1) / (2 n ln 2), {scope}"),
        )
    ]


def _ids(batch: Batch) -> Tokens:
    if not isinstance(batch.tokens, Tokens):
        raise EvaluationError("continuous latents have no ids to count")
    return batch.tokens
