"""Backbones: the transformers that turn a sequence into what a head reads."""

from visiontok.generators.backbones.llama import LlamaConfig, LlamaStack
from visiontok.generators.backbones.modulated import ModulatedCausalBlock, ModulatedStack

__all__ = ["LlamaConfig", "LlamaStack", "ModulatedCausalBlock", "ModulatedStack"]
