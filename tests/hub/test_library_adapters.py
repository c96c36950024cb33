"""Tokenizers that transformers and diffusers ship, loaded by these libraries' own `from_pretrained` from a hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import diffusers
import huggingface_hub
import pytest
import torch
import transformers
from hub_server import HubServer
from safetensors.torch import load, save
from torch import Tensor, nn

import visiontok
from visiontok import registry
from visiontok.base.errors import CheckpointError, HubError

CONV = {"base_channels": 32, "channel_multiplier": (1, 2), "num_res_blocks": 1, "latent_channels": 8, "embed_dim": 4}
BLOCKS = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",), "block_out_channels": (32,), "layers_per_block": 1}


def vq_model() -> nn.Module:
    torch.manual_seed(0)
    return diffusers.VQModel(**BLOCKS, latent_channels=3, sample_size=8, num_vq_embeddings=20, vq_embed_dim=5).eval()


def chameleon() -> nn.Module:
    """A whole multimodal model with a tiny tokenizer inside."""
    torch.manual_seed(0)
    text = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    vocabulary = {"<image>": 1, **{f"IMGIMGA{letter}Z": 10 + number for number, letter in enumerate("ABCD")}}
    vq = transformers.ChameleonVQVAEConfig(**CONV, num_embeddings=20, resolution=16).to_dict()
    config = transformers.ChameleonConfig(**text, vq_config=vq, vocabulary_map=vocabulary)
    return transformers.ChameleonForConditionalGeneration(config).eval()


def files(network: nn.Module, folder: Path, subfolder: str = "") -> dict[str, bytes]:
    network.save_pretrained(folder)
    return {f"{subfolder}{path.name}": path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def tiny() -> None:
    """The real registry in place of the tiny one."""


@pytest.fixture
def libraries(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The hub where libraries look for it that read its address when they are imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)
    return hub


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of released adapters, which lead to small repositories of the test here."""
    known = registry.checkpoints()
    amused, chameleon_7b = known["amused-256-vq"], known["chameleon-7b-vq"]
    small = {
        "tiny-amused": (amused[0], replace(amused[1], name="tiny-amused", repo="authors/amused", reference_config={"image_size": 8})),
        "tiny-chameleon": (chameleon_7b[0], replace(chameleon_7b[1], name="tiny-chameleon", repo="authors/chameleon", reference_config={})),
    }
    monkeypatch.setattr(registry, "checkpoints", lambda: small)


def images(size: int) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("released")
class TestFromTheHub:
    def test_diffusers_from_a_subfolder(self, libraries: HubServer, tmp_path: Path) -> None:
        network = vq_model()
        libraries.repo("authors/amused", files(network, tmp_path, "vqvae/"))
        model = visiontok.from_pretrained("tiny-amused")
        with torch.no_grad():
            _, _, (_, _, indices) = network.quantize(network.encode(images(8) * 2 - 1).latents)
        assert torch.equal(model.encode(images(8)).indices.flatten(), indices.flatten())
        asked = len(libraries.requests)
        assert visiontok.from_pretrained("tiny-amused", local_files_only=True).config == model.config
        assert len(libraries.requests) == asked

    def test_transformers_out_of_a_whole_multimodal_model(self, libraries: HubServer, tmp_path: Path) -> None:
        whole = chameleon()
        libraries.repo("authors/chameleon", files(whole, tmp_path))
        model = visiontok.from_pretrained("tiny-chameleon")
        with torch.no_grad():
            expected = whole.model.vqmodel.encode(images(16) * 255 * 0.0078 - 1).image_tokens
        assert torch.equal(model.encode(images(16)).indices.flatten(), expected.flatten())

    def test_a_revision(self, libraries: HubServer, tmp_path: Path) -> None:
        repo = libraries.repo("authors/amused", files(vq_model(), tmp_path, "vqvae/"))
        repo.refs["v1"] = repo.refs["main"]
        repo.commit({"vqvae/config.json": b"{}"})
        assert visiontok.from_pretrained("tiny-amused@v1").layout.vocab_sizes[0] == 20

    def test_a_repository_that_is_not_there(self, libraries: HubServer) -> None:
        for name, repo in (("tiny-amused", "authors/amused"), ("tiny-chameleon", "authors/chameleon")):
            with pytest.raises(HubError, match=repo):
                visiontok.from_pretrained(name)

    def test_a_checkpoint_without_all_of_its_weights(self, libraries: HubServer, tmp_path: Path) -> None:
        contents = files(vq_model(), tmp_path, "vqvae/")
        kept = {name: tensor for name, tensor in load(contents["vqvae/diffusion_pytorch_model.safetensors"]).items() if "conv_out" not in name}
        libraries.repo("authors/amused", {**contents, "vqvae/diffusion_pytorch_model.safetensors": save(kept)})
        with pytest.raises(CheckpointError, match=r"decoder\.conv_out\.weight"):
            visiontok.from_pretrained("tiny-amused")


def test_an_unlisted_repository_in_a_librarys_layout_is_recognized(libraries: HubServer, tmp_path: Path) -> None:
    network = vq_model()
    libraries.repo("somebody/vq", files(network, tmp_path))
    model = visiontok.from_pretrained("somebody/vq")
    assert registry.family_of(type(model)).name == "diffusers-vq"
    assert torch.equal(model.quantizer.codebook, network.quantize.embedding.weight)
