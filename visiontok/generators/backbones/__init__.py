"""Backbones: the transformers that turn a sequence into what a head reads."""

from visiontok.generators.backbones.llama import LlamaConfig, LlamaStack
from visiontok.generators.backbones.mae import MaeBackbone, MaeConfig, MaeSizes
from visiontok.generators.backbones.modulated import ModulatedCausalBlock, ModulatedStack

__all__ = ["LlamaConfig", "LlamaStack", "MaeBackbone", "MaeConfig", "MaeSizes", "ModulatedCausalBlock", "ModulatedStack"]
