"""Quality per token and per bit, and TokDense, computed from the values of the other metrics of a suite."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.density import quality_density, tokdense, token_ratio
from visiontok.evaluation.metrics.metric import Computed, DerivedMetric, Subject, Value
from visiontok.evaluation.metrics.value import MetricValue

_QUALITIES = {"psnr.mean_db": "higher", "ssim": "higher", "ms_ssim": "higher"}
_COSTS = {
    "token": "tokens_per_sample",
    "bit.nominal": "bits_per_sample.nominal",
    "bit.entropy": "bits_per_sample.entropy",
    "bit.ar": "bits_per_sample.ar",
}
_UNITS = {"token": "token", "bit.nominal": "nominal bit", "bit.entropy": "bit at the entropy", "bit.ar": "bit under the prior"}
_ACCURACIES = re.compile(r"accuracy\[(.+)\]\.reconstructions|(linear_probe|nearest_neighbors)")


def _densities(metric: DerivedMetric, computed: Computed, subject: Subject, bootstrap: BootstrapConfig) -> list[MetricValue]:
    found = []
    for quality in computed.values:
        is_distance = quality.metric == "frechet"
        if quality.part is not None or quality.value is None or not (is_distance or quality.name in _QUALITIES):
            continue
        for unit, name in _COSTS.items():
            cost = computed.by_name.get(name)
            if cost is None or not cost.value:
                continue
            found.append(_density(metric, quality, cost, unit, computed.per_sample, better="neither" if is_distance else "higher"))
    return found


def _density(
    metric: DerivedMetric, quality: MetricValue, cost: MetricValue, unit: str, per_sample: Mapping[str, np.ndarray], *, better: str
) -> MetricValue:
    """The mean quality over the mean cost; its interval is the quality's where every sample costs the same."""
    assert quality.value is not None
    assert cost.value is not None
    fixed = cost.name not in per_sample or np.ptp(per_sample[cost.name]) == 0
    interval = None
    if fixed and quality.interval is not None:
        interval = quality.interval.replace(low=quality.interval.low / cost.value, high=quality.interval.high / cost.value)
    return MetricValue(
        metric=metric.name,
        version=metric.version,
        name=f"{quality.name}.per_{unit}",
        title=f"{quality.title} per {_UNITS[unit]}",
        value=quality_density(quality.value, cost.value),
        unit=f"{quality.unit} / {unit.partition('.')[0]}".strip(" /") if quality.unit else "",
        better="higher" if better == "higher" else "neither",
        count=quality.count,
        interval=interval,
        no_interval="" if interval is not None else quality.no_interval or "a ratio of two means",
        protocol=f"{quality.name} over {cost.name}, a ratio of means; {quality.protocol}",
        details={"quality": quality.value, "cost": cost.value},
    )


def _tokdense(metric: DerivedMetric, computed: Computed, subject: Subject, bootstrap: BootstrapConfig) -> list[MetricValue]:
    stored, read = computed.by_name.get("tokens_per_sample"), computed.by_name.get("tokens_read_per_sample")
    tokens, found = read or stored, list[MetricValue]()
    if stored is None or tokens is None or not stored.value or not tokens.value or subject.layout is None:
        return []
    full = subject.layout.length if read is None else stored.value
    for accuracy in computed.values:
        matched = _ACCURACIES.fullmatch(accuracy.name)
        if matched is None or accuracy.value is None:
            continue
        task = matched[1] or matched[2]
        percent = 100 * accuracy.value
        details = {
            "accuracy_percent": percent,
            "tokens": tokens.value,
            "token_ratio_percent": float(token_ratio(tokens.value, full)),
        }
        found.append(
            MetricValue(
                metric=metric.name,
                version=metric.version,
                name=f"tokdense[{task}]",
                title=f"TokDense, {task}",
                value=float(tokdense(percent, tokens.value)),
                unit="% / token",
                better="higher",
                count=accuracy.count,
                no_interval="a ratio of two means",
                protocol=f"mean accuracy in percent over the mean of {tokens.name}, the accuracy of {task}; {accuracy.protocol}",
                details=details,
            )
        )
    return found


DENSITY = DerivedMetric(
    name="density",
    values={"[].per_token": Value("Quality per token", better="higher"), "[].per_bit": Value("Quality per bit", better="higher")},
    needs=("tokens",),
    absent="it needs rate, codebook or ar_bits among the metrics, and psnr, ssim, ms_ssim or frechet",
    derive=_densities,
)
TOKDENSE = DerivedMetric(
    name="tokdense",
    values={"tokdense[]": Value("TokDense", unit="% / token", better="higher")},
    needs=("tokens",),
    absent="it needs rate among the metrics, and classifier, linear_probe or nearest_neighbors on data with classes",
    derive=_tokdense,
)
