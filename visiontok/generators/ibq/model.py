"""IBQ's generators (arXiv 2412.02692): a `gpt` on a grid whose class also shifts, scales and gates every block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.generators.ibq.reference import CONFIG_KEYS, KEY_MAP, read_config


class IbqGenerator(GPT):
    """IBQ's assembly of `GPT`: rotary positions over two axes, modulation by the class."""

    reference_keys = KEY_MAP

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> GPTConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of an IBQ generator"):
            return GPTConfig.parse(read_config(config), source="reference configuration")
