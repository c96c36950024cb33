"""Frozen text encoders, for tokenizers that read a text beside the signal."""

from visiontok.encoders.text.base import TextEncoder, TextLike
from visiontok.encoders.text.clip import ClipText, ClipTextConfig
from visiontok.encoders.text.config import TextConfig
from visiontok.encoders.text.hashed_words import HashedWords, HashedWordsConfig
from visiontok.encoders.text.t5 import T5Text, T5TextConfig

__all__ = ["ClipText", "ClipTextConfig", "HashedWords", "HashedWordsConfig", "T5Text", "T5TextConfig", "TextConfig", "TextEncoder", "TextLike"]
