"""The metrics of a demo that have a target, and whether they reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visiontok.demo.digits import Digits
from visiontok.demo.photographs import Photographs
from visiontok.evaluation import Result


@dataclass(frozen=True)
class DemoTarget:
    """A metric and its threshold.

    Attributes:
        name: what the metric says.
        value: of this run.
        threshold: lowest or highest value that reaches the target.
        direction: "at least" or "at most".
        unit: "dB", "bits", "points"; "%" for shares, whose values are percentages.
        protocol: how the metric is computed, in words.
    """

    name: str
    value: float
    threshold: float
    direction: Literal["at least", "at most"]
    unit: str
    protocol: str

    @property
    def reached(self) -> bool:
        """Whether the value is on the right side of the threshold; never for NaN."""
        return self.value >= self.threshold if self.direction == "at least" else self.value <= self.threshold

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Name, value, target and outcome, for a table."""
        return self.name, f"{self.value:.4g} {self.unit}", f"{self.direction} {self.threshold:g} {self.unit}", "reached" if self.reached else "missed"


def targets_of(digits: Digits, photographs: Photographs) -> tuple[DemoTarget, ...]:
    """The targets of a demo with their values."""
    held_out, generated = digits.reconstruction, digits.generation
    classifier = "[digit-classifier]"
    originals, decoded = (_number(held_out, f"accuracy{classifier}.{side}") for side in ("originals", "reconstructions"))
    accuracy = f"conditional_accuracy{classifier}"
    samples = f"held-out digits ({held_out.data.in_words})"
    side = photographs.originals.shape[-1]
    return (
        DemoTarget("PSNR of held-out digits", _number(held_out, "psnr.mean_db"), 18, "at least", "dB", f"mean over {samples}, 8-bit RGB"),
        DemoTarget(
            "bits per digit", _number(held_out, "bits_per_sample.nominal"), 128, "at most", "bits", "sum of log2 K over the tokens of a digit"
        ),
        DemoTarget("codebook usage", 100 * _number(held_out, "codebook.usage"), 60, "at least", "%", f"codes that occur in the tokens of {samples}"),
        DemoTarget(
            "classifier accuracy lost in reconstruction",
            100 * (originals - decoded),
            5,
            "at most",
            "points",
            f"a scikit-learn classifier trained on real digits is right on {originals:.1%} of the originals and {decoded:.1%} of the reconstructions",
        ),
        DemoTarget(
            "conditional accuracy of generated digits",
            100 * _number(generated, accuracy),
            85,
            "at least",
            "%",
            f"share of {generated.value(accuracy).count} generated digits to which that classifier assigns the class they are conditioned on",
        ),
        DemoTarget(
            "PSNR of held-out photographs",
            sum(photographs.psnr) / len(photographs.psnr),
            23,
            "at least",
            "dB",
            f"mean over {', '.join(photographs.names)}; shorter side resized to {side} pixels, center crop, 8-bit RGB",
        ),
    )


def _number(result: Result, name: str) -> float:
    value = result.value(name).value
    return float("nan") if value is None else value
