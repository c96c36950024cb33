"""Fidelity of single reconstructions of sound: distances of spectra, SI-SDR, intelligibility and quality of speech, pitch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from visiontok.base.optional import import_optional
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, SampleMetric, Subject, Table, Value, no_reason
from visiontok.evaluation.metrics.pitch import pitch_agreement
from visiontok.evaluation.metrics.sound_distances import SHORTEST, mel_distance, si_sdr, stft_distance
from visiontok.evaluation.metrics.speech_quality import PESQ_RATES, PesqBand, estoi, pesq, stoi, visqol
from visiontok.layers.pitch import HIGHEST, LOWEST
from visiontok.signals.batch import cropped

Pairwise = Callable[[Tensor, Tensor, int], Mapping[str, Tensor]]
"""(reference, samples), each (n, C, T) of one length, and their rate in Hz -> columns (n,), NaN where there is no number."""


def _metric(
    name: str,
    values: Mapping[str, tuple[Value, str]],
    function: Pairwise,
    *,
    undefined: str,
    shortest: int = 1,
    package: tuple[str, str] | None = None,
    unavailable: Callable[[Subject], str | None] = no_reason,
) -> SampleMetric:
    """A metric of pairs of sounds, each at its exact length.

    Args:
        name: of the metric.
        values: key, which is also the column -> the value, and how it is computed.
        function: gives the columns.
        undefined: the recordings that have no number, in words: "of fewer than 1025 samples".
        shortest: samples of recordings that have one.
        package: that it needs, and the extra that installs it.
        unavailable: a further reason why it does not apply.
    """

    def prepare(subject: Subject) -> None:
        if package is not None:
            import_optional(package[0], extra=package[1])

    def compute(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
        reference, samples = batch.pairs
        found = {key: torch.full((len(reference),), torch.nan, dtype=torch.float64) for key in values}
        for rows, originals in reference.groups():
            if originals.shape[-1] >= shortest:
                others = cropped(samples.values[rows.to(samples.values.device)], originals.shape[2:])
                for key, column in function(originals, others, _rate(subject)).items():
                    found[key][rows] = column.cpu()
        return found

    def aggregate(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
        return [_mean(key, table[key], f"{how}; {subject.scale}, {_rate(subject)} Hz", undefined, bootstrap) for key, (_, how) in values.items()]

    return SampleMetric(
        name=name,
        values={key: value for key, (value, _) in values.items()},
        needs=("decoder", "sound"),
        unavailable=unavailable,
        prepare=prepare,
        compute=compute,
        aggregate=aggregate,
    )


def _mean(key: str, column: np.ndarray, how: str, undefined: str, bootstrap: BootstrapConfig) -> Aggregate:
    """Over the recordings that have a number; those without one, and those with an infinite one, which are identical, are counted."""
    known = column[np.isfinite(column)]
    identical = int(np.isposinf(column).sum())
    counts: dict[str, JsonValue] = {"undefined_samples": len(column) - len(known) - identical, "identical_samples": identical}
    return Aggregate(
        key=key,
        value=float(known.mean()) if len(known) else None,
        no_value="" if len(known) else f"there are only recordings {undefined}",
        count=len(known),
        protocol=f"mean over recordings, without those {undefined}, which are counted; {how}",
        interval=bootstrap_mean(known, bootstrap),
        details={name: count for name, count in counts.items() if count},
        per_sample=column,
    )


def _rate(subject: Subject) -> int:
    assert subject.spec.rate is not None
    return round(subject.spec.rate)


def _pesq(band: PesqBand, title: str, standard: str) -> SampleMetric:
    own, key = PESQ_RATES[band], f"pesq.{band}"

    def why_unavailable(subject: Subject) -> str | None:
        return None if _rate(subject) >= own else f"it is defined from {own} Hz, and these sounds have {_rate(subject)} Hz"

    return _metric(
        key,
        {key: (Value(title, better="higher"), f"{standard} by the package pesq, at {own} Hz, resampled by soxr; mean over channels")},
        lambda reference, samples, rate: {key: pesq(reference, samples, rate=rate, band=band)},
        undefined="of which one side is silent or without speech, or of less than 0.25 s",
        package=("pesq", "audio-quality"),
        unavailable=why_unavailable,
    )


STFT_DISTANCE = _metric(
    "stft_distance",
    {
        "stft_distance": (
            Value("Multi-resolution STFT distance", better="lower"),
            "spectral convergence plus L1 of log magnitudes, mean over FFTs of 512, 1024 and 2048 and over channels",
        )
    },
    lambda reference, samples, rate: {"stft_distance": stft_distance(reference, samples)},
    undefined=f"with a silent original or of fewer than {SHORTEST} samples",
    shortest=SHORTEST,
)
MEL_DISTANCE = _metric(
    "mel_distance",
    {
        "mel_distance": (
            Value("Multi-scale mel distance", better="lower"),
            "L1 of log10 mel magnitudes, mean over channels, summed over windows of 32 to 2048 samples with 5 to 320 bands",
        )
    },
    lambda reference, samples, rate: {"mel_distance": mel_distance(reference, samples, rate=rate)},
    undefined=f"of fewer than {SHORTEST} samples",
    shortest=SHORTEST,
)
SI_SDR = _metric(
    "si_sdr",
    {
        "si_sdr": (
            Value("SI-SDR", unit="dB", better="higher"),
            "projection on the original over the rest, one scale for all channels, no mean removed",
        )
    },
    lambda reference, samples, rate: {"si_sdr": si_sdr(reference, samples)},
    undefined="of which one side is silent, or identical with their originals",
)
STOI = _metric(
    "stoi",
    {
        "stoi": (Value("STOI", better="higher"), "by pystoi, which resamples to 10 kHz; mean over channels"),
        "estoi": (Value("ESTOI", better="higher"), "extended STOI by pystoi, which resamples to 10 kHz; mean over channels"),
    },
    lambda reference, samples, rate: {"stoi": stoi(reference, samples, rate=rate), "estoi": estoi(reference, samples, rate=rate)},
    undefined="with a silent original or with less than 0.4 s of speech",
    package=("pystoi", "metrics"),
)
PESQ = (
    _pesq("wb", "PESQ, wideband", "ITU-T P.862.2"),
    _pesq("nb", "PESQ, narrowband", "ITU-T P.862 with the mapping of P.862.1"),
)
VISQOL = _metric(
    "visqol",
    {"visqol": (Value("ViSQOL, audio mode", better="higher"), "by visqol-python, at 48 kHz, resampled by soxr; of the mean of the channels")},
    lambda reference, samples, rate: {"visqol": visqol(reference, samples, rate=rate)},
    undefined="of which one side is silent, or of less than 1 s",
    package=("visqol", "audio-quality"),
)


def _pitch(reference: Tensor, samples: Tensor, rate: int) -> Mapping[str, Tensor]:
    found = pitch_agreement(reference, samples, rate=rate)
    return {"f0.correlation": found.correlation, "f0.voicing": found.voicing}


_YIN = f"YIN between {LOWEST:g} and {HIGHEST:g} Hz, threshold 0.1, windows of 25 ms every 10 ms, mean of the channels"

F0 = _metric(
    "f0",
    {
        "f0.correlation": (Value("F0 correlation", better="higher"), f"Pearson's correlation over the frames that are voiced in both; {_YIN}"),
        "f0.voicing": (Value("F0 voicing agreement", better="higher"), f"share of frames that are voiced in both or in neither; {_YIN}"),
    },
    _pitch,
    undefined="of a steady pitch or of none",
    unavailable=lambda subject: None if _rate(subject) >= 4 * HIGHEST else f"it needs sound of at least {4 * HIGHEST:g} Hz",
)
