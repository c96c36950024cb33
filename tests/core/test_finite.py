"""NaN and infinity are errors that name the stage and the sample, wherever numbers become tokens or signals."""

import contextlib
import math

import pytest
import torch

import visiontok
from visiontok.base import finite
from visiontok.base.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from visiontok.base.noise import SampleNoise
from visiontok.core.identity import identify
from visiontok.data import open_source
from visiontok.data.tokenizing import tokenize_source
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.generators.condition import Condition
from visiontok.generators.decoding import guide, sample_categorical
from visiontok.hub.loading import verify_model
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


def overflow(module: torch.nn.Module) -> None:
    """Weights that are finite and whose outputs are not."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1e30)


@pytest.mark.parametrize("quantizer", [{"type": "vq", "codebook_size": 64, "dim": 8}, {"type": "gaussian", "dim": 8}], ids=["tokens", "latents"])
def test_an_encoder_that_gives_nan_writes_nothing(quantizer, tmp_path):
    model = titok(quantizer=quantizer)
    overflow(model.encoder)
    with pytest.raises(NonFiniteError, match="sample 0"):
        model.encode(torch.rand(2, 3, 16, 16))
    with pytest.raises((NonFiniteError, DataError)):
        tokenize_source(open_source("digits:test"), model, tmp_path / "set", identity=identify(model, "damaged"))
    assert not list((tmp_path / "set").glob("*.parquet"))


@pytest.mark.parametrize("family", ["titok", "gpt"])
def test_weights_are_looked_at_once_and_again_when_they_change(family, monkeypatch):
    model = titok() if family == "titok" else visiontok.create("gpt", layout=titok().layout, dim=16, depth=1, num_heads=2).eval()
    looks = []
    monkeypatch.setattr(finite, "check_finite_weights", lambda model: looks.append(type(model).__name__))
    use = (lambda: model.decode(model.encode(torch.rand(1, 3, 16, 16)))) if family == "titok" else (lambda: model.generate(num_samples=1))
    use()
    once = list(looks)
    use()
    assert looks == once
    model.load_state_dict(model.state_dict())
    use()
    assert looks == 2 * once


def hidden(model: torch.nn.Module) -> list[str]:
    """The tensors of a model whose first number can be NaN without an error."""
    found, images = [], torch.rand(2, 3, 16, 16)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.numel():
            before = tensor.flatten()[0].item()
            tensor.view(-1)[0] = math.nan
            with contextlib.suppress(NonFiniteError):
                model.encode(images)
                found.append(name)
            tensor.view(-1)[0] = before
    return found


@pytest.mark.parametrize("tokens", [1, 2, 8])
@pytest.mark.parametrize("quantizer", [{}, {"ema": {}}, {"normalize_codes": True}], ids=["vq", "ema", "cosine"])
def test_no_damaged_weight_gives_tokens(tokens, quantizer):
    """Attention over a few keys makes numbers of NaN, and the search for the nearest code takes it for the best score."""
    model = titok(num_latent_tokens=tokens, quantizer={"type": "vq", "codebook_size": 64, "dim": 8, **quantizer})
    assert hidden(model) == []


def test_damaged_weights_do_not_decode_nor_are_evaluated_or_verified(tmp_path):
    model = titok(num_latent_tokens=2)
    tokens = model.encode(torch.rand(2, 3, 16, 16))
    with torch.no_grad():
        model.decoder.blocks[0].attn.qkv.weight[0, 0] = math.nan
    for use in (lambda: model.decode(tokens), lambda: model.encode(torch.rand(1, 3, 16, 16)), lambda: model(torch.rand(1, 3, 16, 16))):
        with pytest.raises(NonFiniteError, match=r"decoder\.blocks\.0\.attn\.qkv\.weight"):
            use()
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"decoder\.blocks\.0\.attn\.qkv\.weight"):
        verify_model(tmp_path / "model")
    suite = Suite.parse({"name": "s", "data": {"name": "shapes", "size": 16, "num_samples": 2, "max_objects": 1}, "metrics": ["psnr"], "size": 16})
    with pytest.raises(NonFiniteError, match="weight"):
        evaluate_suite(suite, model, name="damaged")


def test_a_quantizer_alone_refuses_a_damaged_codebook():
    quantizer = VectorQuantizerConfig(codebook_size=4, dim=2).build().eval()
    with torch.no_grad():
        quantizer.codebook[1, 0] = math.nan
    with pytest.raises(NonFiniteError, match="codebook"):
        quantizer(torch.zeros(3, 4, 2))


def test_a_decoder_that_gives_nan_gives_no_images():
    model = titok()
    tokens = model.encode(torch.rand(2, 3, 16, 16))
    overflow(model.decoder)
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


def test_text_embeddings_with_nan_are_refused():
    layout = TokenLayout(modality="image", segments=(Segment(name="latents", shape=(4,), vocab_size=16),), signal_shape=(16, 16))
    text = {"type": "text", "text": {"length": 3, "dim": 4, "encoder": {"type": "hashed_words"}}}
    generator = visiontok.create("gpt", layout=layout, condition=text, dim=16, depth=1, num_heads=2).eval()
    embeddings = torch.zeros(2, 3, 4)
    embeddings[1, 2, 0] = math.nan
    with pytest.raises(NonFiniteError, match="sample 1"):
        generator.generate(Condition(text=embeddings))
