"""VQToken against the authors' code: k-means, the number of codes, codebooks and VQ-attention; and the numbers of its metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_case import REFERENCE, ReferenceCase, cases
from torch import Tensor
from torch.nn import functional as F

import visiontok
from visiontok.base.noise import RecordedNoise
from visiontok.metrics import tokdense, token_operations, token_ratio
from visiontok.tokenizers.video.vqtoken.clustering import kmeans
from visiontok.tokenizers.video.vqtoken.model import VqToken

with_weights = pytest.mark.parametrize("case", cases("vqtoken", lambda case: (case.path / "weights.safetensors").exists()))


def build(case: ReferenceCase) -> VqToken:
    model: VqToken = visiontok.from_reference("vqtoken", case.config, case.weights)
    return model


def starting_at(case: ReferenceCase, *runs: str) -> RecordedNoise:
    """Draws by which k-means starts from the recorded rows, run after run."""
    count = case.inputs["tokens"].flatten(0, 1).shape[0]
    rows = torch.cat([case.inputs[f"init_indices.{run}"] for run in runs])
    return RecordedNoise(exponential=torch.ones(len(rows), 1, count).scatter(2, rows[:, None, None], 1e-30).unbind())


def searches(case: ReferenceCase) -> list[str]:
    """The runs over all numbers of codes, in turn."""
    prefix = "init_indices.search.K"
    return [f"search.K{number}" for number in sorted(int(name.removeprefix(prefix)) for name in case.inputs if name.startswith(prefix))]


def check(case: ReferenceCase, name: str, ours: Tensor, *, like: str) -> None:
    """For outputs whose tolerance meta.json states under the name of another one."""
    torch.testing.assert_close(ours.detach(), case.outputs[name], rtol=0, atol=case.meta["tolerance"][like], msg=lambda text: f"{name}: {text}")


def signal(case: ReferenceCase) -> Tensor:
    """(1, D, T * N)."""
    return case.inputs["tokens"].flatten(0, 1).T[None]


@with_weights
def test_tokens_codebook_and_what_a_language_model_reads(case: ReferenceCase) -> None:
    model = build(case)
    tokens = model.encode(signal(case), noise=starting_at(case, *searches(case), "final"))
    labels = tokens.indices.unflatten(1, (-1, *model.config.grid))[0]
    found = {
        "token_indices": labels,
        "K": tokens.extras["num_codes"][0],
        "codebook": tokens.extras["codebook"][0],
        "attn.output": model.visual_tokens(tokens).values[0],
    }
    for name, value in found.items():
        case.check(name, value)
    check(case, "attn.query_proj", model.attention.query(labels.flatten(1).float()), like="attn.output")
    assert model.tokens_read(tokens).tolist() == [len(case.outputs["attn.output"])]


@with_weights
def test_every_run_of_kmeans(case: ReferenceCase) -> None:
    config, rows = build(case).config.clusters, F.normalize(case.inputs["tokens"].flatten(0, 1), dim=1)
    for run in [*searches(case), "final"]:
        count = len(case.inputs[f"init_indices.{run}"])
        limits: dict[str, Any] = {"max_iterations": config.max_iterations, "tolerance": config.tolerance}
        found = kmeans(rows, count, noise=starting_at(case, run), **limits)
        check(case, "distortion" if run == "final" else f"search.distortion.K{count}", found.distortion, like="distortion")
        if run == "final":
            case.check("final_centroids", found.centers)
            case.check("token_indices", found.labels.view(case.outputs["token_indices"].shape))


@with_weights
def test_save_and_load(case: ReferenceCase, tmp_path: Path) -> None:
    model = build(case)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    tokens = model.encode(signal(case))
    assert torch.equal(loaded.encode(signal(case)).indices, tokens.indices)
    assert torch.equal(loaded.visual_tokens(tokens).values, model.visual_tokens(tokens).values)


@with_weights
def test_tensors_by_the_names_of_the_released_model(case: ReferenceCase) -> None:
    named = {f"model.cross_attention.{name}": tensor for name, tensor in case.weights.items()}
    others = {"model.layers.0.mlp.up_proj.weight": torch.zeros(2, 2), "lm_head.weight": torch.zeros(2, 2)}
    found = visiontok.from_reference("vqtoken", case.config, {**named, **others}).state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in build(case).state_dict().items())


EXAMPLES = REFERENCE / "vqtoken" / "tokdense" / "examples.json"


@pytest.mark.skipif(not EXAMPLES.exists(), reason="these cases have no table of the metric")
def test_token_information_density() -> None:
    table = json.loads(EXAMPLES.read_text())
    for row in table["examples"]:
        found = float(tokdense(row["accuracy_percent"], row["token_count"]))
        assert found == pytest.approx(row["tokdense"], rel=1e-12), row
        assert found == pytest.approx(row["printed"], abs=1e-3), row
    for row in table["ratio"]["rows"]:
        assert float(token_ratio(row["token_count"], row["original"])) == pytest.approx(100 * row["ratio"], rel=1e-12), row
    names = {"baseline": "none", "pruning/merging": "pruning", "vqtoken": "codebook"}
    for row in table["complexity"]["rows"]:
        tokens = row.get("m", row["n"] - row.get("k", 0))
        found = token_operations(names[row["method"]], full_tokens=row["n"], tokens=tokens, dim=row["d"], depth=row["L"])
        assert (found.reducing, found.language_model) == (row["module_value"], row["llm_value"]), row
