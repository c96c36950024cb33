"""What Selftok promises beside parity: any prefix, reproducible images, an autoencoder that comes later, training of both decoders."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from decoding_checks import assert_lengths_share_a_batch, assert_noise_follows_from_tokens_or_is_given
from family_checks import changed

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError, TokenError
from visiontok.decoders.flow.guidance import ClassifierFree
from visiontok.decoders.flow.sampling import FlowSampling
from visiontok.registry import checkpoints
from visiontok.tokenizers.image.selftok.model import Selftok, SelftokConfig
from visiontok.tokenizers.shared.flow_tokenizer import FlowOptions

FLOW = {"type": "flow", "visible": {"stages": [400, 1000], "tokens_per_stage": [5, 3]}, "steps": 4}
SIZES = {
    "image_size": 8,
    "latent_stride": 1,
    "channels": 3,
    "num_tokens": 8,
    "encoder": {"depth": 2, "dim": 16, "num_heads": 2, "query_dim": 16, "query_num_heads": 2},
    "quantizer": {"codebook_size": 32, "dim": 4, "num_positions": 8},
    "decoder": {"dim": 16, "depth": 2, "num_heads": 2},
    "decoding": FLOW,
}
ONE_STEP = {**SIZES, "decoding": {"type": "one_step"}}
REFERENCE = Path(__file__).parents[2] / "reference" / "selftok"


def make(**sizes) -> Selftok:
    torch.manual_seed(0)
    model = visiontok.create("selftok", **sizes).eval()
    for parameter in model.parameters():  # nothing may stay at its zero start
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def model() -> Selftok:
    return make(**SIZES)


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_lengths_share_a_batch(model):
    mixed = assert_lengths_share_a_batch(model, images(), torch.tensor([1, 8, 5]))
    assert not torch.allclose(mixed[0], model.decode(model.encode(images()))[0])


def test_hidden_tokens_are_ignored(model):
    """A step sees the first tokens alone, whatever the others are, in a batch of one length and of several."""
    decoder, codes = model.decoder, torch.randn(2, 8, 4)
    noise, times = torch.randn(2, *model.config.grid), torch.tensor([0.9, 0.1])
    other = codes.clone()
    other[0, 6:], other[1, 2:] = torch.randn(2, 4), torch.randn(6, 4)
    for lengths in (torch.tensor([6, 2]), torch.tensor([2, 2])):
        seen = [decoder(noise, times, decoder.trunk.context(these), lengths)[-1] for these in (codes, other)]
        torch.testing.assert_close(seen[0], seen[1])
    assert not torch.allclose(decoder(noise, times, decoder.trunk.context(codes))[-1], decoder(noise, times, decoder.trunk.context(other))[-1])


def test_decoding_is_reproducible_and_takes_noise(model):
    assert_noise_follows_from_tokens_or_is_given(model, images(), torch.randn(3, 8, 8, 3, generator=torch.Generator().manual_seed(2)))


def test_steps_and_guidance_can_be_chosen_for_one_call(model):
    tokens = model.encode(images())
    plain = model.decode(tokens)
    assert not torch.equal(model.decode_with(tokens, FlowOptions(sampling=FlowSampling(steps=2))), plain)
    guided = [model.decode_with(tokens, FlowOptions(sampling=FlowSampling(steps=4, guidance=ClassifierFree(scale=scale)))) for scale in (1.0, 3.0)]
    torch.testing.assert_close(guided[0], plain)
    assert not torch.allclose(guided[1], plain, atol=1e-3)


def test_half_the_precision_decodes_about_the_same():
    model = make(**SIZES)
    tokens = model.encode(images())
    expected = model.decode(tokens)
    assert float((model.to(torch.bfloat16).decode(tokens).float() - expected).abs().mean()) < 0.02


def test_generators_are_to_write_the_last_token_first(model):
    assert model.layout.generation_order.tolist() == [7, 6, 5, 4, 3, 2, 1, 0]


def test_the_renderer_needs_every_token_and_no_noise():
    model = make(**ONE_STEP)
    tokens = model.encode(images())
    assert torch.equal(model.decode(tokens), model(images()).reconstruction.clamp(0, 1))
    assert not model.is_stochastic
    assert torch.equal(model.decode(tokens, noise=torch.Generator().manual_seed(0)), model.decode(tokens))
    with pytest.raises(TokenError):
        tokens.prefix(4)
    with pytest.raises(TokenError, match="steps"):
        model.decode_with(tokens, FlowOptions(sampling=FlowSampling(steps=3)))


def test_an_autoencoder_can_come_later(tmp_path):
    sizes = {**SIZES, "image_size": 16, "latent_stride": 2, "channels": 4}
    model = make(**sizes)
    images = torch.rand(2, 3, 16, 16)
    with pytest.raises(ConfigError, match="sd3-vae"):
        model.encode(images)
    vae = {"image_size": 16, "channels": (4, 4), "norm_groups": 2, "num_res_blocks": 1, "bottleneck": {"dim": 4, "scale": 1.5, "shift": 0.1}}
    tokens = model.attach(visiontok.create("kl-vae", **vae)).encode(images)
    assert model.decode(tokens).shape == images.shape
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert torch.equal(loaded.decode(loaded.encode(images)), model.decode(tokens))
    with pytest.raises(ConfigError, match="stride"):
        make(**SIZES).attach(visiontok.create("kl-vae", **vae))
    model.train()(images).losses["flow"].backward()
    assert all(parameter.grad is None for parameter in model.vae.parameters())


@pytest.mark.parametrize("sizes", [SIZES, ONE_STEP], ids=["flow", "one_step"])
def test_the_loss_falls(sizes):
    model = make(**sizes).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    plain = torch.rand(16, 3, 1, 1, generator=torch.Generator().manual_seed(1)).expand(-1, -1, 8, 8)
    before, losses = copy.deepcopy(model.state_dict()), []
    for _ in range(60):
        terms = model(plain).losses
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        losses.append((terms["flow"] if "flow" in terms else terms["latents"]).item())
    assert sum(losses[-15:]) < 0.8 * sum(losses[:15])
    assert all(parameter.grad is not None for parameter in trained)
    moved = {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == ({"encoder", "quantizer", "decoder"} if sizes is SIZES else {"decoder"})


def test_configuration_round_trip(model):
    assert SelftokConfig.parse(json.loads(json.dumps(model.config.to_dict()))) == model.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 3}, "divide"),
        ({"num_tokens": 9}, "positions"),
        ({"decoding": {**FLOW, "visible": {"stages": [1000], "tokens_per_stage": [7]}}}, "sum"),
        ({"encoder": {**SIZES["encoder"], "query_num_heads": 3}}, "heads"),
        ({"decoder": {**SIZES["decoder"], "num_heads": 3}}, "heads"),
    ],
)
def test_sizes_that_do_not_fit(change, message):
    with pytest.raises(ConfigError, match=message):
        visiontok.create("selftok", **{**SIZES, **change})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("surprise", 1, "surprise"),
        ("tokenizer/surprise", 1, "surprise"),
        ("tokenizer/params/surprise", 1, "surprise"),
        ("tokenizer/params/enc", "Enc-Other", "Enc-Other"),
        ("tokenizer/params/model", "MMDiT_Other", "MMDiT_Other"),
        ("tokenizer/params/encoder_config/qk_norm", True, "qk_norm"),
        ("tokenizer/params/quantizer_config/continuous", True, "continuous"),
        ("tokenizer/params/quantizer_config/K", 7, "quantizer_config.K"),
        ("tokenizer/params/decoder_config/time_adaln", "time", "time_adaln"),
        ("tokenizer/params/stages", "half", "half"),
        ("tokenizer/params/k", None, "'k'"),
    ],
)
def test_only_what_is_known_is_read(path, value, message):
    config = json.loads((REFERENCE / "decoder_tiny" / "config.json").read_text())
    with pytest.raises(ConfigError, match=message):
        Selftok.config_from_reference(changed(config, path, value), {})


def test_tensors_without_a_place_are_listed():
    config = json.loads((REFERENCE / "decoder_tiny" / "config.json").read_text())
    with pytest.raises(CheckpointError, match="surprise"):
        visiontok.from_reference("selftok", config, {"encoder.surprise.weight": torch.zeros(1)})


@pytest.mark.parametrize(("name", "count"), [("selftok-512", 84_064_400), ("selftok-512-renderer", 84_064_400)])
def test_the_released_encoder_has_the_authors_size(name, count):
    """With what their last block holds and never uses, their two unused norms, and the norm that is the decoder's here."""
    with torch.device("meta"):
        model = visiontok.create(name)
    last = [module for module in (model.encoder.blocks[0].attn, model.encoder.blocks[0].mlp) if module is not None]
    ours = sum(parameter.numel() for module in (model.encoder, *last) for parameter in module.parameters())
    assert ours + 2 * 512 + 4 * 16 == count
    assert checkpoints()[name][1].tokens == 512


def linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def released_shapes() -> dict[str, tuple[int, ...]]:
    """tokenizer_512_ckpt.pth, as the authors' code builds it."""
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.pos_embed": (1, 4096, 64), "encoder.query_tokens": (1, 512, 512), "encoder.x_embedder.proj.weight": (64, 16, 2, 2),
        "encoder.x_embedder.proj.bias": (64,), "encoder.quantizer.continuous": (1,), "encoder.quantizer.steps": (1,),
        "encoder.quantizer.count": (1, 32768), **linear("encoder.quantizer.project_in", 16, 512), "model.pos_embed": (1, 36864, 1536),
        "model.context_pos_embed": (1, 512, 1536), "model.x_embedder.proj.weight": (1536, 16, 2, 2), "model.x_embedder.proj.bias": (1536,),
        **linear("model.t_embedder.mlp.0", 1536, 256), **linear("model.t_embedder.mlp.2", 1536, 1536), **linear("model.y_embedder.mlp.0", 1536, 16),
        **linear("model.y_embedder.mlp.2", 1536, 1536), **linear("model.context_embedder", 1536, 16), **linear("model.final_layer.linear", 64, 1536),
        **linear("model.final_layer.adaLN_modulation.1", 3072, 1536),
    }  # fmt: skip
    for norm, width in (("final_layer_norm", 512), ("final_layer_norm2", 16), ("final_layer_norm3", 16)):
        shapes |= {f"encoder.{norm}.{part}": (width,) for part in ("weight", "bias")}
    codebook = {"initted": (1,), "tpc_initted": (1,), "cluster_size": (1, 32768), "cluster_size_wo_react": (1, 32768), "embed": (1, 32768, 16),
                "embed_avg": (1, 32768, 16), "timestep_p_over_c": (1, 512, 32768)}  # fmt: skip
    shapes |= {f"encoder.quantizer._codebook.{name}": shape for name, shape in codebook.items()}
    shapes |= {f"diffusion.{name}": (100,) for name in ("timestep_map", "scheduled_t", "scheduled_t_prev", "one_minus_scheduled_t")}
    layers = {"attn.qkv": (192, 64), "attn.to_query_kv": (1024, 64), "attn.query_linear": (1536, 512), "attn.proj": (64, 64),
              "attn.query_proj": (512, 512), "mlp.fc1": (256, 64), "mlp.fc2": (64, 256), "q_mlp.fc1": (2048, 512), "q_mlp.fc2": (512, 2048),
              "adaLN_modulation.1": (3072, 512), "t_embedder.mlp.0": (512, 256), "t_embedder.mlp.2": (512, 512)}  # fmt: skip
    for block in range(16):
        for name, (rows, columns) in layers.items():
            shapes |= linear(f"encoder.blocks.{block}.{name}", rows, columns)
    stream = {
        "attn.qkv": (4608, 1536),
        "attn.proj": (1536, 1536),
        "mlp.fc1": (6144, 1536),
        "mlp.fc2": (1536, 6144),
        "adaLN_modulation.1": (9216, 1536),
    }
    place = {"t_embedder.mlp.0": (1536, 256), "t_embedder.mlp.2": (1536, 1536)}
    last = {"attn.qkv": (4608, 1536), "adaLN_modulation.1": (3072, 1536)}
    for block in range(24):
        context = {**(last if block == 23 else stream), **place}
        for side, parts in (("x", stream), ("context", context)):
            for name, (rows, columns) in parts.items():
                shapes |= linear(f"model.joint_blocks.{block}.{side}_block.{name}", rows, columns)
    return shapes


def test_the_released_names_all_have_their_place():
    state = {name: torch.empty(shape, device="meta") for name, shape in released_shapes().items()}
    config = checkpoints()["selftok-512"][1].reference_config
    with torch.device("meta"):
        model = visiontok.from_reference("selftok", config, state)
    assert model.layout.length == 512
    encoder = sum(tensor.numel() for name, tensor in state.items() if name.startswith("encoder.") and "quantizer._" not in name)
    decoder = sum(tensor.numel() for name, tensor in state.items() if name.startswith("model.") and not name.endswith("pos_embed"))
    assert encoder / 1e6 == pytest.approx(84.3, abs=0.1)
    assert decoder / 1e6 == pytest.approx(2085.1, abs=0.1)
