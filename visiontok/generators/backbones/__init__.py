"""Backbones: the transformers that turn a sequence into what a head reads."""

from visiontok.generators.backbones.bert import Bert, BertConfig
from visiontok.generators.backbones.llama import LlamaConfig, LlamaStack
from visiontok.generators.backbones.mae import MaeBackbone, MaeConfig, MaeSizes
from visiontok.generators.backbones.masked_llama import MaskedLlama, MaskedLlamaConfig
from visiontok.generators.backbones.modulated import ModulatedCausalBlock, ModulatedStack
from visiontok.generators.backbones.uvit import UViT, UViTConfig

__all__ = [
    "Bert",
    "BertConfig",
    "LlamaConfig",
    "LlamaStack",
    "MaeBackbone",
    "MaeConfig",
    "MaeSizes",
    "MaskedLlama",
    "MaskedLlamaConfig",
    "ModulatedCausalBlock",
    "ModulatedStack",
    "UViT",
    "UViTConfig",
]
