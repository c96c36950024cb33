"""Metrics of speech by networks at the user's paths, here tiny ones with random weights."""

from __future__ import annotations

import json
import socket
from typing import Any

import numpy as np
import pytest
import torch
from sound_bits import SoundBits, SoundBitsConfig
from torch import Tensor, nn
from voices import voice

from visiontok.base.errors import CheckpointError, EvaluationError
from visiontok.evaluation import Result, Suite, evaluate_suite
from visiontok.evaluation.features.sound_networks import RatingPredictor, SpeakerEmbedding, Transcriber, find_network
from visiontok.metrics import word_errors, words

CPU = torch.device("cpu")
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": [8, 8], "conv_kernel": [10, 8],
    "conv_stride": [10, 8], "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2,
}  # fmt: skip


class Loudness(nn.Module):
    """Stands for a predictor of ratings."""

    def forward(self, sounds: Tensor) -> Tensor:
        return 1 + 4 * sounds.square().mean(dim=1).sqrt()


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    import transformers

    root = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    prepare = transformers.Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=16000, do_normalize=False, return_attention_mask=False)
    speaker = transformers.WavLMForXVector(
        transformers.WavLMConfig(**SIZES, tdnn_dim=[8, 8], tdnn_kernel=[5, 1], tdnn_dilation=[1, 1], xvector_output_dim=6)
    )
    recognizer = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**SIZES, vocab_size=8))
    (root / "tiny-ctc").mkdir()
    letters = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6, "C": 7}
    (root / "tiny-ctc" / "vocab.json").write_text(json.dumps(letters))
    transformers.Wav2Vec2CTCTokenizer(str(root / "tiny-ctc" / "vocab.json")).save_pretrained(root / "tiny-ctc")
    for model, name in (
        (speaker, "tiny-xvector"),
        (recognizer, "tiny-ctc"),
        (transformers.HubertModel(transformers.HubertConfig(**SIZES)), "tiny-hubert"),
    ):
        model.eval().save_pretrained(root / name)
        prepare.save_pretrained(root / name)
    torch.jit.script(Loudness()).save(str(root / "loudness.pt"))
    names = {"transcriber": "tiny-ctc", "speaker": "tiny-xvector", "rating": "loudness.pt", "encoder": "tiny-hubert"}
    return {kind: str(root / name) for kind, name in names.items()}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("recordings")
    signals = np.stack([voice(0.5, seed=seed).float().numpy() for seed in range(3)])
    np.savez(folder / "voices.npz", signals=signals, captions=np.array(["a b", "c", "b b c"]))
    return str(folder / "voices.npz")


def evaluated(recordings: str, networks: dict[str, str], metrics: list[str], **options: Any) -> Result:
    data = {"name": "arrays", "modality": "audio", "path": recordings, "rate": 16000}
    suite = {"name": "voices", "data": data, "metrics": metrics, "networks": networks, "bootstrap": {"resamples": 100}, **options}
    return evaluate_suite(Suite.parse(suite), SoundBits(SoundBitsConfig(levels=10)), name="bits")


def test_values_are_named_after_the_networks(networks, recordings, monkeypatch) -> None:
    def offline(*_: object) -> None:
        raise AssertionError("a network was looked for elsewhere")

    monkeypatch.setattr(socket.socket, "connect", offline)
    result = evaluated(recordings, networks, ["wer", "speaker_similarity", "predicted_mos"])
    assert result.failed == {}
    values = {value.name: value for value in result.values}
    similarity, rating = values["speaker_similarity[tiny-xvector]"], values["predicted_mos[loudness].reconstructions"]
    assert 0.9 < similarity.value <= 1
    assert rating.value == pytest.approx(values["predicted_mos[loudness].originals"].value, rel=1e-2)
    assert values["wer[tiny-ctc].originals"].details == {"words": 6}
    assert values["wer[tiny-ctc].against_original"].value >= 0
    for value in values.values():
        assert "16000 Hz" in value.protocol
    single = evaluated(recordings, networks, ["speaker_similarity"], batch_size=1)
    assert single.values[0].value == pytest.approx(similarity.value, rel=1e-6)


def test_originals_are_read_once_for_all_levels(networks, recordings, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(SpeakerEmbedding, "__call__", lambda self, sound, rate: seen.append(sound) or torch.ones(2, dtype=torch.float64))
    evaluated(recordings, networks, ["speaker_similarity"], levels=[1, 2, 4])
    assert len(seen) == 3 * (1 + 3)


def test_a_frechet_distance_is_named_by_the_encoder(networks, recordings) -> None:
    with pytest.raises(EvaluationError, match="16 features of tiny-hubert"):
        evaluated(recordings, networks, ["frechet"])
    result = evaluated(recordings, networks, ["frechet"], allow_few_samples=True)
    (value,) = result.values
    assert value.name == "FD[tiny-hubert]"
    assert set(result.extractors) == {"tiny-hubert"}
    single = evaluated(recordings, networks, ["frechet"], allow_few_samples=True, batch_size=1)
    assert single.values[0].value == pytest.approx(value.value, rel=1e-3, abs=1e-9)


def test_another_network_has_another_identity(networks, tmp_path) -> None:
    torch.jit.script(nn.Sequential(nn.Flatten(0))).save(str(tmp_path / "loudness.pt"))
    first, second = (find_network(RatingPredictor, path, CPU) for path in (networks["rating"], str(tmp_path / "loudness.pt")))
    assert first.name == second.name == "loudness"
    assert first.identity != second.identity


def test_silence_and_single_samples_have_a_rating(networks) -> None:
    for sound in (torch.zeros(2, 1), torch.zeros(1, 8000)):
        assert find_network(RatingPredictor, networks["rating"], CPU)(sound, 8000) == 1
        assert torch.isfinite(find_network(SpeakerEmbedding, networks["speaker"], CPU)(sound, 8000)).all()
        assert isinstance(find_network(Transcriber, networks["transcriber"], CPU)(sound, 8000), str)


def test_missing_networks_are_refused_before_the_evaluation(networks, recordings, tmp_path) -> None:
    with pytest.raises(EvaluationError, match="transcriber"):
        evaluated(recordings, {}, ["wer"])
    for name, metric in (("transcriber", "wer"), ("speaker", "speaker_similarity"), ("rating", "predicted_mos"), ("encoder", "frechet")):
        with pytest.raises(CheckpointError, match="nowhere"):
            evaluated(recordings, {name: str(tmp_path / "nowhere")}, [metric])
    (tmp_path / "broken.pt").write_bytes(b"no network")
    (tmp_path / "config.json").write_text("{}")
    for name, metric, path in (
        ("rating", "predicted_mos", tmp_path / "broken.pt"),
        ("speaker", "speaker_similarity", tmp_path),
        ("encoder", "frechet", tmp_path),
    ):
        with pytest.raises(CheckpointError, match=path.name):
            evaluated(recordings, {name: str(path)}, [metric])


def test_networks_without_their_heads_are_refused(networks, recordings) -> None:
    """transformers would draw the weights that the files lack."""
    for name, other, metric in (("transcriber", "encoder", "wer"), ("speaker", "transcriber", "speaker_similarity")):
        with pytest.raises(CheckpointError, match="lack"):
            evaluated(recordings, {name: networks[other]}, [metric])


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [("", "", 0), ("a b c", "a b c", 0), ("a b c", "", 3), ("", "a b", 2), ("the cat sat", "the bat sat on", 2), ("a b c d", "b c d a", 2)],
)
def test_word_errors(reference: str, hypothesis: str, errors: int) -> None:
    assert word_errors(reference.split(), hypothesis.split()) == errors


def test_word_errors_are_those_of_torchmetrics() -> None:
    from torchmetrics.functional.text import word_error_rate

    draw = np.random.default_rng(0)
    for _ in range(20):
        first, second = ([str(word) for word in draw.integers(0, 4, draw.integers(1, 12))] for _ in range(2))
        expected = float(word_error_rate(" ".join(second), " ".join(first)))
        assert word_errors(first, second) / len(first) == pytest.approx(expected)


def test_words_have_neither_case_nor_punctuation() -> None:
    assert words("Don’t — stop, Élan_2!") == ["don't", "stop", "élan", "2"]
