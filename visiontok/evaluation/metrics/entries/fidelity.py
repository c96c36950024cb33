"""Fidelity of single reconstructions: MSE, PSNR, SSIM and MS-SSIM."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.fidelity import mse, psnr_from_mse
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, SampleMetric, Subject, Table, Value
from visiontok.evaluation.metrics.ssim import SMALLEST_MULTI_SCALE, WINDOW, ms_ssim, ssim

Pairwise = Callable[[Tensor, Tensor], Tensor]
"""(reference, samples), each (n, C, *axes) -> (n,)."""


def sample_mean(key: str, table: Table, protocol: str, bootstrap: BootstrapConfig) -> list[Aggregate]:
    """The mean of the column "value" over all samples but those that were too small for it, which are NaN."""
    column = table["value"]
    known = column[~np.isnan(column)]
    small = len(column) - len(known)
    return [
        Aggregate(
            key=key,
            value=float(known.mean()) if len(known) else None,
            no_value="" if len(known) else "all samples are too small for it",
            count=len(known),
            protocol=protocol,
            interval=bootstrap_mean(known, bootstrap),
            details={"too_small_samples": small} if small else {},
            per_sample=column,
        )
    ]


def frame_means(function: Pairwise) -> Pairwise:
    """A function of images (n, C, H, W), for clips too: the mean over the frames of a clip."""

    def of_frames(reference: Tensor, samples: Tensor) -> Tensor:
        if reference.ndim == 4:
            return function(reference, samples)
        frames = [side.transpose(1, 2).flatten(0, 1) for side in (reference, samples)]
        return function(*frames).unflatten(0, (len(reference), -1)).mean(dim=1)

    return of_frames


def frames_in_words(subject: Subject) -> str:
    """Part of protocols."""
    return "mean over the frames of a clip and over clips" if subject.spec.modality == "video" else f"mean over {subject.samples_word}"


def _errors(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    return {"value": batch.each(mse)}


def _errors_of_frames(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
    """For PSNR: of clips also the sum of the dB of frames that differ from the original's, and how many do."""
    if subject.spec.modality != "video":
        return _errors(batch, subject)

    def of_frames(reference: Tensor, samples: Tensor) -> Tensor:
        return mse(*(clips.transpose(1, 2).flatten(0, 1) for clips in (reference, samples))).unflatten(0, (len(reference), -1))

    def decibels(reference: Tensor, samples: Tensor) -> Tensor:
        errors = of_frames(reference, samples)
        return torch.where(errors > 0, psnr_from_mse(errors, data_range=subject.peak), 0.0).sum(dim=1)

    def differing(reference: Tensor, samples: Tensor) -> Tensor:
        return (of_frames(reference, samples) > 0).sum(dim=1)

    return {**_errors(batch, subject), "decibels": batch.each(decibels), "differing_frames": batch.each(differing)}


def _mse(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    if subject.is_8bit:
        return sample_mean("mse", {"value": table["value"] / 255**2}, "mean over images, values in [0, 1]; 8-bit RGB", bootstrap)
    return sample_mean("mse", table, f"mean over {subject.samples_word}; {subject.scale}", bootstrap)


def _decibels(errors: np.ndarray, subject: Subject) -> np.ndarray:
    return psnr_from_mse(torch.from_numpy(np.asarray(errors)), data_range=subject.peak).numpy()


def _psnr(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    """PSNR in all its meanings: means of the dB of samples, and of frames of clips, and the dB of the mean squared error over all samples."""
    errors = table["value"]
    different = errors[errors > 0]
    decibels, pooled = _decibels(different, subject), errors.mean()
    pooled_interval = bootstrap_mean(errors, bootstrap)
    if pooled_interval is not None and pooled_interval.low > 0:
        # dB falls as the error grows, so the ends of the error's interval are exchanged
        high, low = _decibels(np.asarray([pooled_interval.low, pooled_interval.high]), subject).tolist()
        pooled_interval = pooled_interval.replace(low=low, high=high)
    else:
        pooled_interval = None
    identical, words = len(errors) - len(different), subject.samples_word
    return [
        Aggregate(
            key="psnr.mean_db",
            value=float(decibels.mean()) if len(different) else None,
            no_value="" if len(different) else f"all {words} are identical with their originals",
            count=len(errors),
            interval=bootstrap_mean(decibels, bootstrap),
            protocol=f"mean over {words} of 10 log10({subject.peak:g}^2 / MSE), identical {words} ignored and counted; {subject.scale}",
            details={f"identical_{words}": identical},
            per_sample=_decibels(errors, subject),
        ),
        Aggregate(
            key="psnr.pooled",
            value=float(_decibels(pooled, subject)) if pooled > 0 else None,
            no_value="" if pooled > 0 else f"all {words} are identical with their originals",
            count=len(errors),
            interval=pooled_interval,
            protocol=f"10 log10({subject.peak:g}^2 / MSE over all {words}); {subject.scale}",
            details={f"identical_{words}": identical},
        ),
        *([_psnr_of_frames(table, subject, bootstrap)] if "decibels" in table else []),
    ]


def _psnr_of_frames(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> Aggregate:
    counts = table["differing_frames"]
    column = np.divide(table["decibels"], counts, out=np.full(len(counts), np.nan), where=counts > 0)
    known = column[counts > 0]
    return Aggregate(
        key="psnr.frames",
        value=float(known.mean()) if len(known) else None,
        no_value="" if len(known) else "all clips are identical with their originals",
        count=len(column),
        interval=bootstrap_mean(known, bootstrap),
        protocol=f"mean over the frames of a clip, then over clips, of 10 log10({subject.peak:g}^2 / MSE), without identical frames; {subject.scale}",
        details={"identical_clips": len(column) - len(known)},
        per_sample=column,
    )


def _similarity(function: Callable[..., Tensor], smallest_side: int) -> Callable[[EvaluatedBatch, Subject], Mapping[str, Tensor]]:
    def compute(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
        return {"value": batch.each(frame_means(lambda a, b: function(a, b, data_range=subject.peak)), smallest_side=smallest_side)}

    return compute


def _similarity_mean(key: str, how: str) -> Callable[[Table, Subject, BootstrapConfig], list[Aggregate]]:
    def aggregate(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
        channels = "mean over RGB" if subject.spec.is_rgb else "mean over channels"
        return sample_mean(key, table, f"{frames_in_words(subject)}; {how}, {channels}; {subject.scale}", bootstrap)

    return aggregate


MSE = SampleMetric(name="mse", values={"mse": Value("MSE", better="lower")}, needs=("decoder",), compute=_errors, aggregate=_mse)
PSNR = SampleMetric(
    name="psnr",
    values={
        "psnr.mean_db": Value("PSNR", unit="dB", better="higher"),
        "psnr.pooled": Value("PSNR of the pooled error", unit="dB", better="higher"),
        "psnr.frames": Value("PSNR, mean over frames", unit="dB", better="higher"),
    },
    needs=("decoder", "bounded values"),
    compute=_errors_of_frames,
    aggregate=_psnr,
)
SSIM = SampleMetric(
    name="ssim",
    values={"ssim": Value("SSIM", better="higher")},
    needs=("decoder", "bounded values", "frames"),
    smallest_side=WINDOW,
    compute=_similarity(ssim, WINDOW),
    aggregate=_similarity_mean("ssim", "Gaussian window 11 x 11, sigma 1.5, whole windows only"),
)
MS_SSIM = SampleMetric(
    name="ms_ssim",
    values={"ms_ssim": Value("MS-SSIM", better="higher")},
    needs=("decoder", "bounded values", "frames"),
    smallest_side=SMALLEST_MULTI_SCALE,
    compute=_similarity(ms_ssim, SMALLEST_MULTI_SCALE),
    aggregate=_similarity_mean("ms_ssim", "five scales, Gaussian window 11 x 11, sigma 1.5, whole windows only"),
)
