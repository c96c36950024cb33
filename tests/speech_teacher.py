"""A tiny encoder of speech with random weights, in the layout of transformers."""

from __future__ import annotations

from pathlib import Path

import torch


def save_speech_teacher(folder: Path, *, sample_rate: int = 1600) -> None:
    """A HuBERT of two layers with a hop of 10 samples and 6 features, those of the small SpeechTokenizer."""
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8, "num_feat_extract_layers": 2}
    convolutions = {"conv_dim": [8, 8], "conv_kernel": [4, 5], "conv_stride": [2, 5]}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    transformers.HubertModel(transformers.HubertConfig(**sizes, **convolutions, **positions)).eval().save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=sample_rate, do_normalize=True, return_attention_mask=False).save_pretrained(folder)
