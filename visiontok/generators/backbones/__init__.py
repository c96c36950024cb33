"""Backbones: the transformers that turn a sequence into what a head reads."""

from visiontok.generators.backbones.llama import LlamaConfig, LlamaStack
from visiontok.generators.backbones.mae import MaeBackbone, MaeConfig, MaeSizes

__all__ = ["LlamaConfig", "LlamaStack", "MaeBackbone", "MaeConfig", "MaeSizes"]
