"""What holds for every quantizer of the library, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.quantizers import (
    BernoulliQuantizerConfig,
    BinaryQuantizerConfig,
    DimensionWiseQuantizerConfig,
    FiniteScalarQuantizerConfig,
    IndexBackpropQuantizerConfig,
    MultiScaleQuantizerConfig,
    PositionalVectorQuantizerConfig,
    ProductQuantizerConfig,
    Quantizer,
    ResidualQuantizerConfig,
    SimVectorQuantizerConfig,
    VectorQuantizerConfig,
)

DIM = 6
VQ = {"type": "vq", "codebook_size": 40, "dim": DIM}
SPHERE = {"normalize_latents": True, "normalize_codes": True}
SIGNS = {"type": "binary", "dim": DIM, "codes": "sphere", "entropy": None}
SCALES = {"type": "multi_scale", "scales": [1, 2, 3, 4]}


def identity(latents: Tensor) -> Tensor:
    return latents


def on_sphere(latents: Tensor) -> Tensor:
    return F.normalize(latents, dim=-1)


@dataclass(frozen=True)
class Kind:
    """A quantizer and what its gradient is that of: a differentiable map of the latents; None where codes have gradients of their own."""

    config: Any
    vocab_size: int
    passes: Callable[[Tensor], Tensor] | None = identity
    width: int = DIM
    draws_in_training: bool = False

    def build(self) -> Quantizer:
        torch.manual_seed(0)
        quantizer = self.config.build()
        for name, parameter in quantizer.named_parameters():
            if name.endswith("codebook"):
                torch.nn.init.normal_(parameter)
        return quantizer

    def latents(self, batch: int = 5) -> Tensor:
        return torch.randn(batch, 4, 4, self.width, generator=torch.Generator().manual_seed(1))


FSQ = FiniteScalarQuantizerConfig(levels=(5, 4, 3))
KINDS = {
    "vq": Kind(VectorQuantizerConfig.parse(VQ), 40),
    "vq-on-sphere": Kind(VectorQuantizerConfig.parse(VQ | SPHERE), 40, passes=on_sphere),
    "vq-raw-lookup": Kind(VectorQuantizerConfig.parse(VQ | SPHERE | {"raw_lookup": True}), 40, passes=on_sphere),
    "vq-rotation": Kind(VectorQuantizerConfig.parse(VQ | {"gradient": "rotation"}), 40, passes=None),
    "positional-vq": Kind(PositionalVectorQuantizerConfig(codebook_size=40, dim=DIM, num_positions=16), 40, passes=on_sphere),
    "sim-vq": Kind(SimVectorQuantizerConfig(codebook_size=40, dim=DIM), 40),
    "ibq": Kind(IndexBackpropQuantizerConfig(codebook_size=40, dim=DIM), 40, passes=None),
    "lfq": Kind(BinaryQuantizerConfig(dim=DIM), 2**DIM),
    "lfq-chunks": Kind(BinaryQuantizerConfig(dim=DIM, chunks=(2, 4)), 16),
    "bsq": Kind(
        BinaryQuantizerConfig(dim=DIM, normalize=True, codes="sphere", scale_gradient=True, bit_order="msb"),
        2**DIM,
        passes=lambda latents: on_sphere(latents) / DIM**0.5,
    ),
    "fsq": Kind(FSQ, 60, passes=lambda z: FSQ.build().bound(z) / torch.tensor([2.0, 2.0, 1.0]), width=3),
    "bernoulli": Kind(BernoulliQuantizerConfig(dim=DIM, chunks=(3, 5)), 32, passes=None, draws_in_training=True),
    "dimension-wise": Kind(DimensionWiseQuantizerConfig(levels=16), 16),
    "residual": Kind(ResidualQuantizerConfig(num_levels=3, quantizer=VQ), 40),
    "residual-shared": Kind(ResidualQuantizerConfig(num_levels=3, quantizer=VQ, shared=True), 40),
    "residual-signs": Kind(ResidualQuantizerConfig(num_levels=2, quantizer=SIGNS | {"chunks": [3, 3]}), 8),
    "product": Kind(ProductQuantizerConfig(num_groups=2, quantizer=VQ), 40, width=2 * DIM),
    "product-residual": Kind(
        ProductQuantizerConfig(num_groups=2, quantizer={"type": "residual", "num_levels": 2, "quantizer": VQ}), 40, width=2 * DIM
    ),
    "multi-scale": Kind(MultiScaleQuantizerConfig.parse(SCALES | {"quantizer": VQ | SPHERE | {"raw_lookup": True}}), 40),
    "multi-scale-without-phi": Kind(MultiScaleQuantizerConfig.parse(SCALES | {"quantizer": VQ, "phi": None, "upsample": "nearest"}), 40),
    "multi-scale-signs": Kind(MultiScaleQuantizerConfig.parse(SCALES | {"quantizer": SIGNS, "normalize": True}), 2**DIM, passes=on_sphere),
    "product-multi-scale": Kind(ProductQuantizerConfig(num_groups=2, quantizer=SCALES | {"quantizer": VQ}), 40, width=2 * DIM),
}
every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@every
def test_lookup_of_the_ids_is_what_the_decoder_reads(kind):
    quantizer = kind.build().eval()
    quantized = quantizer(kind.latents())
    torch.testing.assert_close(quantizer.lookup(quantized.indices), quantized.latents)
    assert quantized.latents.shape == kind.latents().shape


@every
def test_ids_are_int64_and_in_range(kind):
    indices = kind.build()(100 * kind.latents()).indices
    assert indices.dtype == torch.int64
    assert 0 <= int(indices.min()) <= int(indices.max()) < kind.vocab_size


@every
def test_the_gradient_is_the_stated_one(kind):
    quantizer, latents = kind.build(), kind.latents().requires_grad_(True)
    cotangent = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((quantizer(latents).latents * cotangent).sum(), latents)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
    if kind.passes is not None:
        (expected,) = torch.autograd.grad((kind.passes(latents) * cotangent).sum(), latents)
        torch.testing.assert_close(gradient, expected)


@every
def test_samples_do_not_depend_on_their_batch(kind):
    quantizer, latents = kind.build().eval(), kind.latents()
    order = torch.tensor([3, 0, 4, 1, 2])
    quantized, permuted = quantizer(latents), quantizer(latents[order])
    assert torch.equal(permuted.indices, quantized.indices[order])
    torch.testing.assert_close(permuted.latents, quantized.latents[order])


@pytest.mark.parametrize("kind", [pytest.param(kind, id=name) for name, kind in KINDS.items() if name != "bernoulli"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_latents_get_the_codes_of_their_float32_copies(kind, dtype):
    """Nothing of the search is computed in half precision, so there are no ties. The Bernoulli quantizer begins with a linear layer of its own."""
    quantizer, latents = kind.build().eval(), kind.latents().to(dtype)
    quantized = quantizer(latents)
    assert torch.equal(quantized.indices, quantizer(latents.float()).indices)
    assert quantized.latents.dtype == dtype


@every
def test_search_and_neighbours_begin_with_the_ids(kind):
    quantizer, latents = kind.build().eval(), kind.latents()
    indices = quantizer(latents).indices
    assert torch.equal(quantizer.train().search(latents), indices)
    assert quantizer.training
    if type(quantizer).neighbours is Quantizer.neighbours:
        assert kind.config.type == "bernoulli"
        return
    near = quantizer.neighbours(latents, 4)
    assert near.shape == (*indices.shape, 4)
    assert torch.equal(near[..., 0], indices)
    assert all(len(set(row)) == 4 for row in near.flatten(0, -2).tolist())


@every
def test_evaluation_changes_no_state_and_configurations_round_trip(kind):
    quantizer = kind.build().eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(kind.latents())
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert type(kind.config).parse(kind.config.to_dict()) == kind.config


def test_chunked_and_whole_ids_spell_the_same_bits():
    latents = torch.randn(200, DIM)
    whole = BinaryQuantizerConfig(dim=DIM).build()(latents).indices
    chunks = BinaryQuantizerConfig(dim=DIM, chunks=(2, 4)).build()(latents).indices
    assert torch.equal(chunks[:, 0] + 4 * chunks[:, 1], whole)


def test_joint_and_factorised_ids_name_the_same_levels():
    latents = torch.randn(200, 2)
    joint = FiniteScalarQuantizerConfig(levels=(5, 5)).build()
    factorised = ProductQuantizerConfig(num_groups=2, quantizer={"type": "fsq", "levels": [5]}).build()
    first, second = factorised(latents).indices.unbind(dim=-1)
    assert torch.equal(first + 5 * second, joint(latents).indices)
    torch.testing.assert_close(factorised(latents).latents, joint(latents).latents)


def test_groups_and_channels_lie_side_by_side():
    kind = KINDS["product"]
    quantizer, latents = kind.build(), kind.latents()
    quantized = quantizer(latents)
    for group, ids, part in zip(quantizer.groups, quantized.indices.unbind(-1), latents.chunk(2, dim=-1), strict=True):
        assert torch.equal(group(part).indices, ids)


def test_every_level_brings_the_sum_closer():
    quantizer, latents = KINDS["residual"].build(), KINDS["residual"].latents()
    for place, level in enumerate(quantizer.levels):
        level.codebook.data *= 0.5**place
    indices = quantizer(latents).indices
    errors = [F.mse_loss(quantizer.lookup(indices[..., :count]), latents).item() for count in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("name", ["residual", "multi-scale", "product-residual"])
def test_dropped_levels_are_those_after_the_kept_ones(name):
    kind = KINDS[name]
    quantizer, latents = kind.build(), kind.latents()
    kept = torch.tensor([1, 2, 2, 2, 1])
    quantized, whole = quantizer.quantize(latents, kept), quantizer.quantize(latents, torch.full((5,), 99))
    assert torch.equal(quantized.indices, whole.indices)
    if name == "residual":
        torch.testing.assert_close(quantized.latents[0], quantizer.lookup(quantized.indices[:1, ..., :1])[0])
    if name == "multi-scale":
        torch.testing.assert_close(quantized.latents[1], quantizer.partial_sums(quantized.indices)[1][1])
    assert not torch.allclose(quantized.latents, whole.latents)


def test_dropout_cuts_the_first_samples_in_training_only():
    config = ResidualQuantizerConfig(num_levels=8, quantizer=VQ, dropout={"share": 0.5, "min_levels": 2})
    torch.manual_seed(0)
    quantizer = config.build()
    kept = torch.stack([quantizer.draw_kept(9, torch.device("cpu")) for _ in range(200)])
    assert (kept[:, 4:] == 8).all()
    assert set(kept[:, :4].flatten().tolist()) == set(range(2, 9))
    assert (quantizer.eval().draw_kept(9, torch.device("cpu")) == 8).all()


def test_the_rotated_gradient_keeps_its_angle_to_what_was_quantized():
    kind = KINDS["vq-rotation"]
    quantizer, latents = kind.build(), kind.latents().requires_grad_(True)
    cotangent = torch.randn_like(latents)
    codes = quantizer(latents).latents
    (gradient,) = torch.autograd.grad((codes * cotangent).sum(), latents)
    scale = codes.norm(dim=-1) / latents.norm(dim=-1)
    torch.testing.assert_close(gradient.norm(dim=-1), scale * cotangent.norm(dim=-1))
    at_latent, at_code = F.cosine_similarity(gradient, latents, dim=-1), F.cosine_similarity(cotangent, codes, dim=-1)
    torch.testing.assert_close(at_latent, at_code)


@pytest.mark.parametrize("opposite", [False, True])
def test_the_rotated_gradient_is_finite_where_there_is_no_rotation(opposite):
    quantizer = KINDS["vq-rotation"].build()
    latents = (-quantizer.codebook.detach()[:3] * 1e-3 if opposite else torch.zeros(3, DIM)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(quantizer(latents).latents.sum(), latents)
    assert torch.isfinite(gradient).all()
