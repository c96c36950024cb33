"""A CLIP text tower with random weights and its tokenizer, written to a folder as transformers does."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH, POSITIONS = 32, 12


def save_tiny_clip(folder: Path) -> str:
    """Letters are tokens: a letter within a word, and one that ends it."""
    letters = "abcdefghijklmnopqrstuvwxyz.&"
    vocabulary = {
        name: number for number, name in enumerate(["!", *letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"])
    }
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
    )
    CLIPTextModel(config).save_pretrained(folder)
    return str(folder)
