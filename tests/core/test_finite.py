"""NaN and infinity are errors that name the stage and the sample, wherever numbers become tokens or signals."""

import math

import pytest
import torch

import visiontok
from visiontok.base.errors import ConfigError, DataError, NonFiniteError
from visiontok.base.noise import SampleNoise
from visiontok.core.identity import identify
from visiontok.data import open_source
from visiontok.data.tokenizing import tokenize_source
from visiontok.generators.decoding import guide, sample_categorical
from visiontok.quantizers import BinaryQuantizerConfig, FiniteScalarQuantizerConfig, ResidualQuantizerConfig, VectorQuantizerConfig
from visiontok.tokens import Segment, TokenLayout

SIZES = {"dim": 32, "depth": 1, "num_heads": 2, "patch_size": 8}


def titok(**changes):
    torch.manual_seed(0)
    quantizer = {"type": "vq", "codebook_size": 64, "dim": 8}
    return visiontok.create(
        "titok", **{"image_size": 16, "num_latent_tokens": 8, "encoder": SIZES, "decoder": SIZES, "quantizer": quantizer, **changes}
    ).eval()


def damage(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.view(-1)[0] = float("nan")


@pytest.mark.parametrize("quantizer", [{"type": "vq", "codebook_size": 64, "dim": 8}, {"type": "gaussian", "dim": 8}], ids=["tokens", "latents"])
def test_an_encoder_that_gives_nan_writes_nothing(quantizer, tmp_path):
    model = titok(quantizer=quantizer)
    damage(model.encoder)
    with pytest.raises(NonFiniteError, match="sample 0"):
        model.encode(torch.rand(2, 3, 16, 16))
    with pytest.raises((NonFiniteError, DataError)):
        tokenize_source(open_source("digits:test"), model, tmp_path / "set", identity=identify(model, "damaged"))
    assert not list((tmp_path / "set").glob("*.parquet"))


def test_a_decoder_that_gives_nan_gives_no_images():
    model = titok()
    tokens = model.encode(torch.rand(2, 3, 16, 16))
    damage(model.decoder)
    with pytest.raises(NonFiniteError, match="decoded"):
        model.decode(tokens)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "config",
    [
        FiniteScalarQuantizerConfig(levels=(8, 5)),
        VectorQuantizerConfig(codebook_size=4, dim=2),
        BinaryQuantizerConfig(dim=2),
        ResidualQuantizerConfig(num_levels=2, quantizer=VectorQuantizerConfig(codebook_size=4, dim=2)),
    ],
    ids=lambda config: config.type,
)
def test_quantizers_refuse_what_is_no_number(config, value):
    quantizer = config.build().eval()
    latents = torch.zeros(3, 4, 2)
    latents[1, 2, 0] = value
    with pytest.raises(NonFiniteError, match="sample 1"):
        quantizer(latents)


@pytest.mark.parametrize(
    "logits",
    [
        torch.tensor([[0.0, 1.0, 2.0], [0.0, math.nan, 0.0]]),
        torch.tensor([[0.0, 1.0, 2.0], [0.0, math.inf, 1.0]]),
        torch.tensor([[0.0, 1.0, 2.0], [-math.inf] * 3]),
        torch.cat([torch.zeros(1, 3), guide(torch.tensor([[-math.inf, 0.0, 9.0]]), torch.tensor([[-math.inf, 0.0, 0.0]]), 2.0)]),
    ],
    ids=["nan", "infinity", "nothing is possible", "infinities guided"],
)
def test_sampling_names_the_step_and_the_sample(logits):
    with pytest.raises(NonFiniteError, match=r"step 7.*sample 1"):
        sample_categorical(logits, SampleNoise(0, range(2)), step=7)


@pytest.mark.parametrize("family", ["gpt", "maskgit"])
def test_a_generator_with_a_damaged_weight_samples_nothing(family):
    layout = titok().layout
    sizes = {
        "gpt": {"dim": 16, "depth": 1, "num_heads": 2},
        "maskgit": {"backbone": {"type": "bert", "dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 32}},
    }
    generator = visiontok.create(family, layout=layout, **sizes[family]).eval()
    damage(generator)
    with pytest.raises(NonFiniteError, match="NaN"):
        generator.generate(num_samples=2, noise=SampleNoise(0, range(2)))


def test_temperatures_that_overflow_are_refused():
    generator = visiontok.create("gpt", layout=titok().layout, dim=16, depth=1, num_heads=2)
    with pytest.raises(ConfigError, match="1e-40"):
        generator.sampler(temperature=1e-40)


def test_generators_with_damaged_weights_do_not_sample_where_attention_hides_nan():
    layout = TokenLayout(modality="image", segments=(Segment(name="latents", shape=(8,), vocab_size=16),), signal_shape=(16, 16))
    sizes = {"dim": 16, "depth": 2, "num_heads": 2}
    for name, config in {"gpt": {**sizes, "multiple_of": 8}, "maskgit": {"backbone": {"type": "bert", **sizes, "mlp_dim": 32}}}.items():
        model = visiontok.create(name, layout=layout, **config).eval()
        damaged = next(parameter for key, parameter in model.named_parameters() if "blocks.1." in key)
        damaged.data.view(-1)[0] = float("nan")
        with pytest.raises(NonFiniteError, match=r"blocks\.1\."):
            model.generate(num_samples=2)
