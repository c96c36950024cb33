"""OmniTokenizer's generators (arXiv 2406.09399): a `gpt` of GPT-2's blocks on the tokens of images and clips, with learned positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.config import Config
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.generators.omnitokenizer.reference import CONFIG_KEYS, KEY_MAP, SOURCE, convert_weights, read_config


class OmniTokenizerGenerator(GPT):
    """OmniTokenizer's assembly of `GPT`: `block: gpt2`, learned positions, a start beside the class."""

    reference_keys = KEY_MAP

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> GPTConfig:
        with CONFIG_KEYS.reading(config, source=SOURCE):
            return GPTConfig.parse(read_config(config), source="reference configuration")

    @classmethod
    def weights_for(cls, config: Config, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Model`; which rows of the authors' table are codes follows from the condition."""
        assert isinstance(config, GPTConfig)
        return convert_weights(state_dict, num_codes=config.layout.num_codes, condition=config.condition)
