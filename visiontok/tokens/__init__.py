"""Tokens: what every tokenizer emits, every generator reads and every file stores."""

from visiontok.tokens.layout import Segment, TokenLayout
from visiontok.tokens.stream import TokenStream
from visiontok.tokens.tokens import PAD, Latents, Tokens

__all__ = ["PAD", "Latents", "Segment", "TokenLayout", "TokenStream", "Tokens"]
