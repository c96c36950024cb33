"""Perceptual distances of single reconstructions: LPIPS and DISTS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn

from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.entries.fidelity import frame_means, frames_in_words, sample_mean
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, SampleMetric, Subject, Table, Value
from visiontok.evaluation.metrics.perceptual import dists_network, lpips_network
from visiontok.losses.perceptual import LpipsNet


def _compute(load: Callable[[], tuple[nn.Module, str]], smallest_side: int) -> Callable[[EvaluatedBatch, Subject], Mapping[str, Tensor]]:
    @torch.no_grad()
    def compute(batch: EvaluatedBatch, subject: Subject) -> Mapping[str, Tensor]:
        distance = load()[0].to(subject.device)

        def of_images(reference: Tensor, samples: Tensor) -> Tensor:
            first, second = (images.to(subject.device).float() / (255 if images.dtype == torch.uint8 else 1) for images in (reference, samples))
            return distance(first, second).cpu().double()

        return {"value": batch.each(frame_means(of_images), smallest_side=smallest_side)}

    return compute


def _mean(key: str, load: Callable[[], tuple[nn.Module, str]], how: str) -> Callable[[Table, Subject, BootstrapConfig], list[Aggregate]]:
    def aggregate(table: Table, subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
        return sample_mean(key, table, f"{frames_in_words(subject)}; {how.format(digest=load()[1][:12])}; {subject.scale}", bootstrap)

    return aggregate


def _metric(name: str, title: str, load: Callable[[], tuple[nn.Module, str]], how: str, *, smallest_side: int = 1) -> SampleMetric:
    """A distance by a network.

    Raises:
        CheckpointError: when it is prepared, if the weights are missing (says how to get them) or another network's.
        ConfigError: if the package `lpips` is not installed.
    """

    def prepare(subject: Subject) -> None:
        load()

    return SampleMetric(
        name=name,
        values={name: Value(title, better="lower")},
        needs=("decoder", "frames", "RGB"),
        prepare=prepare,
        smallest_side=smallest_side,
        compute=_compute(load, smallest_side),
        aggregate=_mean(name, load, how),
    )


SMALLEST_SIDES: dict[LpipsNet, int] = {"alex": 31, "vgg": 16, "squeeze": 17}
"""Pixels of a side of which the poolings of a backbone leave one."""

LPIPS = tuple(
    _metric(
        f"lpips.{net}",
        f"LPIPS ({net})",
        partial(lpips_network, net),
        f"LPIPS 0.1 on {net}, backbone {{digest}}, images as given, [-1, 1] inside",
        smallest_side=SMALLEST_SIDES[net],
    )
    for net in get_args(LpipsNet)
)
"""One for each backbone; the values of two backbones do not compare."""

DISTS = _metric("dists", "DISTS", dists_network, "DISTS on VGG-16, backbone {digest}, images as given")
