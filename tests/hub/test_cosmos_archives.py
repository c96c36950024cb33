"""Cosmos' checkpoints as they are published: TorchScript archives of the encoder and the decoder, or of both, whose constants are ignored."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import load_file
from torch import Tensor, nn

import visiontok
from visiontok import registry
from visiontok.base.errors import CheckpointError
from visiontok.registry import lookup
from visiontok.registry.entries import read_family

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")

REFERENCE = Path(__file__).parents[1] / "reference" / "cosmos"
FSQ = {
    "_levels": torch.tensor([8, 8, 8, 5, 5, 5], dtype=torch.int32),
    "_basis": torch.arange(6, dtype=torch.int32),
    "implicit_codebook": torch.zeros(9, 6),
}
PATCHER = {"wavelets": torch.full((2,), 0.5**0.5), "_arange": torch.arange(2)}


class Part(nn.Module):
    """A module of the authors' network: tensors and parts, by name."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        inner: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            first, _, rest = name.partition(".")
            if rest:
                inner.setdefault(first, {})[rest] = tensor
            else:
                self.register_buffer(first, tensor, persistent=not first.startswith("_"))
        for name, part in inner.items():
            self.add_module(name, Part(part))

    def forward(self, x: Tensor) -> Tensor:
        return x


def archive(tensors: dict[str, Tensor]) -> bytes:
    """Traced, in bfloat16, as the released ones."""
    buffer = io.BytesIO()
    halved = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    torch.jit.save(torch.jit.trace(Part(halved), torch.ones(1)), buffer)
    return buffer.getvalue()


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def files(case: str) -> dict[str, bytes]:
    """The three archives of a released repository."""
    weights = load_file(REFERENCE / case / "weights.safetensors")
    patcher = "patcher3d" if case[1] == "v" else "patcher"
    sides = {net: {name: tensor for name, tensor in weights.items() if name.startswith(names)} for net, names in (
        ("encoder", ("encoder.", "quant_conv.")), ("decoder", ("decoder.", "post_quant_conv.")),
    )}  # fmt: skip
    sides["encoder"] |= under(f"encoder.{patcher}", {**PATCHER, "patch_size_buffer": torch.tensor([4], dtype=torch.int32)})
    sides["decoder"] |= under(f"decoder.un{patcher}", PATCHER)
    both = {**sides["encoder"], **sides["decoder"]}
    if case.startswith("d"):
        sides["encoder"] |= under("quantizer", FSQ)
        sides["decoder"] |= under("inv_quant.quantizer", FSQ)
        both |= under("quantizer", FSQ)
    return {"encoder.jit": archive(sides["encoder"]), "decoder.jit": archive(sides["decoder"]), "autoencoder.jit": archive(both)}


def config_of(case: str) -> dict[str, object]:
    return json.loads((REFERENCE / case / "config.json").read_text())


@pytest.fixture
def released(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A case of the reference code, as a released checkpoint of that name."""
    case = str(request.param)
    package = Path(visiontok.__file__).parent
    folder = "video/cosmos" if case[1] == "v" else "image/cosmos_image"
    family = read_family(package / "tokenizers" / folder / "checkpoints.json", package)
    entry = replace(family.checkpoints[0], name=case, repo=f"nvidia/{case}", reference_config=config_of(case))
    with monkeypatch.context() as patch:
        patch.setattr(lookup, "read_families", lambda package: [replace(family, checkpoints=(entry,))])
        registry.families.cache_clear()
        registry.checkpoints.cache_clear()
        yield case
    registry.families.cache_clear()
    registry.checkpoints.cache_clear()


every_case = pytest.mark.parametrize("released", ["dv_4x8x8", "cv_4x8x8", "di_8x8"], indirect=True)


@every_case
def test_one_archive_or_two_make_the_model(released: str, hub: HubServer, tmp_path: Path) -> None:
    archives = files(released)
    hub.repo(f"nvidia/{released}", archives)
    whole = visiontok.from_pretrained(released)
    assert len(hub.downloads("autoencoder.jit")) == 1
    assert not hub.downloads("coder.jit")[1:]
    del archives["autoencoder.jit"]
    hub.repo(f"nvidia/{released}", archives)
    two = visiontok.from_pretrained(released, cache_dir=tmp_path / "other")
    exact = visiontok.from_reference("cosmos", config_of(released), load_file(REFERENCE / released / "weights.safetensors"))
    expected = {name: tensor.bfloat16().float() for name, tensor in exact.state_dict().items()}
    for model in (whole, two):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
        assert model.dtype == torch.float32


@every_case
def test_half_of_the_archives_is_not_enough(released: str, hub: HubServer) -> None:
    archives = files(released)
    hub.repo(f"nvidia/{released}", {"autoencoder.jit": archives["encoder.jit"]})
    with pytest.raises(CheckpointError, match=r"missing.*decoder\."):
        visiontok.from_pretrained(released)
