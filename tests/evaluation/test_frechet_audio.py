"""VGGish and CLAP for Fréchet audio distances, here with random weights: front ends, layers, windows, and several rows per recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sound_bits import SoundBits, SoundBitsConfig
from torch import Tensor

from visiontok.base.errors import CheckpointError, EvaluationError
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.evaluation.features import find_extractor
from visiontok.evaluation.features.clap import ClapHtsatFused, ClapHtsatUnfused
from visiontok.evaluation.features.vggish import EXAMPLE, Vggish, VggishNetwork, VggishOverlapping, log_mel_examples
from visiontok.evaluation.features.weight_files import LoadedWeights
from visiontok.signals import SignalSpec

SPEC = SignalSpec(modality="audio", channels=1, low=-1.0, high=1.0, rate=16000.0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vggish() -> Vggish:
    torch.manual_seed(0)
    network = VggishNetwork((2, 2, 3, 3, 4, 4), hidden=8, dim=5)
    return Vggish(LoadedWeights(network.state_dict(), "0" * 64))


def test_the_log_mel_front_end_is_that_of_independent_libraries() -> None:
    """Spectra by NumPy, mel filters by transformers."""
    from transformers.audio_utils import mel_filter_bank

    sound = noise(EXAMPLE).double()
    frames = np.lib.stride_tricks.sliding_window_view(sound.numpy(), 400)[::160] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400))
    magnitudes = np.abs(np.fft.rfft(frames, 512))
    filters = mel_filter_bank(257, 64, 125.0, 7500.0, 16000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True)
    found = log_mel_examples(sound)
    assert found.shape == (96, 64)
    np.testing.assert_allclose(found.numpy(), np.log(magnitudes @ filters + 0.01), rtol=1e-6, atol=1e-6)
    assert (log_mel_examples(torch.zeros(EXAMPLE)) - np.log(0.01)).abs().max() < 1e-6


def test_the_layers_have_the_published_shapes() -> None:
    with torch.device("meta"):
        network = VggishNetwork((64, 128, 256, 256, 512, 512), hidden=4096, dim=128)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if name.endswith("weight")}
    convolutions = {f"features.{place}.weight": (out, into, 3, 3) for place, into, out in
                    ((0, 1, 64), (3, 64, 128), (6, 128, 256), (8, 256, 256), (11, 256, 512), (13, 512, 512))}  # fmt: skip
    linear = {"embeddings.0.weight": (4096, 12288), "embeddings.2.weight": (4096, 4096), "embeddings.4.weight": (128, 4096)}
    assert shapes == convolutions | linear
    assert sum(parameter.numel() for parameter in network.parameters()) == 72_141_184


def test_maps_are_flattened_with_channels_last() -> None:
    """As TensorFlow, whose weights these are, lays them out."""
    network = VggishNetwork((1, 1, 1, 1, 1, 2), hidden=48, dim=48)
    examples = noise(1, 96, 64).abs() + 1
    for place in (0, 2, 4):
        torch.nn.init.eye_(network.embeddings[place].weight)
        torch.nn.init.zeros_(network.embeddings[place].bias)
    for place in (0, 3, 6, 8, 11, 13):
        torch.nn.init.zeros_(network.features[place].bias)
        torch.nn.init.dirac_(network.features[place].weight)
    network.features[13].weight.data[1] = 2 * network.features[13].weight.data[0]
    pooled = torch.nn.functional.max_pool2d(examples, 16)  # (1, 6, 4)
    torch.testing.assert_close(network(examples), torch.stack([pooled, 2 * pooled], dim=-1).flatten(1))


@pytest.mark.parametrize(("samples", "plain", "overlapping"), [(1, 1, 1), (EXAMPLE, 1, 1), (30959, 1, 2), (30960, 2, 2), (48000, 3, 5)])
def test_windows_of_vggish(vggish: Vggish, samples: int, plain: int, overlapping: int) -> None:
    """Three seconds are three examples; the program of the metric takes one second every half second."""
    sound = noise(1, 2, samples)
    other = VggishOverlapping(LoadedWeights(vggish.network.state_dict(), "0" * 64))
    found = [each.reading(SPEC)(sound) for each in (vggish, other)]
    assert [each.shape for each in found] == [(1, plain, 5), (1, overlapping, 5)]
    mono = torch.nn.functional.pad(sound.mean(dim=1), (0, max(0, EXAMPLE - samples)))
    last = (plain - 1) * 15360
    expected = vggish.network(log_mel_examples(mono[:, last : last + EXAMPLE].double()).float())
    torch.testing.assert_close(found[0][:, -1], expected.double(), rtol=1e-4, atol=1e-5)
    last, scale = (overlapping - 1) * 8000, max(0.1, mono.max().item())
    expected = vggish.network(log_mel_examples(mono[:, last : last + EXAMPLE].double() / scale).float())
    torch.testing.assert_close(found[1][:, -1], expected.double(), rtol=1e-4, atol=1e-5)


def test_weights_are_files_of_the_user_and_checked(vggish: Vggish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONTOK_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    torch.save(vggish.network.state_dict(), tmp_path / "vggish-10086976.pth")
    with pytest.raises(CheckpointError, match="SHA-256"):
        find_extractor("vggish")
    with pytest.raises(CheckpointError, match=r"features\.0"):
        Vggish(LoadedWeights({}, "0" * 64))
    assert vggish.title("FD[]") == "FD[vggish]"
    assert Vggish.published_names["FD"] == "FAD"


def saved_clap(folder: Path, *, fused: bool) -> Path:
    """A whole CLAP as it is published, with its part for texts, that reads windows of a second at 1600 Hz."""
    import transformers

    torch.manual_seed(0)
    audio = {"spec_size": 32, "num_mel_bins": 8, "window_size": 2, "patch_size": 4, "patch_stride": [4, 4], "depths": [1, 1],
             "num_attention_heads": [1, 2], "patch_embeds_hidden_size": 4, "hidden_size": 8, "projection_dim": 6}  # fmt: skip
    fusion = {"enable_fusion": True, "fusion_type": "aff_2d", "aff_block_r": 2} if fused else {}
    text = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4, "projection_dim": 6}
    transformers.ClapModel(transformers.ClapConfig(text_config=text, audio_config=audio | fusion, projection_dim=6)).eval().save_pretrained(folder)
    transformers.ClapFeatureExtractor(
        feature_size=8,
        sampling_rate=1600,
        hop_length=16,
        max_length_s=1,
        fft_window_size=64,
        frequency_max=700,
        truncation="fusion" if fused else "rand_trunc",
    ).save_pretrained(folder)
    return folder


def test_clap_is_that_of_transformers(tmp_path: Path) -> None:
    import transformers

    clap = saved_clap(tmp_path / "clap", fused=False)
    network = transformers.ClapAudioModelWithProjection.from_pretrained(clap).eval()
    prepare = transformers.ClapFeatureExtractor.from_pretrained(clap)
    extractor = ClapHtsatUnfused(clap).reading(SPEC.model_copy(update={"rate": 1600.0}))
    sound = noise(2, 1, 3500)
    found = extractor(sound)
    assert found.shape == (2, 2, 6)
    for row in range(2):
        for window in range(2):
            part = sound[row, 0, 1600 * window : 1600 * (window + 1)].numpy()
            with torch.no_grad():
                expected = network(**prepare(part, sampling_rate=1600, return_tensors="pt")).audio_embeds[0]
            torch.testing.assert_close(found[row, window], (expected / expected.norm()).double(), rtol=1e-4, atol=1e-5)
    short = extractor(sound[:, :, :500])
    torch.testing.assert_close(short[:, 0], extractor(torch.nn.functional.pad(sound[:, :, :500].repeat(1, 1, 3), (0, 100)))[:, 0])
    assert extractor.title("FD[]") == "FD[clap-htsat-unfused]"
    with pytest.raises(CheckpointError, match="nowhere"):
        ClapHtsatUnfused(clap / "nowhere")


def test_fused_clap_reads_a_window_alike_in_every_batch(tmp_path: Path) -> None:
    """Its preprocessing alone would treat one sound of a batch, drawn at random, as a longer one."""
    extractor = ClapHtsatFused(saved_clap(tmp_path / "clap", fused=True)).reading(SPEC.model_copy(update={"rate": 1600.0}))
    sound = noise(3, 1, 1600)
    together = extractor(sound)
    for row in range(3):
        torch.testing.assert_close(extractor(sound[row : row + 1])[0], together[row], rtol=1e-4, atol=1e-5)


def test_a_distance_is_over_the_windows_of_all_recordings(vggish: Vggish, tmp_path: Path) -> None:
    signals = noise(6, 1, 47000, seed=3)
    np.savez(tmp_path / "sounds.npz", signals=signals.numpy())
    data = {"name": "arrays", "modality": "audio", "path": str(tmp_path / "sounds.npz"), "rate": 16000}

    def evaluated(**options: Any) -> Any:
        suite = {"name": "sounds", "data": data, "metrics": ["frechet", "manifold"], "extractors": ["log-mel-statistics"], **options}
        return evaluate_suite(Suite.parse(suite), SoundBits(SoundBitsConfig(levels=4)), name="bits", extractors=[vggish])

    with pytest.raises(EvaluationError, match="log-mel-statistics"):
        evaluated()
    result = evaluated(allow_few_samples=True)
    values = {value.name: value for value in result.values}
    distance = values["FD[vggish]"]
    assert distance.count == 18
    assert distance.details["reference_count"] == 18
    assert distance.details["more_samples_than_dimensions"]
    assert "independent" in distance.no_interval
    single = {value.name: value for value in evaluated(allow_few_samples=True, batch_size=1).values}
    for name in ("FD[vggish]", "precision[vggish]", "coverage[vggish]"):
        assert single[name].value == pytest.approx(values[name].value, rel=1e-3)
