"""Backbones: the transformers that turn a sequence into what a head reads."""

from visiontok.generators.backbones.llama import LlamaConfig, LlamaStack

__all__ = ["LlamaConfig", "LlamaStack"]
