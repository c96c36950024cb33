"""Pixel fidelity in a suite: MSE, PSNR, SSIM and MS-SSIM on 8-bit pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean
from visiontok.evaluation.metrics.entries.base import Batch, Measure
from visiontok.evaluation.metrics.fidelity import mse, psnr_from_mse
from visiontok.evaluation.metrics.per_sample import PerImage
from visiontok.evaluation.metrics.ssim import ms_ssim, ssim
from visiontok.evaluation.metrics.value import MetricValue

PICTURES = "8-bit RGB"


class MeanMeasure(Measure):
    """The mean over images of a number that each image has."""

    def __init__(self, name: str, function: Callable[[Tensor, Tensor], Tensor], *, better: Literal["higher", "lower"], protocol: str) -> None:
        self._table = PerImage()
        super().__init__(images=self._table)
        self._name, self._function, self._better, self._protocol = name, function, better, protocol

    def update(self, batch: Batch) -> None:
        self._table.update(batch.numbers, value=self._function(batch.reference, batch.reconstruction))

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        column = self._table.compute()["value"]
        interval = bootstrap_mean(column, bootstrap)
        return [
            MetricValue(
                name=self._name, value=float(column.mean()), better=self._better, count=len(column), interval=interval, protocol=self._protocol
            )
        ]

    def per_image(self) -> dict[str, np.ndarray]:
        return {self._name: self._table.compute()["value"]}


class PsnrMeasure(Measure):
    """PSNR in both its meanings: the mean of the images' dB, and the dB of the mean squared error over all images."""

    def __init__(self) -> None:
        self._table = PerImage()
        super().__init__(images=self._table)

    def update(self, batch: Batch) -> None:
        self._table.update(batch.numbers, mse=mse(batch.reference, batch.reconstruction))

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        errors = self._table.compute()["mse"]
        different = errors[errors > 0]
        identical = len(errors) - len(different)
        decibels, pooled = _psnr(different), errors.mean()
        pooled_interval = bootstrap_mean(errors, bootstrap)
        if pooled_interval is not None and pooled_interval.low > 0:
            # dB falls as the error grows, so the ends of the error's interval change places
            high, low = _psnr(np.asarray([pooled_interval.low, pooled_interval.high])).tolist()
            pooled_interval = pooled_interval.replace(low=low, high=high)
        else:
            pooled_interval = None
        return [
            MetricValue(
                name="psnr.mean_db",
                value=float(decibels.mean()) if len(different) else None,
                unit="dB",
                better="higher",
                count=len(errors),
                interval=bootstrap_mean(decibels, bootstrap),
                protocol=f"mean over images of 10 log10(255^2 / MSE), identical images left out and counted; {PICTURES}",
                details={"identical_images": identical},
            ),
            MetricValue(
                name="psnr.pooled",
                value=float(_psnr(pooled)) if pooled > 0 else None,
                unit="dB",
                better="higher",
                count=len(errors),
                interval=pooled_interval,
                protocol=f"10 log10(255^2 / MSE over all images); {PICTURES}",
                details={"identical_images": identical},
            ),
        ]

    def per_image(self) -> dict[str, np.ndarray]:
        return {"psnr.mean_db": _psnr(self._table.compute()["mse"])}


def mse_measure() -> Measure:
    """MSE on the [0, 1] scale."""
    return MeanMeasure("mse", lambda a, b: mse(a, b) / 255**2, better="lower", protocol=f"mean over images, values in [0, 1]; {PICTURES}")


def ssim_measure() -> Measure:
    """Canonical SSIM."""
    protocol = f"mean over images; Gaussian window 11 x 11, sigma 1.5, whole windows only, mean over RGB; {PICTURES}"
    return MeanMeasure("ssim", lambda a, b: ssim(a, b, data_range=255), better="higher", protocol=protocol)


def ms_ssim_measure() -> Measure:
    """Multi-scale SSIM; pictures need more than 160 pixels a side."""
    protocol = f"mean over images; five scales, Gaussian window 11 x 11, sigma 1.5, whole windows only, mean over RGB; {PICTURES}"
    return MeanMeasure("ms_ssim", lambda a, b: ms_ssim(a, b, data_range=255), better="higher", protocol=protocol)


def _psnr(errors: np.ndarray) -> np.ndarray:
    return psnr_from_mse(torch.from_numpy(np.asarray(errors)), data_range=255).numpy()
