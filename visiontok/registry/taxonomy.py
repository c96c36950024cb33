"""What kind of model a checkpoint is, on the axes of the survey of audio tokenizers (Mousavi et al., arXiv 2506.10274)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from visiontok.base.errors import ConfigError
from visiontok.base.names import unknown

Taxonomy: TypeAlias = Mapping[str, tuple[str, ...]]
"""The values of a checkpoint on each axis."""

_NETWORKS = ("CNN", "RNN", "CNN+RNN", "CNN+Transformer", "Transformer", "none")

TAXONOMY: Taxonomy = {
    "encoder": _NETWORKS,
    "decoder": _NETWORKS,
    "representation": ("time", "time-frequency"),
    "quantizer": ("RVQ", "GVQ", "SVQ", "MSRVQ", "CSRVQ", "PQ", "FSQ", "BSQ", "k-means"),
    "bitrate": ("fixed", "adaptive"),
    "objectives": ("GAN", "feature matching", "reconstruction", "VQ", "diffusion", "masked prediction"),
    "auxiliary": ("none", "disentanglement", "semantic distillation", "supervised semantic"),
    "joint": ("yes", "no"),
    "domains": ("speech", "music", "audio"),
}
"""Axes and their values. The quantizers are residual (RVQ), grouped (GVQ), single (SVQ), multi-scale and cross-scale residual (MSRVQ, CSRVQ), product
(PQ), finite scalar (FSQ), binary spherical (BSQ, which the survey does not have) and k-means after training; `joint` says whether the quantizer was
trained together with encoder and decoder. Streamability, the last axis, is a field of its own, `Checkpoint.streamable`."""


def read_taxonomy(values: Mapping[str, str]) -> Taxonomy:
    """From a table, in which the values on an axis are separated by commas.

    Raises:
        ConfigError: naming an axis or a value that is not in `TAXONOMY`.
    """
    read = {axis: tuple(value.split(", ")) for axis, value in values.items()}
    for axis, found in read.items():
        wrong = [value for value in found if value not in TAXONOMY.get(axis, ())]
        if wrong:
            raise ConfigError(f"the taxonomy has no {axis} {wrong[0]!r}; known are {', '.join(TAXONOMY.get(axis, TAXONOMY))}")
    return read


def checked_filter(wanted: Mapping[str, str]) -> dict[str, str]:
    """Values on some axes, in the spelling of `TAXONOMY`.

    Raises:
        UnknownNameError: with close names, for an axis or a value that does not exist.
    """
    spelled = {}
    for axis, value in wanted.items():
        if axis not in TAXONOMY:
            raise unknown("axis of the taxonomy", axis, TAXONOMY)
        known = {each.lower(): each for each in TAXONOMY[axis]}
        if value.lower() not in known:
            raise unknown(f"value of {axis}", value, TAXONOMY[axis])
        spelled[axis] = known[value.lower()]
    return spelled


def belongs(taxonomy: Taxonomy, wanted: Mapping[str, str]) -> bool:
    """Whether a checkpoint has all the values, as `checked_filter` gives them."""
    return all(value in taxonomy.get(axis, ()) for axis, value in wanted.items())
