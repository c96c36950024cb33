"""What the demo has to reach, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visiontok.demo.digits import Digits
from visiontok.demo.photographs import Photographs
from visiontok.evaluation import Result


@dataclass(frozen=True)
class Bar:
    """One number beside what it has to be.

    Attributes:
        name: what was measured.
        value: as measured.
        bound: what it has to reach, or not to exceed.
        direction: "at least" or "at most".
        unit: "dB", "bits", "points"; "%" for shares, which are kept in percent.
        protocol: how it was measured, in words.
    """

    name: str
    value: float
    bound: float
    direction: Literal["at least", "at most"]
    unit: str
    protocol: str

    @property
    def reached(self) -> bool:
        """Whether the number is on the right side; one that is not a number is not."""
        return self.value >= self.bound if self.direction == "at least" else self.value <= self.bound

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Name, value, bound and outcome, for a table."""
        return self.name, f"{self.value:.4g} {self.unit}", f"{self.direction} {self.bound:g} {self.unit}", "reached" if self.reached else "missed"


def bars_of(digits: Digits, photographs: Photographs) -> tuple[Bar, ...]:
    """The bars of a finished demo."""
    held_out, drawn = digits.reconstruction, digits.generation
    classifier = "[digit-classifier]"
    originals, decoded = (_number(held_out, f"accuracy{classifier}.{side}") for side in ("originals", "reconstructions"))
    asked = _number(drawn, f"conditional_accuracy{classifier}")
    counts = f"{held_out.data.in_words}, held-out digits"
    side = photographs.originals.shape[-1]
    return (
        Bar("PSNR of held-out digits", _number(held_out, "psnr.mean_db"), 18, "at least", "dB", f"mean over {counts}, 8-bit RGB"),
        Bar("size of a digit", _number(held_out, "bits_per_sample.nominal"), 128, "at most", "bits", "sum of log2 K over its tokens"),
        Bar("codebook in use", 100 * _number(held_out, "codebook.usage"), 60, "at least", "%", f"codes that occur in the tokens of {counts}"),
        Bar(
            "accuracy lost in reconstruction",
            100 * (originals - decoded),
            5,
            "at most",
            "points",
            f"a scikit-learn classifier trained on real digits names {originals:.1%} of the originals and {decoded:.1%} of their reconstructions",
        ),
        Bar(
            "generated digits that show the class asked for",
            100 * asked,
            85,
            "at least",
            "%",
            f"share of {drawn.value(f'conditional_accuracy{classifier}').count} generated digits to which the same classifier gives that class",
        ),
        Bar(
            "PSNR of held-out photographs",
            sum(photographs.psnr) / len(photographs.psnr),
            23,
            "at least",
            "dB",
            f"mean over {', '.join(photographs.names)}, shorter side resized to {side} pixels and the centre cut out, 8-bit RGB",
        ),
    )


def _number(result: Result, name: str) -> float:
    value = result.value(name).value
    return float("nan") if value is None else value
