"""The one number by which a single reconstruction is commonly described: PSNR, or of sound SI-SDR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from visiontok.evaluation.metrics.fidelity import psnr_from_mse
from visiontok.evaluation.metrics.sound_distances import si_sdr
from visiontok.signals import SignalSpec


@dataclass(frozen=True)
class OneNumber:
    """A number in dB, higher is better.

    Attributes:
        name: as papers write it.
        of: an original and its reconstruction (C, *axes) of one size -> the number; NaN where it is not defined.
    """

    name: str
    of: Callable[[Tensor, Tensor], float]


def one_number_of(spec: SignalSpec) -> OneNumber | None:
    """For such signals; None where their range is not bounded."""
    peak = spec.peak
    if spec.modality == "audio":
        return OneNumber("SI-SDR", lambda original, decoded: float(si_sdr(original[None], decoded[None])))
    if peak is None:
        return None
    return OneNumber("PSNR", lambda original, decoded: float(psnr_from_mse((original.double() - decoded.double()).square().mean(), data_range=peak)))
