from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_checks import assert_round_trips, trained_generator
from small_models import SMALL
from torch import Tensor
from torch.nn import functional as F

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError, SignalError, TokenError
from visiontok.base.noise import SampleNoise
from visiontok.core.keymap import KeyMap
from visiontok.registry import checkpoints
from visiontok.tokenizers.video.divot.detokenizer import DetokenizerConfig, DiffusionSampling, new_scheduler, rescaled
from visiontok.tokenizers.video.divot.model import DiffusionOptions, Divot, DivotConfig
from visiontok.tokenizers.video.divot.reference import ENCODER_KEYS, RESAMPLER_KEYS, convert_unet, unet_keys
from visiontok.training import parse_recipe, train

RECORDED = Path(__file__).parent / "divot_unet.json"
ENCODER_ALONE = {"detokenizer": None, "vae": None}


def model(**changes: object) -> Divot:
    torch.manual_seed(0)
    built = Divot(DivotConfig.parse({**SMALL["divot"], **changes})).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)  # gates and last layers begin at zero
    return built


def clips(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1))


def test_clips_become_latents_and_clips_again() -> None:
    tokenizer = model()
    latents = tokenizer.encode(clips())
    assert latents.values.shape == (2, 6, 8)
    assert latents.layout == tokenizer.layout
    decoded = tokenizer.decode(latents)
    assert decoded.shape == clips().shape
    assert 0 <= float(decoded.min()) <= float(decoded.max()) <= 1
    assert torch.equal(decoded, tokenizer.decode(latents))


def test_what_is_drawn_does_not_depend_on_the_batch() -> None:
    tokenizer = model()
    latents = tokenizer.encode(clips(3))
    drawn = tokenizer.decode(latents, noise=SampleNoise(0, range(3)))
    assert not torch.allclose(drawn, tokenizer.decode(latents))
    torch.testing.assert_close(tokenizer.decode(latents[1:2], noise=SampleNoise(0, [1])), drawn[1:2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(tokenizer.decode(latents[1:2]), tokenizer.decode(latents)[1:2], atol=1e-4, rtol=1e-4)


def test_steps_and_guidance_can_be_chosen() -> None:
    tokenizer = model()
    latents = tokenizer.encode(clips())
    usual = tokenizer.decode(latents)
    chosen = DiffusionOptions(sampling=DiffusionSampling(steps=2, guidance=1.0))
    assert not torch.allclose(tokenizer.decode_with(latents, chosen), usual)
    assert torch.equal(tokenizer.decode_with(latents, DiffusionOptions(sampling=DiffusionSampling(steps=3))), usual)


def test_an_encoder_alone_encodes_as_the_whole_does_and_decodes_nothing() -> None:
    whole, alone = model(), model(**ENCODER_ALONE)
    for part in ("encoder", "clip"):
        getattr(alone, part).load_state_dict(getattr(whole, part).state_dict())
    latents = alone.encode(clips())
    assert torch.equal(latents.values, whole.encode(clips()).values)
    assert not alone.can_decode
    assert not alone.is_stochastic
    assert alone(clips()).reconstruction is None
    with pytest.raises(TokenError, match="only encodes"):
        alone.decode(latents)
    with pytest.raises(ConfigError, match="detokenizer"):
        alone.train()(clips())


def test_some_frames_are_read() -> None:
    tokenizer = model(**ENCODER_ALONE)
    assert DivotConfig().frames_read == (0, 4, 8, 12, 15)
    assert tokenizer.config.frames_read == (0, 2, 3)
    before = tokenizer.encode(clips()).values
    for frame, is_read in enumerate((True, False, True, True)):
        changed = clips()
        changed[:, :, frame] = 1 - changed[:, :, frame]
        assert torch.equal(tokenizer.encode(changed).values, before) != is_read


def test_clips_of_another_length_are_refused() -> None:
    with pytest.raises(SignalError, match="5 frames"):
        model(**ENCODER_ALONE).encode(torch.rand(1, 3, 5, 16, 16))


def test_features_are_those_of_clip_without_its_last_norm() -> None:
    tokenizer = model(**ENCODER_ALONE)
    image = clips()[:, :, 0]
    resized = F.interpolate(image * 2 - 1, size=(28, 28), mode="bicubic", align_corners=True) / 2 + 0.5
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    network = tokenizer.clip.network
    x = network.embeddings((resized - mean[:, None, None]) / std[:, None, None])
    hidden = network.encoder(inputs_embeds=network.pre_layrnorm(x)).last_hidden_state
    torch.testing.assert_close(tokenizer.clip(image).flatten(1, 2), hidden[:, 1:], atol=1e-5, rtol=1e-5)


def test_clip_and_autoencoder_are_not_trained() -> None:
    tokenizer = model().train()
    assert not tokenizer.clip.network.training
    learned = {name.partition(".")[0] for name, parameter in tokenizer.named_parameters() if parameter.requires_grad}
    assert learned == {"encoder", "detokenizer"}


def test_the_unet_is_that_of_the_authors() -> None:
    """Recorded from the authors' U-Net of two levels, with weights and inputs that follow from their names."""
    recorded = json.loads(RECORDED.read_text())
    context = {"dim": 32, "depth": 1, "num_heads": 2, "head_dim": 8, "num_latents": 80, "output_dim": 24}
    config = DetokenizerConfig.parse({"channels": [32, 64], "layers_per_level": 1, "attention_levels": [0], "head_dim": 16, "context": context})
    unet = config.unet(4).eval()
    unet.load_state_dict(convert_unet({name: drawn(name, shape) for name, shape in recorded["shapes"].items()}, config, frame_rate=3))
    x, tokens = drawn("x", (2, 4, 3, 4, 4)) * 20, drawn("context", (2, 80, 24)) * 20
    with torch.no_grad():
        found = unet(x, torch.tensor([3, 981]), encoder_hidden_states=tokens).sample
    torch.testing.assert_close(found, torch.tensor(recorded["output"]).view(found.shape), atol=1e-4, rtol=0)
    with pytest.raises(CheckpointError, match="no_such"):
        convert_unet({"input_blocks.9.0.op.weight": torch.zeros(1), "no_such": torch.zeros(1)}, config, frame_rate=3)


def drawn(name: str, shape: Any) -> Tensor:
    values = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(zlib.crc32(name.encode())), dtype=torch.float32) * 0.05
    return values + 1 if len(shape) == 1 and name.endswith("weight") else values


def test_the_authors_files_become_one_model() -> None:
    """Encoder, context, U-Net and autoencoder in the names of the de-tokenizer's file, CLIP in those of its own, and what both hold besides."""
    config = json.loads(json.dumps(checkpoints()["divot-stage1"][1].reference_config))
    config["clip"] = SMALL["divot"]["clip"]
    config["visual_encoder"] |= {"input_dim": 16, "hidden_size": 32, "width": 12, "temporal_depth": 1, "transformer_depth": 1, "resampler_depth": 1}
    config["visual_encoder"] |= {"down_num_tokens": 6, "resampler_dim": 8}
    decoder = config["video_detokenizer"]
    decoder["diffusion_model"] |= {"model_channels": 32, "channel_mult": [1, 2], "attention_resolutions": [1], "num_res_blocks": 1, "context_dim": 24}
    decoder["diffusion_model"]["num_head_channels"] = 16
    decoder["first_stage_model"]["ddconfig"] |= {"ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1}
    decoder["image_proj_model"] |= {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8, "embedding_dim": 8, "output_dim": 24}
    ours = Divot(Divot.config_from_reference(config, {}))
    assert ours.config.detokenizer is not None
    state = in_their_names(ours.encoder, ENCODER_KEYS, "video_tokenizer.")
    state |= in_their_names(ours.detokenizer.context, RESAMPLER_KEYS, "image_proj_model.")
    state |= in_their_names(ours.detokenizer.unet, unet_keys(ours.config.detokenizer), "diffusion_model.")
    state |= {f"first_stage_model.{name}": tensor for name, tensor in ours.vae.state_dict().items()}
    state |= {f"clip.vision_model.{name}": tensor for name, tensor in ours.clip.network.state_dict().items()}
    shift = torch.randn(128)
    state |= {f"diffusion_model.fps_embedding.{number}.weight": torch.zeros(128, width) for number, width in ((0, 32), (2, 128))}
    state |= {"diffusion_model.fps_embedding.0.bias": torch.zeros(128), "diffusion_model.fps_embedding.2.bias": shift}
    state |= {"clip.logit_scale": torch.zeros(()), "clip.text_model.final_layer_norm.bias": torch.zeros(2), "betas": torch.zeros(1000)}
    state |= {"diffusion_model.alphas_cumprod": torch.zeros(1000), "video_tokenizer.vit_model.model.logit_scale": torch.zeros(())}
    loaded = visiontok.from_reference("divot", config, state)
    bias = "detokenizer.unet.time_embedding.linear_2.bias"
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor + shift if name == bias else tensor, rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="agent"):
        visiontok.from_reference("divot", config, {**state, "agent.proj.weight": torch.zeros(1)})


def in_their_names(module: torch.nn.Module, keys: KeyMap, prefix: str) -> dict[str, Tensor]:
    back = KeyMap({ours: theirs for theirs, ours in keys.patterns.items() if ours is not None})(module.state_dict())
    for name, tensor in back.items():
        if name.rpartition(".")[2] == "latents":
            back[name] = tensor[None]
        elif name in ("init_attn.0.proj_in.weight", "init_attn.0.proj_out.weight"):
            back[name] = tensor[..., None]
    return {prefix + name: tensor for name, tensor in back.items()}


def test_the_diffusion_ends_without_signal_and_takes_the_published_steps() -> None:
    scheduler = new_scheduler()
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))
    assert float(scheduler.alphas_cumprod[-1]) == pytest.approx(0, abs=1e-12)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = (1 - betas).cumprod(0).sqrt()
    expected = ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])) ** 2
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), expected, atol=1e-5, rtol=1e-4)


def test_rescaled_guidance_has_the_deviation_of_the_prediction_with_tokens() -> None:
    guided, given = 5 * torch.randn(2, 4, 3, 4, 4), torch.randn(2, 4, 3, 4, 4)
    whole = rescaled(guided, given, 1.0)
    torch.testing.assert_close(whole.flatten(1).std(dim=1), given.flatten(1).std(dim=1))
    torch.testing.assert_close(rescaled(guided, given, 0.7), 0.7 * whole + 0.3 * guided)


def test_training_lowers_the_error_of_the_denoiser() -> None:
    tokenizer = model().train()
    signals = clips(2)
    optimizer = torch.optim.Adam([parameter for parameter in tokenizer.parameters() if parameter.requires_grad], lr=5e-3)
    losses = []
    for step in range(16):
        output = tokenizer(signals, step=step, noise=SampleNoise((0, step % 2), range(2)))
        optimizer.zero_grad()
        output.losses["denoising"].backward()
        optimizer.step()
        losses.append(output.losses["denoising"].item())
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    assert tokenizer.encoder.temporal.proj_in.weight.grad.abs().sum() > 0


def test_a_recipe_trains_it_and_its_latents_train_a_mixture(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for number, clip in enumerate(clips(8)):
        np.save(tmp_path / "clips" / f"{number}.npy", clip.numpy())
    signals = {"source": {"name": "arrays", "path": str(tmp_path / "clips"), "modality": "video"}, "size": [4, 16, 16]}
    run = {
        "steps": 2,
        "batch_size": 4,
        "data": signals,
        "model": {"family": "divot", "config": SMALL["divot"]},
        "objective": {"name": "model_losses"},
    }
    train(parse_recipe({**run, "kind": "tokenizer", "output": str(tmp_path / "run")}))
    trained = visiontok.from_pretrained(tmp_path / "run")
    small = {"dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8, "mixture_head": {"num_components": 2}}
    generator = trained_generator(tmp_path / "gpt", tmp_path / "run", signals, {"family": "gpt", "config": small})
    written = generator.generate(num_samples=2)
    assert trained.decode(written).shape == (2, 3, 4, 16, 16)


def test_files_and_configuration_come_back(tmp_path: Path) -> None:
    assert_round_trips(model(), clips(), tmp_path)


def test_the_released_encoder_has_the_published_size() -> None:
    with torch.device("meta"):
        released = visiontok.create("divot-tokenizer")
    assert sum(parameter.numel() for parameter in released.encoder.parameters()) / 1e6 == pytest.approx(171.6, abs=0.05)
    assert released.layout.segments[0].shape == (64,)
    assert released.layout.signal_shape == (16, 256, 256)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("visual_encoder/st_num_tokens", 64),
        ("visual_encoder/no_such_key", 1),
        ("video_detokenizer/diffusion_model/use_linear", False),
        ("video_detokenizer/diffusion_model/transformer_depth", 2),
        ("video_detokenizer/image_proj_model/embedding_dim", 128),
        ("video_detokenizer/first_stage_model/ddconfig/out_ch", 1),
        ("video_detokenizer/timestep_spacing", "uniform_trailing"),
    ],
)
def test_configurations_of_no_release_are_refused(path: str, value: object) -> None:
    config = json.loads(json.dumps(checkpoints()["divot-stage1"][1].reference_config))
    *parents, last = path.split("/")
    node = config
    for parent in parents:
        node = node[parent]
    node[last] = value
    with pytest.raises(ConfigError, match=last):
        Divot.config_from_reference(config, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"num_frames": 8},
        {"vae": None},
        {"image_size": 15},
        {"encoder": {**SMALL["divot"]["encoder"], "num_heads": 3}},
        {"detokenizer": {**SMALL["divot"]["detokenizer"], "first_tokens": 5}},
        {"detokenizer": {**SMALL["divot"]["detokenizer"], "attention_levels": [2]}},
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        model(**changes)
