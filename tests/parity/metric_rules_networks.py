"""Golden rules of metrics on networks. Their weights are not stored with a case: its config says how to draw them again."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from metric_rules import Case, Equal, Rule, Wrong

from visiontok.evaluation.features.inception import (
    InceptionV3Compat,
    InceptionV3CompatFloat64,
    InceptionV3PytorchFid,
)
from visiontok.evaluation.features.weight_files import LoadedWeights
from visiontok.losses.perceptual import LpipsDistance


class _TorchmetricsAntialias(InceptionV3Compat):
    """What recent torchmetrics do by default; no extractor of ours, but its resize is."""

    name = "torchmetrics-antialias"
    resize = "torch-bilinear-antialias"


EXTRACTORS = {
    "float64": InceptionV3CompatFloat64,
    "float32": InceptionV3Compat,
    "torchmetrics_antialiasFalse": InceptionV3Compat,
    "torchmetrics_antialiasTrue": _TorchmetricsAntialias,
    "pytorch_fid_float01": InceptionV3PytorchFid,
}


def draw(name: str, shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
    if name.endswith("conv.weight"):
        return random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    if name == "fc.weight":
        return random.standard_normal(shape) / np.sqrt(shape[1])
    if name == "fc.bias":
        return random.uniform(-0.5, 0.5, shape)
    low, high = (0.8, 1.2) if name.endswith(("bn.weight", "running_var")) else (-0.1, 0.1)
    return random.uniform(low, high, shape)


def digest_of(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def inception_weights(case: Case) -> LoadedWeights:
    random = np.random.RandomState(case.config["seed"])
    names = sorted(name for name in case.config["shapes"] if not name.endswith("num_batches_tracked"))
    tensors = {name: torch.from_numpy(draw(name, tuple(case.config["shapes"][name]), random).astype(np.float32)) for name in names}
    assert digest_of(tensors) == case.config["weights_sha256"], "these are not the weights that the outputs were made with"
    return LoadedWeights(tensors, case.config["weights_sha256"])


@lru_cache(maxsize=16)
def inception_layers(case: Case, variant: str, image: str) -> dict[str, np.ndarray]:
    extractor = EXTRACTORS[variant](inception_weights(case))
    layers = extractor.layers(torch.from_numpy(case.inputs[image]))
    layers["logits"] = extractor.logits(layers["2048"], bias=True)
    layers["logits_unbiased"] = extractor.logits(layers["2048"])
    return {name: value.numpy() for name, value in layers.items()}


def inception(case: Case, variant: str, image: str, layer: str) -> np.ndarray:
    return inception_layers(case, variant, image)[layer]


INCEPTION: dict[str, Rule] = {
    r"(float64)\.(image\d+)\.(\w+)": Equal(inception, norm=1e-5),
    r"(float32|torchmetrics_antialias(?:False|True)|pytorch_fid_float01)\.(image\d+)\.(\w+)": Equal(inception, norm=1e-4),
}


@lru_cache(maxsize=1)
def lpips(case: Case) -> LpipsDistance:
    shapes = {name: tuple(shape) for name, shape in case.config["backbone_shapes"].items()}
    random = np.random.RandomState(case.config["seed"])
    backbone = {}
    for name in sorted(name for name in shapes if name.startswith("net.")):
        shape = shapes[name]
        is_weight = name.endswith("weight")
        values = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])) if is_weight else random.uniform(-0.1, 0.1, shape)
        backbone[name] = torch.from_numpy(values.astype(np.float32))
    assert digest_of(backbone) == case.config["backbone_sha256"], "these are not the weights that the outputs were made with"
    return LpipsDistance({f"features.{name.split('.', 2)[2]}": value for name, value in backbone.items()}, net=case.config["net"])


def images(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(case.inputs["x01"]), torch.from_numpy(case.inputs["y01"])


@torch.no_grad()
def distance(case: Case) -> np.ndarray:
    return lpips(case)(*images(case)).numpy()


@torch.no_grad()
def swapped(case: Case) -> np.ndarray:
    return lpips(case)(*reversed(images(case))).numpy()


@torch.no_grad()
def layer(case: Case, number: str) -> np.ndarray:
    return lpips(case).net(*images(case), retPerLayer=True, normalize=True)[1][int(number)].flatten().numpy()


def head(case: Case, number: str) -> np.ndarray:
    return lpips(case).net.lins[int(number)].model[-1].weight.numpy().flatten()


LPIPS: dict[str, Rule] = {
    "distance|distance_m11_input": Equal(distance, rel=1e-4),
    "symmetric_check": Equal(swapped, rel=1e-4),
    r"layer(\d+)": Equal(layer, rel=1e-4),
    r"lin(\d+)": Equal(head, rel=1e-6),
    "WRONG_01_input_without_normalize": Wrong(distance, gap=1e-3),
}
