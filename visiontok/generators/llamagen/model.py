"""LlamaGen's generators (arXiv 2406.06525): a `gpt` of one codebook on a grid, conditioned on a class or on the T5 features of a caption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.generators.llamagen.reference import CONFIG_KEYS, KEY_MAP, read_config


class LlamaGen(GPT):
    """LlamaGen's assembly of `GPT`: rotary positions over two axes, rows of zeros for the condition, one codebook."""

    reference_keys = KEY_MAP

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> GPTConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of a LlamaGen generator"):
            return GPTConfig.parse(read_config(config), source="reference configuration")
