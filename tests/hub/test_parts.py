"""Checkpoints that several files make, from one repository or several."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import save
from tiny_family import reference_state_dict
from typer.testing import CliRunner

import visiontok
from visiontok.base.errors import CheckpointError, HubError
from visiontok.cli import app
from visiontok.registry import Checkpoint, WeightPart

ENCODER = {"weight": torch.full((3, 3), 2.0), "bias": torch.zeros(3)}
CODEBOOK = {"codebook": reference_state_dict()["codebook"]}
PARTS = (WeightPart(names=("encoder.pt", "encoder.bin"), key="ema", prefix="enc."), WeightPart(names=("codes.safetensors",), repo="others/codes"))


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def checkpoint(*parts: WeightPart, **changes: Any) -> Checkpoint:
    fields: dict[str, Any] = {"repo": "authors/encoder", "weights_license": "mit", "code_license": "mit"} | changes
    return Checkpoint(name="tiny-parts", files=parts, reference_config={"model": {"codes": 4, "width": 3}}, **fields)


def fill(hub: HubServer) -> None:
    hub.repo("authors/encoder", {"encoder.bin": pickled({"model": {}, "ema": ENCODER})})
    hub.repo("others/codes", {"codes.safetensors": save(CODEBOOK)})


Register = Callable[..., None]


def test_two_repositories_make_one_model(hub: HubServer, register: Register) -> None:
    register(checkpoint(*PARTS))
    fill(hub)
    model = visiontok.from_pretrained("tiny-parts")
    assert torch.equal(model.encoder.weight, ENCODER["weight"])
    assert torch.equal(model.quantizer.codebook, CODEBOOK["codebook"])
    asked = len(hub.requests)
    assert torch.equal(visiontok.from_pretrained("tiny-parts", local_files_only=True).encoder.weight, ENCODER["weight"])
    assert len(hub.requests) == asked


def test_a_part_may_come_from_a_revision_of_its_own(hub: HubServer, register: Register) -> None:
    own, pinned = WeightPart(names=("all.safetensors",), prefix="enc."), WeightPart(names=("all.safetensors",), revision="v1")
    register(checkpoint(own, pinned))
    repo = hub.repo("authors/encoder", {"all.safetensors": save(CODEBOOK)})
    repo.refs["v1"] = repo.refs["main"]
    repo.commit({"all.safetensors": save(ENCODER)})
    assert torch.equal(visiontok.from_pretrained("tiny-parts").encoder.weight, ENCODER["weight"])


@pytest.mark.parametrize(("repo", "file"), [("authors/encoder", "encoder.pt"), ("others/codes", "codes.safetensors")])
def test_a_part_that_is_missing_is_named_with_its_repository(hub: HubServer, register: Register, repo: str, file: str) -> None:
    register(checkpoint(*PARTS))
    fill(hub)
    hub.repo(repo, {"README.md": b""})
    with pytest.raises(HubError) as error:
        visiontok.from_pretrained("tiny-parts")
    assert repo in str(error.value)
    assert file in str(error.value)


def test_the_same_tensor_in_two_parts_is_refused(hub: HubServer, register: Register) -> None:
    register(checkpoint(*PARTS))
    fill(hub)
    hub.repo("others/codes", {"codes.safetensors": save({**CODEBOOK, "enc.bias": torch.ones(3)})})
    with pytest.raises(CheckpointError, match=r"enc\.bias"):
        visiontok.from_pretrained("tiny-parts")


def test_a_tensor_without_a_counterpart_is_named_with_the_parts_wrappers(hub: HubServer, register: Register) -> None:
    register(checkpoint(*PARTS))
    fill(hub)
    hub.repo("authors/encoder", {"encoder.pt": pickled({"ema": {**ENCODER, "stray": torch.ones(1)}})})
    with pytest.raises(CheckpointError) as error:
        visiontok.from_pretrained("tiny-parts")
    for words in ("encoder.stray", "encoder.pt", "'ema'"):
        assert words in str(error.value)


def test_an_index_names_the_files_of_a_part(hub: HubServer, register: Register) -> None:
    names = ("model.safetensors.index.json", "model.safetensors")
    register(checkpoint(WeightPart(names=names)))
    index = {
        "metadata": {},
        "weight_map": {"enc.weight": "model-1-of-2.safetensors", "enc.bias": "model-1-of-2.safetensors", "codebook": "model-2-of-2.safetensors"},
    }
    encoder = {f"enc.{name}": tensor for name, tensor in ENCODER.items()}
    files = {"model-1-of-2.safetensors": save(encoder), "model-2-of-2.safetensors": save(CODEBOOK)}
    hub.repo("authors/encoder", {names[0]: json.dumps(index).encode(), **files})
    model = visiontok.from_pretrained("tiny-parts")
    assert torch.equal(model.encoder.weight, ENCODER["weight"])
    assert torch.equal(model.quantizer.codebook, CODEBOOK["codebook"])


@pytest.mark.parametrize("index", [{"weight_map": {}}, {"weight_map": {"codebook": "../model.safetensors"}}])
def test_an_index_that_names_no_files_beside_it_is_refused(hub: HubServer, register: Register, index: object) -> None:
    register(checkpoint(WeightPart(names=("model.safetensors.index.json",))))
    hub.repo("authors/encoder", {"model.safetensors.index.json": json.dumps(index).encode()})
    with pytest.raises(CheckpointError, match="weight_map"):
        visiontok.from_pretrained("tiny-parts")


def test_parts_that_were_downloaded_by_hand(tmp_path: Path, register: Register) -> None:
    register(checkpoint(*(WeightPart(names=part.names, key=part.key, prefix=part.prefix) for part in PARTS), repo="", page="https://example.org/box"))
    (tmp_path / "encoder.bin").write_bytes(pickled({"ema": ENCODER}))
    for folder in (None, tmp_path):
        with pytest.raises(HubError, match=r"codes\.safetensors from https://example\.org/box"):
            visiontok.from_pretrained("tiny-parts", cache_dir=folder)
    (tmp_path / "codes.safetensors").write_bytes(save(CODEBOOK))
    assert torch.equal(visiontok.from_pretrained("tiny-parts", cache_dir=tmp_path).encoder.weight, ENCODER["weight"])


def test_info_lists_the_parts(register: Register) -> None:
    register(checkpoint(*PARTS))
    text = CliRunner().invoke(app, ["info", "tiny-parts"]).output
    assert "encoder.pt or encoder.bin, its entry 'ema'" in text
    assert "codes.safetensors of others/codes" in text
    assert json.loads(CliRunner().invoke(app, ["info", "tiny-parts", "--json"]).output)["files"][1]["repo"] == "others/codes"
