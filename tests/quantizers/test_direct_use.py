"""Quantizers alone, in a model of one's own: keyword constructors, both layouts of channels, and the table beside vector-quantize-pytorch."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest
import torch

import visiontok.quantizers
from visiontok.base.errors import ConfigError, LatentError, TokenError
from visiontok.quantizers import (
    BernoulliQuantizer,
    BinaryQuantizer,
    Bottleneck,
    DimensionWiseQuantizer,
    EmaConfig,
    FactorizedResidualQuantizer,
    FactorizedVectorQuantizer,
    FiniteScalarQuantizer,
    GaussianBottleneck,
    IdentityBottleneck,
    IndexBackpropQuantizer,
    MultiScaleQuantizer,
    PositionalVectorQuantizer,
    ProductQuantizer,
    Quantizer,
    ResidualQuantizer,
    SimVectorQuantizer,
    StochasticVectorQuantizer,
    VectorQuantizer,
    VectorQuantizerConfig,
)

VQ = VectorQuantizerConfig(codebook_size=16, dim=8)
DIRECT = {
    VectorQuantizer: {"codebook_size": 16, "dim": 8, "ema": {"decay": 0.9}},
    PositionalVectorQuantizer: {"codebook_size": 16, "dim": 8, "num_positions": 16},
    SimVectorQuantizer: {"codebook_size": 16, "dim": 8},
    StochasticVectorQuantizer: {"codebook_size": 16, "dim": 8},
    IndexBackpropQuantizer: {"codebook_size": 16, "dim": 8},
    BinaryQuantizer: {"dim": 8, "num_bits": 3},
    BernoulliQuantizer: {"dim": 8, "chunks": (3,)},
    FiniteScalarQuantizer: {"levels": (3,) * 8},
    DimensionWiseQuantizer: {"levels": 16},
    ResidualQuantizer: {"num_levels": 2, "quantizer": VQ},
    ProductQuantizer: {"num_groups": 2, "quantizer": VQ.replace(dim=4)},
    MultiScaleQuantizer: {"scales": (1, 2, 4), "quantizer": VQ},
    FactorizedVectorQuantizer: {"codebook_size": 16, "dim": 8},
    FactorizedResidualQuantizer: {"codebook_sizes": (16, 16), "dim": 8},
    GaussianBottleneck: {"dim": 4},
    IdentityBottleneck: {"dim": 8},
}
every = pytest.mark.parametrize("quantizer_class", DIRECT, ids=lambda kind: kind.__name__)


def concrete(base: type) -> set[type]:
    below = {kind for child in base.__subclasses__() for kind in {child, *concrete(child)}}
    return {kind for kind in below if not inspect.isabstract(kind) and kind.__module__.startswith("visiontok.quantizers.")}


def test_every_quantizer_is_here() -> None:
    assert {kind.__name__ for kind in concrete(Bottleneck)} - {kind.__name__ for kind in DIRECT} == {"QuantizedBottleneck"}


@every
def test_the_constructor_has_the_fields_of_the_configuration_of_its_name(quantizer_class: type[Bottleneck]) -> None:
    config_class = getattr(visiontok.quantizers, f"{quantizer_class.__name__}Config")
    fields = inspect.signature(quantizer_class).parameters
    assert list(fields) == [name for name in config_class.model_fields if name != "type"]
    assert all(field.kind is inspect.Parameter.KEYWORD_ONLY for field in fields.values())
    torch.manual_seed(0)
    direct = quantizer_class(**DIRECT[quantizer_class])
    torch.manual_seed(0)
    built = config_class.parse(DIRECT[quantizer_class]).build()
    assert direct.config == built.config
    assert direct.state_dict().keys() == built.state_dict().keys()
    assert all(torch.equal(value, direct.state_dict()[name]) for name, value in built.state_dict().items())
    for copied in (copy.deepcopy(direct), pickle.loads(pickle.dumps(direct))):
        assert copied.config == direct.config


@every
def test_channels_first_is_channels_last_with_its_axes_moved(quantizer_class: type[Bottleneck]) -> None:
    quantizer = quantizer_class(**DIRECT[quantizer_class]).eval()
    maps = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    expected, found = quantizer(maps.permute(0, 2, 3, 1)), quantizer.quantize_channels_first(maps)
    assert torch.equal(found.latents, expected.latents.permute(0, 3, 1, 2))
    if isinstance(quantizer, Quantizer):
        assert torch.equal(found.indices, expected.indices)
        torch.testing.assert_close(quantizer.lookup_channels_first(found.indices), found.latents)


@every
def test_latents_of_another_width_or_type_are_refused(quantizer_class: type[Bottleneck]) -> None:
    quantizer = quantizer_class(**DIRECT[quantizer_class])
    with pytest.raises(LatentError, match="int64"):
        quantizer(torch.zeros(2, 4, 4, 8, dtype=torch.int64))
    if quantizer_class is not DimensionWiseQuantizer:
        with pytest.raises(LatentError, match=r"\(2, 8, 4, 5\)") as raised:
            quantizer(torch.zeros(2, 8, 4, 5))
        assert "quantize_channels_first" in str(raised.value)


def test_masks_of_channels_first_lack_the_channels() -> None:
    quantizer, maps = VectorQuantizer(codebook_size=16, dim=8).eval(), torch.randn(2, 8, 3, 5)
    mask = torch.rand(2, 3, 5) < 0.5
    found = quantizer.quantize_channels_first(maps, mask=mask)
    assert torch.equal(found.latents.movedim(1, -1)[mask], quantizer(maps.movedim(1, -1)[mask]).latents)
    assert not found.latents.movedim(1, -1)[~mask].any()
    with pytest.raises(LatentError, match="mask"):
        quantizer.quantize_channels_first(maps, mask=torch.ones(2, 8, 3, 5, dtype=torch.bool))


def test_fields_that_do_not_exist_or_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match=r"codebook_sise.*codebook_size"):
        VectorQuantizer(codebook_sise=64, dim=8)
    with pytest.raises(ConfigError, match="dim"):
        VectorQuantizer(codebook_size=64)
    with pytest.raises(ConfigError, match="-1"):
        VectorQuantizer(codebook_size=64, dim=-1)
    for given in (VectorQuantizerConfig(codebook_size=64, dim=8), 64):
        with pytest.raises(TypeError, match="codebook_size"):
            VectorQuantizer(given)


def test_parts_are_given_as_configurations() -> None:
    with pytest.raises(TypeError, match=r"quantizer=VectorQuantizer"):
        ResidualQuantizer(num_levels=2, quantizer=VectorQuantizer(codebook_size=16, dim=8))


@pytest.mark.parametrize("training", [True, False])
@every
def test_indices_that_are_no_codes_are_refused(quantizer_class: type[Bottleneck], training: bool) -> None:
    quantizer = quantizer_class(**DIRECT[quantizer_class]).train(training)
    if not isinstance(quantizer, Quantizer):
        return
    indices = quantizer(torch.zeros(2, 4, 4, 8)).indices
    quantizer.lookup(indices)
    for wrong in (-1, 3**8):
        with pytest.raises(TokenError, match=str(wrong)):
            quantizer.lookup(torch.full_like(indices, wrong))
    with pytest.raises(TokenError, match="float32"):
        quantizer.lookup(indices.float())


def test_a_model_of_ones_own_trains() -> None:
    torch.manual_seed(0)
    encoder, decoder = torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.ConvTranspose2d(8, 3, 4, stride=4)
    model = torch.nn.ModuleList([encoder, VectorQuantizer(codebook_size=64, dim=8, ema=EmaConfig(decay=0.9)), decoder])
    images, optimizer = torch.rand(8, 3, 16, 16), torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        quantized = model[1].quantize_channels_first(encoder(images))
        loss = (decoder(quantized.latents) - images).square().mean() + sum(quantized.losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_indices_with_too_few_chunks_are_refused() -> None:
    with pytest.raises(TokenError, match=r"\(2, 3\)"):
        BinaryQuantizer(dim=4, chunks=(2, 2)).lookup(torch.zeros(2, 3, dtype=torch.int64))


PAGE = (Path(__file__).parents[2] / "docs" / "quantizers.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+\(.*?\))` \| `(\w+\(.*\))` \|$", PAGE, flags=re.MULTILINE)


def test_the_table_of_the_documentation_is_found() -> None:
    assert len(ROWS) >= 16


@pytest.mark.parametrize(("there", "here"), ROWS)
def test_there_and_here_give_the_same_shapes(there: str, here: str) -> None:
    quantizer = eval(here, dict(vars(visiontok.quantizers)))
    latents = torch.randn(2, 6, quantizer.input_dim, generator=torch.Generator().manual_seed(0))
    found = quantizer(latents)
    assert found.latents.shape == latents.shape
    peers = pytest.importorskip("vector_quantize_pytorch")
    peer = eval(there, dict(vars(peers)))
    quantized, indices = peer(latents)[:2]
    assert found.latents.shape == quantized.shape
    expected = indices.movedim(0, -1) if there.startswith("Grouped") else indices
    assert found.indices.shape == expected.shape
    if "levels=" in here and "Residual" not in here:  # nothing random: the same codes, which it numbers alike
        torch.testing.assert_close(found.latents.detach(), quantized.detach())
        assert torch.equal(found.indices, indices.long())
