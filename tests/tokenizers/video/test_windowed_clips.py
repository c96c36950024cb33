"""Tokenizers that read whole clips take long ones as several, each by itself, with boundaries among their tokens."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from small_models import SMALL
from torch import Tensor

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.tokenizers.shared.windowed_clips import WindowedClips
from visiontok.tokens import join_clips, split_clips

CONTINUOUS = {"quantizer": {"type": "gaussian", "dim": 4}}


def build(name: str, **changes: Any) -> WindowedClips[Any]:
    """Of clips of 5 frames."""
    torch.manual_seed(0)
    model = visiontok.create(name, **{**SMALL[name], **changes}).eval()
    assert isinstance(model, WindowedClips)
    return model


def clip(count: int, *, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, count, 16, 16, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("name", ["omnitokenizer", "open-magvit2-video"])
@pytest.mark.parametrize("count", [6, 15, 13])
def test_a_long_clip_is_encoded_and_decoded_as_several(name: str, count: int) -> None:
    model, clips = build(name), clip(count, batch=2)
    with pytest.warns(UserWarning, match="more than 5 frames"):
        tokens = model.encode(clips)
    parts = [model.encode(part) for part in clips.split(5, dim=2)]
    assert torch.equal(tokens.data, join_clips(parts).data)
    assert tokens.extras["clips"][0, :, 0].tolist() == [part.shape[2] for part in clips.split(5, dim=2)]
    assert tokens.extras["signal_size"].tolist() == [[count, 16, 16]] * 2
    decoded = model.decode(tokens)
    assert decoded.shape == clips.shape
    torch.testing.assert_close(decoded, torch.cat([model.decode(part) for part in parts], dim=2), rtol=0, atol=1e-5)
    assert [part.data.shape for part in split_clips(tokens[:1])] == [part[:1].data.shape for part in parts]


def test_clips_of_any_length_share_a_batch_and_do_not_depend_on_it() -> None:
    model = build("omnitokenizer")
    clips = [clip(count)[0] for count in (12, 5, 1, 7)]
    with pytest.warns(UserWarning, match="clips of 5"):
        tokens, *alone = [model.encode(signals) for signals in (clips, *([one] for one in clips))]
    decoded = model.decode(tokens)
    for number, (one, own) in enumerate(zip(clips, alone, strict=True)):
        ((_, sample),) = tokens[number : number + 1].groups()
        assert torch.equal(sample.data, own.data)
        torch.testing.assert_close(decoded[number : number + 1, :, : one.shape[1]], model.decode(own), rtol=0, atol=1e-5)


def test_windows_are_chosen_and_a_clip_can_be_taken_whole() -> None:
    model, clips = build("open-magvit2-video"), clip(9)
    with pytest.warns(UserWarning, match="9 frames|5 frames"):
        cut = model.encode(clips)
    model.window = math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = model.encode(clips)
    expected = model.quantizer(model.encode_latents(clips))
    assert expected.indices is not None
    assert torch.equal(whole.data, expected.indices.flatten(1))
    assert whole.layout.extents[0] == 5
    assert cut.layout.extents[0] == 6  # 3 for 5 frames, and 3 for 4
    for wrong in (0, -1, 2.5, math.nan):
        with pytest.raises(ConfigError, match="windows"):
            model.window = wrong


def test_draws_go_on_from_clip_to_clip() -> None:
    model, clips = build("omnitokenizer", **CONTINUOUS), clip(5).repeat(1, 1, 2, 1, 1)
    with pytest.warns(UserWarning, match="5 frames"):
        drawn = [model.encode(clips, noise=torch.Generator().manual_seed(3)).data for _ in range(2)]
    assert torch.equal(*drawn)
    first, second = drawn[0].tensor_split(2, dim=1)
    assert not torch.equal(first, second)
