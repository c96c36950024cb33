"""Tokens: what every tokenizer emits, every generator reads and every file stores."""

from visiontok.tokens.batch import PAD, SampleBatch
from visiontok.tokens.chunks import join_chunks, join_clips, split_chunks, split_clips, without_clips
from visiontok.tokens.layout import Counts, OrderRule, Segment, TokenLayout
from visiontok.tokens.stream import TokenStream, delay_codebooks, undelay_codebooks
from visiontok.tokens.tokens import Latents, Tokens, as_tokens

__all__ = [
    "PAD",
    "Counts",
    "Latents",
    "OrderRule",
    "SampleBatch",
    "Segment",
    "TokenLayout",
    "TokenStream",
    "Tokens",
    "as_tokens",
    "delay_codebooks",
    "join_chunks",
    "join_clips",
    "split_chunks",
    "split_clips",
    "undelay_codebooks",
    "without_clips",
]
