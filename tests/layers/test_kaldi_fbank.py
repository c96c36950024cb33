"""Kaldi's mel energies against those of transformers."""

from __future__ import annotations

import pytest
import torch
import transformers

from visiontok.layers.kaldi_fbank import kaldi_fbank


@pytest.mark.parametrize("length", [400, 1000, 4321])
def test_equals_the_features_of_w2v_bert(length: int) -> None:
    signal = torch.rand(2, length, generator=torch.Generator().manual_seed(length)) - 0.5
    ours = kaldi_fbank(signal, sample_rate=16000)
    extractor = transformers.SeamlessM4TFeatureExtractor()
    theirs = torch.stack([torch.from_numpy(extractor._extract_fbank_features(row.numpy())) for row in signal])
    assert ours.shape == theirs.shape == (2, 1 + (length - 400) // 160, 80)
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-3, atol=5e-3)


def test_silence_has_the_least_energy() -> None:
    assert torch.equal(kaldi_fbank(torch.zeros(1, 800), sample_rate=16000), torch.full((1, 3, 80), 1.1920928955078125e-07).log())
