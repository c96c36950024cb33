"""Open-MAGVIT2's generators (arXiv 2409.04410): a `gpt` that writes both tokens of a position in one step, the second after the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.generators.open_magvit2.reference import CONFIG_KEYS, KEY_MAP, read_config


class OpenMagvit2Generator(GPT):
    """Open-MAGVIT2's assembly of `GPT`: the sum of two embeddings per position, and an inner head over the two tokens.

    The authors' loss is the sum of both codebooks' mean cross-entropies, `GPT.loss` their mean.
    """

    reference_keys = KEY_MAP

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> GPTConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of an Open-MAGVIT2 generator"):
            return GPTConfig.parse(read_config(config), source="reference configuration")
