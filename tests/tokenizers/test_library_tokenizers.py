"""Tokenizers whose networks come from transformers or diffusers, against direct calls of those classes with small random weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers
from diffusers import VQModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import Emu3VQVAE, Emu3VQVAEConfig
from transformers.models.glm_image import configuration_glm_image as glm_settings
from transformers.models.glm_image import modeling_glm_image as glm

import visiontok
from visiontok import registry
from visiontok.base.errors import CheckpointError, ConfigError, DependencyError, SignalError, TokenError
from visiontok.tokenizers.image.chameleon_vq.model import ChameleonVq
from visiontok.tokenizers.image.diffusers_vq.model import DiffusersVq
from visiontok.tokenizers.image.emu3_vq.model import Emu3Vq
from visiontok.tokenizers.image.glm_image_vq.model import MEAN, STD, GlmImageVq
from visiontok.tokenizers.image.janus_vq.model import JanusVq
from visiontok.tokenizers.video.emu3_vq_video.model import Emu3VqVideo

CONV = {"base_channels": 32, "channel_multiplier": (1, 2), "num_res_blocks": 1, "latent_channels": 8, "embed_dim": 4}
VQ_BLOCKS = {"down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"), "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D")}


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def chameleon() -> transformers.ChameleonVQVAE:
    torch.manual_seed(0)
    config = transformers.ChameleonVQVAEConfig(**CONV, num_embeddings=20, resolution=16)
    return spread(transformers.ChameleonVQVAE(config))


def janus() -> transformers.JanusVQVAE:
    torch.manual_seed(0)
    return spread(transformers.JanusVQVAE(transformers.models.janus.JanusVQVAEConfig(**CONV, num_embeddings=20, num_patches=8)))


def emu3() -> Emu3VQVAE:
    torch.manual_seed(0)
    config = Emu3VQVAEConfig(**{**CONV, "latent_channels": 4}, codebook_size=20, temporal_downsample_factor=4, hidden_size=64, attn_resolutions=(1,))
    network = spread(Emu3VQVAE(config))
    with torch.no_grad():  # its latents lie so close together that only codes among them are told apart
        latents = network.quant_conv(network.encoder(images(1, 8, 3, 16, 16)).transpose(1, 2)).movedim(1, -1).flatten(0, -2)
        network.quantize.embedding.weight.copy_(latents[:: len(latents) // 20][:20])
    return network


def vq_model(**options: object) -> VQModel:
    torch.manual_seed(0)
    sizes = {"block_out_channels": (32, 32), "layers_per_block": 1, "latent_channels": 3, "sample_size": 16}
    return spread(VQModel(**VQ_BLOCKS, **sizes, num_vq_embeddings=20, **{"vq_embed_dim": 5, **options}))


def spread(network: torch.nn.Module) -> torch.nn.Module:
    """Weights and codes large enough that latents of random networks find several codes."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.reset_parameters()
    network.quantize.embedding.weight.data.normal_(0, 0.5)
    return network.eval()


def wrapped(family: type, network: torch.nn.Module):
    config = network.config.to_dict() if hasattr(network.config, "to_dict") else dict(network.config)
    model = family.from_reference(config, network.state_dict())
    assert family.config_class.parse(model.config.to_dict()) == model.config
    return model


def assert_varied(indices: Tensor) -> None:
    assert len(indices.unique()) > 3


def test_chameleon_encodes_and_cannot_decode():
    network = chameleon()
    model = wrapped(ChameleonVq, network)
    tokens = model.encode(images(2, 3, 16, 16))
    found = network.encode(images(2, 3, 16, 16) * 255 * 0.0078 - 1)
    assert_varied(tokens.indices)
    assert torch.equal(tokens.view().flatten(), found.image_tokens)
    with pytest.raises(TokenError, match="ChameleonVq"):
        model.decode(tokens)


def test_the_losses_are_the_librarys():
    network = chameleon()
    model = wrapped(ChameleonVq, network)
    losses = model.quantizer(model.encode_latents(images(2, 3, 16, 16))).losses
    torch.testing.assert_close(sum(losses.values()), network.encode(images(2, 3, 16, 16) * 255 * 0.0078 - 1).embedding_loss)


def test_janus():
    network = janus()
    model = wrapped(JanusVq, network)
    tokens = model.encode(images(2, 3, 16, 16))
    found = network.encode(images(2, 3, 16, 16) * 2 - 1).image_tokens.view(2, -1)
    assert_varied(found)
    assert torch.equal(tokens.indices, found)
    torch.testing.assert_close(model.decode(tokens), ((network.decode(found) + 1) / 2).clamp(0, 1))
    assert model.decode(model.encode(images(1, 3, 8, 12))).shape == (1, 3, 8, 12)


def test_emu3_on_images():
    network = emu3()
    model = wrapped(Emu3Vq, network)
    tokens = model.encode(images(2, 3, 16, 12))
    with torch.no_grad():
        found = torch.stack(network.encode(images(2, 3, 16, 12) * 2 - 1, image_sizes=torch.tensor([[16, 12]] * 2)).image_tokens)
        decoded = network.decode(found)
    assert_varied(found)
    assert torch.equal(tokens.view(), found)
    torch.testing.assert_close(model.decode(tokens), ((decoded + 1) / 2).clamp(0, 1))


def test_emu3_on_clips():
    """transformers wants (B, T, 3, H, W), and its crop to `image_sizes`, meant for images, cuts rows off clips that are wider than high."""
    network = emu3()
    model = wrapped(Emu3VqVideo, network)
    clip = images(2, 3, 8, 16, 12)
    tokens = model.encode(clip)
    assert tokens.view().shape == (2, 2, 8, 6)
    assert tokens.layout.signal_shape == (8, 16, 12)
    with torch.no_grad():
        found = torch.stack(network.encode(clip.transpose(1, 2) * 2 - 1, image_sizes=torch.tensor([[16, 12]] * 2)).image_tokens)
        decoded = network.decode(tokens.view())
    assert_varied(tokens.indices)
    assert torch.equal(tokens.view()[:, :, : found.shape[2]], found)
    torch.testing.assert_close(model.decode(tokens), ((decoded.transpose(1, 2) + 1) / 2).clamp(0, 1))
    assert torch.equal(model.encode((clip[0] * 255).to(torch.uint8)).indices, model.encode((clip[:1] * 255).to(torch.uint8).float() / 255).indices)
    shorter = model.encode(clip[:, :, :6, :15, :11])
    assert shorter.view().shape == tokens.view().shape
    assert model.decode(shorter).shape == (2, 3, 6, 15, 11)
    with pytest.raises(SignalError):
        model.encode(clip[:, :2])


@pytest.mark.parametrize("options", [{}, {"norm_type": "spatial", "vq_embed_dim": 3}])
def test_diffusers_vq_model(options):
    network = vq_model(**options)
    model = wrapped(DiffusersVq, network)
    image = images(2, 3, 16, 16)
    tokens = model.encode(image)
    with torch.no_grad():
        latents = network.encode(image * 2 - 1).latents
        found = network.quantize(latents)[2][2].view(2, 8, 8)
        decoded = network.decode(latents).sample
    assert_varied(found)
    assert torch.equal(tokens.view(), found)
    torch.testing.assert_close(model.decode(tokens), ((decoded + 1) / 2).clamp(0, 1))


def glm_parts() -> tuple[torch.nn.Module, torch.nn.Module, dict]:
    torch.manual_seed(0)
    vision = glm.GlmImageVisionModel(
        glm_settings.GlmImageVisionConfig(depth=2, hidden_size=24, num_heads=2, image_size=32, patch_size=4, intermediate_size=32)
    ).eval()
    vq = spread(glm.GlmImageVQVAE(glm_settings.GlmImageVQVAEConfig(embed_dim=6, num_embeddings=20, latent_channels=24)))
    vision.embeddings.position_embedding.weight.data.normal_()
    return vision, vq, {"vq_config": vq.config.to_dict(), "vision_config": vision.config.to_dict()}


def test_glm_image_encodes_and_cannot_decode():
    vision, vq, config = glm_parts()
    weights = {f"model.visual.{key}": tensor for key, tensor in vision.state_dict().items()}
    weights |= {f"model.vqmodel.{key}": tensor for key, tensor in vq.state_dict().items()}
    model = GlmImageVq.from_reference(config, weights)
    image = images(2, 3, 16, 12)
    tokens = model.encode(image)

    processor = transformers.models.glm_image.image_processing_glm_image.GlmImageImageProcessor(
        patch_size=4, merge_size=1, temporal_patch_size=1, do_resize=False, do_rescale=False, image_mean=MEAN, image_std=STD
    )
    read = processor(list(image), return_tensors="pt", input_data_format="channels_first")
    with torch.no_grad():
        features = vision(read["pixel_values"], grid_thw=read["image_grid_thw"]).pooler_output
        found = vq.encode(features.view(2, 4, 3, -1).permute(0, 3, 1, 2)).image_tokens
    assert_varied(found)
    assert torch.equal(tokens.view().flatten(), found)
    with pytest.raises(TokenError, match="GlmImageVq"):
        model.decode(tokens)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vision_config": {"depht": 3}}, ["vision_config.depht", "vision_config.depth"]),
        ({"vision_config": {"spatial_merge_size": 2}}, ["spatial_merge_size"]),
        ({"vq_config": {"beta": 0.25}}, ["vq_config.beta"]),
        ({"vq_config": {"in_channels": 4}}, ["in_channels"]),
        ({"window_config": {"side": 8}}, ["window_config.side"]),
    ],
)
def test_every_key_of_a_whole_glm_image_model_is_known(changes, named):
    _, _, parts = glm_parts()
    whole = glm_settings.GlmImageConfig(**parts).to_dict()
    known = GlmImageVq.config_from_reference(whole, {})
    assert known == GlmImageVq.config_from_reference(parts, {})
    assert (known.vision.depth, known.vision.patch_size, known.num_embeddings) == (2, 4, 20)
    changed = {**whole, **{part: {**whole.get(part, {}), **values} for part, values in changes.items()}}
    with pytest.raises(ConfigError) as error:
        GlmImageVq.config_from_reference(changed, {})
    assert all(name in str(error.value) for name in named)


def test_both_parts_of_a_glm_image_model_are_required():
    _, _, parts = glm_parts()
    with pytest.raises(ConfigError, match="vision_config"):
        GlmImageVq.config_from_reference({"vq_config": parts["vq_config"]}, {})


@pytest.mark.parametrize(("family", "network"), [(ChameleonVq, chameleon), (JanusVq, janus), (Emu3Vq, emu3), (DiffusersVq, vq_model)])
def test_a_folder_of_the_library_loads_by_itself_and_is_saved_as_ours(family, network, tmp_path):
    network().save_pretrained(tmp_path / "theirs")
    model = visiontok.from_pretrained(tmp_path / "theirs")
    assert type(model) is family
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "ours"))
    assert loaded.config == model.config
    assert torch.equal(loaded.encode(images(1, 3, 16, 16)).indices, model.encode(images(1, 3, 16, 16)).indices)


def test_a_whole_multimodal_model_gives_its_tokenizer_through_the_librarys_own_loading(tmp_path):
    network = chameleon()
    text = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    vocabulary = {"<image>": 1, **{f"IMGIMGA{letter}Z": 10 + number for number, letter in enumerate("ABCD")}}
    config = transformers.ChameleonConfig(**text, vq_config=network.config.to_dict(), vocabulary_map=vocabulary)
    whole = transformers.ChameleonForConditionalGeneration(config)
    whole.model.vqmodel.load_state_dict(network.state_dict())
    whole.save_pretrained(tmp_path)
    settings, weights, problems = ChameleonVq.read_library(str(tmp_path), {})
    assert problems == []
    model = ChameleonVq.from_reference(settings, weights)
    assert torch.equal(model.encode(images(1, 3, 16, 16)).indices, wrapped(ChameleonVq, network).encode(images(1, 3, 16, 16)).indices)


def test_what_a_checkpoint_lacks_is_a_problem(tmp_path):
    network = vq_model()
    network.save_pretrained(tmp_path)
    weights = {key: tensor for key, tensor in network.state_dict().items() if not key.startswith("decoder.conv_out")}
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(CheckpointError, match=r"decoder\.conv_out"):
        visiontok.from_pretrained(tmp_path)


def test_settings_that_mean_another_model_are_refused():
    network = chameleon()
    config = network.config.to_dict()
    for changes, message in (({"double_latent": True}, "double_latent"), ({"stray_setting": 1}, "stray_setting")):
        with pytest.raises(ConfigError, match=message):
            ChameleonVq.from_reference({**config, **changes}, network.state_dict())


def test_released_ones_are_read_by_their_library_with_the_callers_settings(monkeypatch, tmp_path):
    network, asked, problems = vq_model(), {}, []
    family, entry = registry.checkpoints()["amused-256-vq"]
    monkeypatch.setattr(registry, "checkpoints", lambda: {"tiny-vq": (family, replace(entry, reference_config={"image_size": 8}))})

    def read_library(name: str, hub: dict):
        asked.update(name=name, **hub)
        return dict(network.config), network.state_dict(), problems

    monkeypatch.setattr(DiffusersVq, "read_library", read_library)
    model = visiontok.from_pretrained("tiny-vq@v2", cache_dir=tmp_path, token="hf_x", local_files_only=True)
    assert model.preprocessing.size == 8
    expected = {"name": "amused/amused-256", "subfolder": "vqvae", "revision": "v2", "cache_dir": tmp_path, "token": "hf_x", "local_files_only": True}
    assert asked == expected
    problems.append("missing keys: encoder.conv_in.weight")
    with pytest.raises(CheckpointError, match=r"missing keys: encoder\.conv_in\.weight"):
        visiontok.from_pretrained("tiny-vq")


def test_a_library_that_is_too_old_is_named(monkeypatch):
    monkeypatch.setattr(ChameleonVq, "network_class", "ChameleonOfTomorrow")
    with pytest.raises(DependencyError, match=r"has no ChameleonOfTomorrow.*upgrade"):
        visiontok.create("chameleon-vq")
