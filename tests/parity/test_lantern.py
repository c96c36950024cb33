"""LANTERN's acceptance rules against the authors' code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference_case import ReferenceCase, cases
from torch import Tensor

from visiontok.base.noise import RecordedNoise
from visiontok.generators.decoding import (
    DraftTree,
    Filter,
    Relaxation,
    Temperature,
    TopK,
    TopP,
    accept_dynamic_tree,
    accept_greedily,
    accept_static_tree,
    nearest_latents,
)


def filters_of(trial: dict[str, Any]) -> list[Filter]:
    """In their order: temperature, top-p, top-k."""
    found: list[Filter] = [Temperature(trial["temperature"])] if trial["temperature"] != 1 else []
    found += [TopP(trial["top_p"])] if trial["top_p"] < 1 else []
    return found + ([TopK(trial["top_k"])] if trial["top_k"] else [])


class Counted:
    """A recording that knows how many draws were taken."""

    def __init__(self, draws: Tensor) -> None:
        self.used, self._recorded = 0, RecordedNoise(uniform=draws[:, None])

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        self.used += 1
        return self._recorded.uniform(*shape, dtype=dtype)


@pytest.mark.parametrize("case", cases("lantern"))
def test_acceptance(case: ReferenceCase):
    table, ours = case.inputs["nearest_latents"], {}
    for number, trial in enumerate(case.config["trials"]):
        inputs = {name.split(".", 1)[1]: value for name, value in case.inputs.items() if name.startswith(f"t{number}.")}
        relaxation = Relaxation(table, trial["lantern_k"], trial["lantern_delta"]) if trial["lantern"] else None
        noise, found = Counted(inputs["uniforms"]), {}
        options = {"filters": filters_of(trial) if trial["temperature"] else (), "relaxation": relaxation}
        if not trial["temperature"]:
            accepted = accept_greedily(inputs["logits"], inputs["candidates"], relaxation=relaxation)
        elif trial["tree"] == "dynamic":
            accepted = accept_dynamic_tree(inputs["logits"], inputs["candidates"], noise, **options)
        else:
            tree = DraftTree(trial["tree_choices"], drafted=inputs["draft_tokens"].shape[1])
            root, drafted, odds = inputs["root"], inputs["draft_tokens"], inputs["draft_probs"]
            levels = [inputs[f"op{level}"] for level in range(trial["levels"])]
            accepted = accept_static_tree(inputs["logits"], tree, root, drafted, odds, levels, noise, **options)
            found = {
                "candidates": tree.gather(root, drafted, padding=-1),
                "candidates_prob": tree.gather(torch.ones(1), odds, padding=1),
                "retrieve_indices": tree.retrieve_indices,
                "tree_attn_mask": tree.attention_mask[None, None],
                "tree_candidates": tree.tokens(root, drafted)[None],
                "tree_indices": tree.tree_indices,
                "tree_position_ids": tree.position_ids,
            }
        found |= {
            "accept_length": torch.tensor(accepted.length),
            "best_candidate": torch.tensor(accepted.path),
            "sample_p": accepted.bonus,
            "uniforms_used": torch.tensor(noise.used),
        }
        ours |= {f"t{number}.{name}": value for name, value in found.items()}
    stored = case.outputs["neighbour_distances_sorted"].shape[1]
    codebook = case.weights["codebook.weight"]
    near = codebook[nearest_latents(codebook, stored, chunk=10)]
    ours["neighbour_distances_sorted"] = (codebook[:, None] - near).norm(dim=-1)
    case.compare(ours)


@pytest.mark.parametrize("case", cases("lantern"))
def test_the_table_of_neighbors_is_theirs_up_to_ties(case: ReferenceCase):
    codebook, table = case.weights["codebook.weight"], case.inputs["nearest_latents"]
    ours = nearest_latents(codebook, len(codebook))
    assert ours.shape == table.shape
    distances = torch.cdist(codebook.double(), codebook.double())
    torch.testing.assert_close(distances.gather(1, ours), distances.gather(1, table), rtol=0, atol=1e-5)
