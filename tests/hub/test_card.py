"""What the card says of a model follows from its layout and its preprocessing, whatever the modality."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_family
import yaml
from tiny_family import TinyConfig

from visiontok.core.card import ModelCard
from visiontok.core.tokenizer import Tokenizer
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.hub.card import render_card
from visiontok.registry import SignalFacts
from visiontok.signals import AudioPreprocessing, ImagePreprocessing
from visiontok.tokens import Segment, TokenLayout


class Fake(Tokenizer[TinyConfig]):
    """A tokenizer of which only the outside matters here."""

    config_class = TinyConfig

    def __init__(self, layout: TokenLayout, preprocessing: Any, *, can_decode: bool = True) -> None:
        super().__init__(TinyConfig())
        self.layout, self.preprocessing, self.can_decode = layout, preprocessing, can_decode


def codec(*segments: Segment) -> Fake:
    layout = TokenLayout(modality="audio", segments=segments, signal_shape=(3840,), rate=24000, levels="any")
    return Fake(layout, AudioPreprocessing(sample_rate=24000, channels=2, multiple_of=960))


def frames(name: str, count: int) -> Segment:
    return Segment(name=name, shape=(count,), vocab_size=1024, codebooks=8, stride=(3840 // count,), free_axes=(0,))


def card(model: Fake | GPT) -> tuple[dict[str, Any], str]:
    _, matter, body = render_card(ModelCard(), model, name="fake", family=tiny_family.FAMILY).split("---\n", 2)
    facts: dict[str, Any] = yaml.safe_load(matter)["visiontok"]
    return facts, body


def test_a_codec_of_sound_of_any_length_has_rates() -> None:
    facts, body = card(codec(frames("codes", 12)))
    assert facts["frame_rate"] == 75
    assert facts["codebooks"] == 8
    assert facts["bits_per_second"] == 75 * 8 * 10
    assert "tokens" not in facts
    assert SignalFacts.read(facts["signal"]) == SignalFacts(modality="audio", sample_rate=24000, channels=2)
    assert "75 positions per second of 8 tokens from a vocabulary of 1024, 6000 bits per second" in body
    assert "(B, 2, samples)" in body
    assert "image" not in body.partition("## Tokens")[0].partition("## How to load it")[2]


def test_a_codec_of_several_rates() -> None:
    facts, body = card(codec(frames("coarse", 3), frames("fine", 12)))
    assert "frame_rate" not in facts
    assert facts["bits_per_second"] == (18.75 + 75) * 80
    assert "7500 bits per second" in body


def test_an_encode_only_model_shows_no_decoding() -> None:
    grid = Segment(name="grid", shape=(2, 3), vocab_size=16, stride=(4, 4))
    layout = TokenLayout(modality="image", segments=(grid,), signal_shape=(8, 12))
    decodes, body = card(Fake(layout, ImagePreprocessing(size=8)))
    assert "model.decode(" in body
    assert decodes["signal"] == {"modality": "image", "size": [8, 12]}
    _, body = card(Fake(layout, ImagePreprocessing(size=8), can_decode=False))
    assert 'model.encode("image.png")' in body
    assert "model.decode(" not in body


@pytest.mark.parametrize(("channels", "high"), [(1, 80.0), (3, None)])
def test_signals_that_files_do_not_hold_come_as_tensors(channels: int, high: float | None) -> None:
    grid = Segment(name="grid", shape=(2, 2), channels=4, stride=(4, 4))
    layout = TokenLayout(modality="image", segments=(grid,), signal_shape=(8, 8))
    facts, body = card(Fake(layout, ImagePreprocessing(size=8, channels=channels, low=None, high=high)))
    assert "image.png" not in body
    assert f"(B, {channels}, height, width)" in body
    assert "Continuous latents" in body
    assert not {"tokens", "bits", "vocab_size"} & set(facts)


@pytest.mark.parametrize(
    ("condition", "call"),
    [
        ({"type": "none"}, "num_samples=4"),
        ({"type": "classes", "num_classes": 3}, "torch.tensor([0, 1, 2])"),
        ({"type": "text", "text": {"length": 4, "dim": 6}}, "Condition(text=...)"),
    ],
)
def test_a_generator_names_its_tokenizer_and_takes_its_condition(condition: dict[str, Any], call: str) -> None:
    layout = {"modality": "image", "segments": [{"name": "grid", "shape": [2, 2], "vocab_size": 16}], "signal_shape": [8, 8]}
    tokenizer = {"name": "me/tiny", "weights_sha256": "0" * 64}
    model = GPT(GPTConfig.parse({"layout": layout, "dim": 8, "depth": 1, "num_heads": 2, "condition": condition, "tokenizer": tokenizer}))
    facts, body = card(model)
    assert facts["tokenizer"] == "me/tiny"
    assert facts["tokens"] == 4
    assert f"model.generate({call})" in body
    assert "tokens of me/tiny" in body
