"""ELM's masked generators (arXiv 2410.16257): a `maskgit` on Llama-style blocks, with a head that is tied to the embeddings of the codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.generators.elm_mlm.reference import CONFIG_KEYS, KEY_MAP, read_config
from visiontok.generators.maskgit.model import MaskGIT, MaskGITConfig


class ElmMaskedGenerator(MaskGIT):
    """ELM's assembly of `MaskGIT`; the authors' tables of codes and of classes are one."""

    reference_keys = KEY_MAP

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> MaskGITConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of a masked ELM generator"):
            return MaskGITConfig.parse(read_config(config), source="reference configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The bias without that of the mask, which the authors cut off with its logit."""
        renamed = super().weights_from_reference(state_dict)
        if "lm_head.bias" in renamed:
            renamed["lm_head.bias"] = renamed["lm_head.bias"].flatten()[:-1].clone()
        return renamed
