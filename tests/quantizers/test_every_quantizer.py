"""What holds for every quantizer of the library, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.errors import TokenError
from visiontok.base.noise import SampleNoise
from visiontok.quantizers import (
    BernoulliQuantizerConfig,
    BinaryQuantizerConfig,
    Bottleneck,
    CodebookQuantizer,
    DimensionWiseQuantizerConfig,
    FactorizedResidualQuantizerConfig,
    FactorizedVectorQuantizerConfig,
    FiniteScalarQuantizerConfig,
    GaussianBottleneckConfig,
    IdentityBottleneckConfig,
    IndexBackpropQuantizerConfig,
    MultiScaleQuantizerConfig,
    NeighborQuantizer,
    PointwiseQuantizer,
    PositionalVectorQuantizerConfig,
    ProductQuantizerConfig,
    QuantizedBottleneck,
    Quantizer,
    ResidualQuantizerConfig,
    SimVectorQuantizerConfig,
    StochasticVectorQuantizerConfig,
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

    def build(self) -> Any:
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
    "svq": Kind(StochasticVectorQuantizerConfig(codebook_size=40, dim=DIM, temperature=0.5), 40, passes=on_sphere),
    "ibq": Kind(IndexBackpropQuantizerConfig(codebook_size=40, dim=DIM), 40, passes=None),
    "lfq": Kind(BinaryQuantizerConfig(dim=DIM), 2**DIM),
    "lfq-chunks": Kind(BinaryQuantizerConfig(dim=DIM, chunks=(2, 4)), 16),
    "bsq": Kind(
        BinaryQuantizerConfig(dim=DIM, normalize=True, codes="sphere", scale_gradient=True, bit_order="msb"),
        2**DIM,
        passes=lambda latents: on_sphere(latents) / DIM**0.5,
    ),
    "fsq": Kind(FSQ, 60, passes=lambda z: FSQ.build().bound(z) / torch.tensor([2.0, 2.0, 1.0]), width=3),
    "fsq-losses": Kind(
        FiniteScalarQuantizerConfig(levels=(5, 4, 3), commitment_weight=0.25, entropy={"weight": 0.1}),
        60,
        passes=lambda z: FSQ.build().bound(z) / torch.tensor([2.0, 2.0, 1.0]),
        width=3,
    ),
    "bernoulli": Kind(BernoulliQuantizerConfig(dim=DIM, chunks=(3, 5)), 32, passes=None),
    "dimension-wise": Kind(DimensionWiseQuantizerConfig(levels=16), 16),
    "residual": Kind(ResidualQuantizerConfig(num_levels=3, quantizer=VQ), 40),
    "residual-shared": Kind(ResidualQuantizerConfig(num_levels=3, quantizer=VQ, shared=True), 40),
    "residual-signs": Kind(ResidualQuantizerConfig(num_levels=2, quantizer=SIGNS | {"chunks": [3, 3]}), 8),
    "factorized-vq": Kind(FactorizedVectorQuantizerConfig(codebook_size=40, dim=DIM, codebook_dim=3), 40, passes=None),
    "factorized-vq-unprojected": Kind(FactorizedVectorQuantizerConfig(codebook_size=40, dim=DIM, codebook_dim=None), 40),
    "factorized-residual": Kind(FactorizedResidualQuantizerConfig(codebook_sizes=(40, 20, 30), dim=DIM, codebook_dim=3), 40, passes=None),
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
def test_lookup_of_the_indices_is_what_the_decoder_reads(kind):
    quantizer = kind.build().eval()
    quantized = quantizer(kind.latents())
    torch.testing.assert_close(quantizer.lookup(quantized.indices), quantized.latents)
    assert quantized.latents.shape == kind.latents().shape


@every
def test_indices_are_int64_and_in_range(kind):
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
def test_search_and_neighbors_begin_with_the_indices(kind):
    quantizer, latents = kind.build().eval(), kind.latents()
    indices = quantizer(latents).indices
    assert torch.equal(quantizer.train().search(latents), indices)
    assert quantizer.training
    if not isinstance(quantizer, NeighborQuantizer):
        assert kind.config.type == "bernoulli"
        return
    near = quantizer.neighbors(latents, 4)
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


def test_chunked_and_whole_indices_spell_the_same_bits():
    latents = torch.randn(200, DIM)
    whole = BinaryQuantizerConfig(dim=DIM).build()(latents).indices
    chunks = BinaryQuantizerConfig(dim=DIM, chunks=(2, 4)).build()(latents).indices
    assert torch.equal(chunks[:, 0] + 4 * chunks[:, 1], whole)


def test_joint_and_factorized_indices_name_the_same_levels():
    latents = torch.randn(200, 2)
    joint = FiniteScalarQuantizerConfig(levels=(5, 5)).build()
    factorized = ProductQuantizerConfig(num_groups=2, quantizer={"type": "fsq", "levels": [5]}).build()
    first, second = factorized(latents).indices.unbind(dim=-1)
    assert torch.equal(first + 5 * second, joint(latents).indices)
    torch.testing.assert_close(factorized(latents).latents, joint(latents).latents)


def test_groups_and_channels_lie_side_by_side():
    kind = KINDS["product"]
    quantizer, latents = kind.build(), kind.latents()
    quantized = quantizer(latents)
    for group, indices, part in zip(quantizer.groups, quantized.indices.unbind(-1), latents.chunk(2, dim=-1), strict=True):
        assert torch.equal(group(part).indices, indices)


def test_every_level_brings_the_sum_closer():
    quantizer, latents = KINDS["residual"].build(), KINDS["residual"].latents()
    for index, level in enumerate(quantizer.levels):
        level.codebook.data *= 0.5**index
    indices = quantizer(latents).indices
    errors = [F.mse_loss(quantizer.lookup(indices[..., :count]), latents).item() for count in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("name", ["residual", "factorized-residual", "multi-scale", "product-residual"])
def test_dropped_levels_are_those_after_the_kept_ones(name):
    kind = KINDS[name]
    quantizer, latents = kind.build(), kind.latents()
    kept = torch.tensor([1, 2, 2, 2, 1])
    quantized, whole = quantizer.quantize(latents, kept), quantizer.quantize(latents, torch.full((5,), 99))
    assert torch.equal(quantized.indices, whole.indices)
    if name in ("residual", "factorized-residual"):
        torch.testing.assert_close(quantized.latents[0], quantizer.lookup(quantized.indices[:1, ..., :1])[0])
    if name == "multi-scale":
        torch.testing.assert_close(quantized.latents[1], quantizer.partial_sums(quantized.indices)[1][1])
    assert not torch.allclose(quantized.latents, whole.latents)


def test_dropout_cuts_the_first_samples_in_training_only():
    config = ResidualQuantizerConfig(num_levels=8, quantizer=VQ, dropout={"share": 0.5, "min_levels": 2})
    quantizer, latents, noise = config.build(), torch.zeros(9, DIM), torch.Generator().manual_seed(0)
    kept = torch.stack([quantizer.draw_kept(latents, noise=noise) for _ in range(200)])
    assert (kept[:, 4:] == 8).all()
    assert set(kept[:, :4].flatten().tolist()) == set(range(2, 9))
    assert (quantizer.eval().draw_kept(latents, noise=noise) == 8).all()


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


# What a codebook learns, what draws and what stays continuous, beside the kinds above.

UPDATES = {"kmeans": {"after_steps": 1, "iterations": 3}, "dead_code_reset": {"every_steps": 2, "threshold": 0.3}}
GAUSSIAN = GaussianBottleneckConfig(dim=DIM, scale=0.5, shift=0.1)


def _quantized_posterior() -> QuantizedBottleneck:
    return QuantizedBottleneck(bottleneck=GAUSSIAN.build(), quantizer=DimensionWiseQuantizerConfig(levels=16).build())


BOTTLENECKS: dict[str, tuple[Callable[[], Any], int]] = {
    **{name: (kind.build, kind.width) for name, kind in KINDS.items()},
    "vq-ema": (VectorQuantizerConfig.parse(VQ | UPDATES | {"ema": {}, "normalize_latents": True}).build, DIM),
    "vq-reset-entropy": (VectorQuantizerConfig.parse(VQ | UPDATES | {"entropy": {"weight": 0.1, "temperature": 0.5}}).build, DIM),
    "vq-clustering": (VectorQuantizerConfig.parse(VQ | {"clustering": {}}).build, DIM),
    "ibq-entropy": (IndexBackpropQuantizerConfig(codebook_size=40, dim=DIM, entropy={"weight": 0.1}).build, DIM),
    "lfq-projected": (BinaryQuantizerConfig(dim=DIM, num_bits=4).build, DIM),
    "lfq-groups": (BinaryQuantizerConfig(dim=DIM, entropy={"group_size": 2, "sample_log": {"eps": 1e-5}}).build, DIM),
    "positional-vq-reset": (
        PositionalVectorQuantizerConfig(codebook_size=40, dim=DIM, num_positions=16, dead_below=0.9, kmeans={"after_steps": 1}).build,
        DIM,
    ),
    "residual-dropout": (ResidualQuantizerConfig.parse({"num_levels": 3, "quantizer": VQ | UPDATES, "dropout": {"share": 0.6}}).build, DIM),
    "factorized-residual-dropout": (
        FactorizedResidualQuantizerConfig(codebook_sizes=(40, 20, 30), dim=DIM, codebook_dim=3, dropout={"share": 0.6}).build,
        DIM,
    ),
    "product-dropout": (
        ProductQuantizerConfig(num_groups=2, quantizer=SCALES | {"quantizer": VQ, "dropout": {"share": 0.6}}).build,
        2 * DIM,
    ),
    "multi-scale-entropy": (
        MultiScaleQuantizerConfig.parse(
            SCALES | {"quantizer": SIGNS | {"entropy": {"group_size": 1}}, "dropout": {"share": 0.6}, "entropy_samples": "first_two"}
        ).build,
        DIM,
    ),
    "gaussian": (GAUSSIAN.build, 2 * DIM),
    "continuous": (IdentityBottleneckConfig(dim=DIM).build, DIM),
    "quantized-gaussian": (_quantized_posterior, 2 * DIM),
}
everyone = pytest.mark.parametrize("name", BOTTLENECKS)


def built(name: str) -> tuple[Any, Tensor]:
    build, width = BOTTLENECKS[name]
    torch.manual_seed(0)
    return build(), torch.randn(4, 4, 4, width, generator=torch.Generator().manual_seed(1))


@dataclass
class Pass:
    """One training pass: what came out, and the gradients."""

    latents: Tensor
    indices: Tensor | None
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]
    gradient: Tensor
    parameter_gradients: dict[str, Tensor]


def trained(quantizer: Bottleneck, latents: Tensor, *, mask: Tensor | None = None, noise: Any = None, weights: Tensor | None = None) -> Pass:
    leaf = latents.clone().requires_grad_(True)
    out = quantizer(leaf, mask=mask, noise=noise)
    valid = out.latents if mask is None else out.latents[mask]
    weights = torch.randn(valid.shape, generator=torch.Generator().manual_seed(7)).to(valid) if weights is None else weights
    quantizer.zero_grad()
    ((valid * weights.view_as(valid)).sum() + sum(out.losses.values())).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in quantizer.named_parameters() if parameter.grad is not None}
    return Pass(out.latents.detach(), out.indices, {n: t.detach() for n, t in out.losses.items()}, out.stats, leaf.grad, gradients)


def assert_same(found: Pass, expected: Pass, mask: Tensor) -> None:
    """Equal where the mask says so; padding is zero."""
    for name in ("latents", "gradient"):
        valid = getattr(found, name)[mask]
        torch.testing.assert_close(valid, getattr(expected, name).reshape(valid.shape), msg=lambda text, name=name: f"{name}: {text}")
        assert not getattr(found, name)[~mask].any(), name
    if expected.indices is not None:
        same_positions = found.indices.shape[: mask.ndim] == mask.shape
        valid = mask if same_positions else mask.flatten(1).all(dim=1)
        assert torch.equal(found.indices[valid], expected.indices.reshape(found.indices[valid].shape))
        assert not found.indices[~valid].any()
    for name in ("losses", "stats", "parameter_gradients"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), msg=lambda text, name=name: f"{name}: {text}")


def assert_same_state(found: Bottleneck, expected: Bottleneck) -> None:
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, msg=lambda text, name=name: f"{name}: {text}")


@everyone
@pytest.mark.parametrize("padding", [-1e30, torch.inf])
@pytest.mark.parametrize("training", [True, False])
def test_padded_samples_change_nothing_but_their_own_outputs(name, padding, training):
    """Over several steps, so that what one leaves behind in the state would show in the next."""
    (quantizer, latents), (alone, _) = built(name), built(name)
    mask = torch.tensor([False, True, True, False, True, True])[:, None, None].expand(6, 4, 4)
    for step in range(4):
        padded = torch.full((6, *latents.shape[1:]), padding)
        padded[[1, 2, 4, 5]] = latents * (1 + step)
        noise = {rows: SampleNoise((0, step), rows) if training else None for rows in ((9, 0, 1, 8, 2, 3), (0, 1, 2, 3))}
        found = trained(quantizer.train(training), padded, mask=mask, noise=noise[9, 0, 1, 8, 2, 3])
        expected = trained(alone.train(training), latents * (1 + step), noise=noise[0, 1, 2, 3])
        assert_same(found, expected, mask)
        assert_same_state(quantizer, alone)


@pytest.mark.parametrize("name", [name for name, (build, _) in BOTTLENECKS.items() if isinstance(build(), PointwiseQuantizer)] + ["residual"])
def test_padded_positions_change_nothing_but_their_own_outputs(name):
    (quantizer, latents), (alone, _) = built(name), built(name)
    mask = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(3)) < 0.6
    for _ in range(3):
        padded = latents.masked_fill(~mask[..., None], 1e20)
        assert_same(trained(quantizer, padded, mask=mask), trained(alone, latents[mask]), mask)
        assert_same_state(quantizer, alone)


@everyone
def test_a_mask_without_padding_is_no_mask(name):
    (quantizer, latents), (alone, _) = built(name), built(name)
    mask = torch.ones(4, 4, 4, dtype=torch.bool)
    assert_same(trained(quantizer, latents, mask=mask, noise=SampleNoise(0, range(4))), trained(alone, latents, noise=SampleNoise(0, range(4))), mask)
    assert_same_state(quantizer, alone)


@everyone
def test_a_batch_of_padding_alone_teaches_nothing(name):
    quantizer, latents = built(name)
    trained(quantizer, latents)
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    mask = torch.zeros(4, 4, 4, dtype=torch.bool)
    out = quantizer(latents, mask=mask)
    assert not out.latents.any()
    assert all(torch.isfinite(value) for value in (*out.losses.values(), *out.stats.values()))
    assert out.losses.keys() == quantizer(latents).losses.keys()
    quantizer.load_state_dict(before)
    quantizer(latents, mask=mask)
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


@pytest.mark.parametrize("name", ["vq", "fsq", "bernoulli", "gaussian", "residual", "multi-scale", "positional-vq", "dimension-wise", "continuous"])
@pytest.mark.parametrize("mask", [torch.ones(4, 4, 4), torch.ones(4, 4, dtype=torch.bool), torch.ones(4, 4, 4, 1, dtype=torch.bool)])
def test_masks_of_another_shape_or_type_are_refused(name, mask):
    quantizer, latents = built(name)
    with pytest.raises(ValueError, match="mask"):
        quantizer(latents, mask=mask)


def test_partly_masked_samples_of_several_scales_are_refused():
    quantizer, latents = built("multi-scale")
    mask = torch.ones(4, 4, 4, dtype=torch.bool)
    mask[2, 1, 1] = False
    with pytest.raises(ValueError, match="whole samples"):
        quantizer(latents, mask=mask)


@everyone
def test_evaluation_draws_only_where_noise_is_given(name):
    quantizer, latents = built(name)
    quantizer.eval()
    state = torch.get_rng_state()
    first, second = quantizer(latents), quantizer(latents)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.latents, second.latents)
    noisy, again, other = (quantizer(latents, noise=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(noisy.latents, again.latents)
    assert torch.equal(noisy.latents, first.latents) != quantizer.is_stochastic
    assert torch.equal(noisy.latents, other.latents) != quantizer.is_stochastic


@everyone
@pytest.mark.parametrize("training", [True, False])
def test_the_draws_of_a_sample_do_not_depend_on_its_batch(name, training):
    quantizer, latents = built(name)
    if not quantizer.is_stochastic:
        assert name in BOTTLENECKS
        return
    quantizer.train(training)
    whole, part = quantizer(latents, noise=SampleNoise(5, range(4))), quantizer(latents[[2, 1]], noise=SampleNoise(5, [2, 1]))
    torch.testing.assert_close(part.latents, whole.latents[[2, 1]])


@every
def test_tables_of_codes(kind):
    quantizer = kind.build().eval()
    if not quantizer.has_codes:
        if isinstance(quantizer, CodebookQuantizer):
            with pytest.raises(TokenError, match=type(quantizer).__name__):
                quantizer.codes()
        return
    codes = quantizer.codes()
    assert codes.shape == (kind.vocab_size, kind.width)
    indices = torch.randint(kind.vocab_size, (3, 5), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(codes[indices], quantizer.lookup(indices))
    certain = F.one_hot(indices, kind.vocab_size).float()
    torch.testing.assert_close(quantizer.soft_lookup(certain), quantizer.lookup(indices))
    mixed = quantizer.soft_lookup((certain[0] + certain[1]) / 2)
    torch.testing.assert_close(mixed, (quantizer.lookup(indices[0]) + quantizer.lookup(indices[1])) / 2)


def test_which_quantizers_have_one_table():
    tables = {name for name, kind in KINDS.items() if kind.build().has_codes}
    vector = {
        "vq",
        "vq-on-sphere",
        "vq-raw-lookup",
        "vq-rotation",
        "positional-vq",
        "sim-vq",
        "svq",
        "ibq",
        "factorized-vq",
        "factorized-vq-unprojected",
    }
    assert tables == vector | {"lfq", "bsq", "fsq", "fsq-losses"}
    assert not FiniteScalarQuantizerConfig(levels=(8,) * 8).build().has_codes
    assert not BinaryQuantizerConfig(dim=30, entropy=None).build().has_codes


def test_gradients_reach_probabilities_and_codes():
    quantizer = KINDS["vq"].build()
    logits = torch.randn(3, 40, requires_grad=True)
    quantizer.soft_lookup(logits.softmax(dim=-1)).square().sum().backward()
    assert logits.grad.abs().sum() > 0
    assert (quantizer.codebook.grad.abs().sum(dim=1) > 0).all()


# Types: torch's default, autocast, and models that go to another one.


@pytest.fixture
def default_dtype():
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


@everyone
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_default_dtype_changes_nothing(name, dtype, default_dtype):
    (expected, latents), noise = built(name), SampleNoise(0, range(4))
    wanted = [trained(expected, latents, noise=noise) for _ in range(3)]
    weights = torch.randn(latents[..., : wanted[0].latents.shape[-1]].shape, generator=torch.Generator().manual_seed(7))
    default_dtype(dtype)
    torch.manual_seed(0)
    quantizer, noise = BOTTLENECKS[name][0](), SampleNoise(0, range(4))
    for passed in wanted:
        found = trained(quantizer, latents, noise=noise, weights=weights)
        assert found.latents.dtype == torch.float32
        assert_same(found, passed, torch.ones(4, 4, 4, dtype=torch.bool))
    for key, value in expected.state_dict().items():
        assert quantizer.state_dict()[key].dtype == value.dtype, key
        torch.testing.assert_close(quantizer.state_dict()[key], value)


@everyone
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_in_half_precision_keep_codebooks_and_statistics(name, dtype):
    """They train, their latents are of the model's type, and what the search reads is not rounded."""
    (quantizer, latents), (reference, _) = built(name), built(name)
    quantizer.to(dtype)
    if not any(isinstance(module, torch.nn.Linear | torch.nn.Conv2d) for module in quantizer.modules()):
        assert_same_state(quantizer, reference)
        out = quantizer.eval()(latents.to(dtype))
        assert out.latents.dtype == dtype
        if out.indices is not None:
            assert torch.equal(out.indices, reference.eval()(latents.to(dtype).float()).indices)
    for step in range(4):
        found = trained(quantizer.train(), latents.to(dtype) * (1 + step))
        assert found.latents.dtype == found.gradient.dtype == dtype
        assert all(torch.isfinite(value).all() for value in (found.latents, found.gradient, *found.losses.values()))
    kept = ("usage", "counts", "sums", "shares", "codebook", "basis", "rows")
    assert all(value.dtype == torch.float32 for key, value in quantizer.state_dict().items() if key.endswith(kept))
    assert all(torch.isfinite(value).all() for value in quantizer.state_dict().values())
    quantizer.eval()
    indices = quantizer(latents.to(dtype)).indices
    if indices is not None:
        quantizer.lookup(indices)
        if isinstance(quantizer, NeighborQuantizer):  # updates make almost equal codes, which come in any order
            nearest = quantizer.neighbors(latents.to(dtype), 2)[..., 0]
            torch.testing.assert_close(quantizer.lookup(nearest), quantizer.lookup(indices), atol=1e-2, rtol=0)


@everyone
def test_autocast_changes_neither_search_nor_codes(name):
    (quantizer, latents), (plain, _) = built(name), built(name)
    draws = (SampleNoise(0, range(4)), SampleNoise(0, range(4)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quantizer(latents, noise=draws[0])
        looked_up = quantizer.lookup(found.indices) if isinstance(quantizer, Quantizer) else None
    expected = plain(latents, noise=draws[1])
    assert found.latents.dtype == torch.float32
    projects = any(isinstance(module, torch.nn.Linear) for module in quantizer.modules()) and not name.startswith("sim")
    if not projects:
        torch.testing.assert_close(found.latents, expected.latents)
        torch.testing.assert_close(found.losses, expected.losses)
        assert_same_state(quantizer, plain)
        if looked_up is not None:
            torch.testing.assert_close(looked_up, plain.lookup(expected.indices))
