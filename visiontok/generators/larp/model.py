"""LARP's generators (arXiv 2410.21264): a `gpt` on a clip's 1D tokens with learned positions, conditioned on a class or on another clip's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.generators.larp.reference import CONFIG_KEYS, KEY_MAP, read_config


class LarpGenerator(GPT):
    """LARP's assembly of `GPT`: one codebook, learned positions over condition and tokens."""

    reference_keys = KEY_MAP

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> GPTConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of a LARP generator"):
            return GPTConfig.parse(read_config(config), source="reference configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Theirs have one table for the tokens of both clips and the separator between them; ours has one for each."""
        renamed = super().weights_from_reference(state_dict)
        if "position_embedding" in renamed:
            renamed["position_embedding"] = renamed["position_embedding"][0]
        if "condition.embedding.weight" not in renamed and "embedding.table.weight" in renamed:
            table = renamed["embedding.table.weight"]
            renamed["embedding.table.weight"], renamed["condition.separator"] = table[:-1], table[-1]
            renamed["condition.embedding.weight"] = torch.cat([table[:-1], torch.zeros_like(table[:1])])  # the last row stands for no clip
            length = renamed["position_embedding"].shape[0] // 2
            renamed["condition.positions"] = table.new_zeros(length, table.shape[1])  # theirs are among those of the whole sequence
        return renamed
