"""The families that the registry really holds, through the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import load_file

import visiontok
from visiontok import registry
from visiontok.core.tokenizer import Tokenizer
from visiontok.hub import save_pretrained

REFERENCE = Path(__file__).parents[1] / "reference"
CASES = [("titok", "stage2-legacy-l2"), ("titok", "single-stage-vae"), ("maskgit", "imagebert")]


@pytest.fixture
def tiny() -> None:
    """The real registry in place of the tiny one."""


@pytest.mark.parametrize("name", sorted(registry.checkpoints()))
def test_every_registered_configuration_builds_a_model_of_the_registered_size(name: str) -> None:
    entry = registry.checkpoints()[name][1]
    with torch.device("meta"):
        model = visiontok.create(name)
    if entry.parameters is not None:
        assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(entry.parameters, rel=1e-3)
    if entry.tokens is not None:
        assert model.layout.length == entry.tokens
        sizes = set(model.layout.vocab_sizes.tolist())
        assert entry.vocab_size == (sizes.pop() if len(sizes) == 1 else None)


@pytest.mark.parametrize(("system", "case"), CASES)
def test_authors_files_load_and_are_saved_as_ours(hub: HubServer, tmp_path: Path, system: str, case: str) -> None:
    folder = REFERENCE / system / case
    sizes = json.loads((folder / "meta.json").read_text()).get("overrides", {})  # smaller than the released ones
    config = {**json.loads((folder / "config.json").read_text()), **({"overrides": sizes} if sizes else {})}
    hub.repo("authors/model", {"config.json": json.dumps(config).encode(), "model.safetensors": (folder / "weights.safetensors").read_bytes()})
    model = visiontok.from_pretrained("authors/model", system=system)
    expected = visiontok.from_reference(system, config, load_file(folder / "weights.safetensors"))
    loaded = visiontok.from_pretrained(save_pretrained(model, tmp_path / "ours"))
    assert loaded.config == expected.config
    for other in (model, loaded):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in expected.state_dict().items())
    if isinstance(model, Tokenizer):
        image = torch.rand(1, 3, *model.layout.signal_shape, generator=torch.Generator().manual_seed(0))
        assert torch.equal(model.decode(model.encode(image)), loaded.decode(loaded.encode(image)))
