"""Clips that `visiontok generate` continues: their first frames are what samples begin with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontok.base.errors import ConfigError

if TYPE_CHECKING:
    from visiontok.core.tokenizer import Tokenizer
    from visiontok.generators.base import Generator
    from visiontok.signals import VideoPreprocessing
    from visiontok.signals.video_reading import Clip
    from visiontok.tokens import Latents, Tokens


def known_clips(
    files: Sequence[Path], *, frames: int | None, generator: Generator[Any], tokenizer: Tokenizer[Any], name: str
) -> Callable[[Sequence[int]], dict[str, Any]]:
    """Gives what `generate` takes so that some samples, by their numbers, continue clips, which are used in turn: the tokens that they begin with, or
    for generators that are conditioned on the tokens of another clip these, of the known frames and the last one repeated.

    Args:
        files: the clips.
        frames: known ones of each, or fewer where these are not whole tokens; None for all.
        generator: that continues them.
        tokenizer: of the tokens of the generator.
        name: of the generator, for errors.

    Raises:
        ConfigError: if the generator continues no clips, or the known frames are not one token.
        SignalError: if a file cannot be read.
    """
    from visiontok.generators.condition import Condition, TokenCondition
    from visiontok.generators.gpt.model import GPT
    from visiontok.signals import VideoPreprocessing

    preprocessing = tokenizer.preprocessing
    if not isinstance(preprocessing, VideoPreprocessing) or not isinstance(generator, GPT):
        raise ConfigError(f"--continue needs a generator that writes the tokens of clips one after the other, such as a gpt; {name} does not")
    is_condition = isinstance(generator.config.condition, TokenCondition)
    known = [_tokens(_shown(path, frames, generator, preprocessing), path, tokenizer, preprocessing, repeat=is_condition) for path in files]

    def given(rows: Sequence[int]) -> dict[str, Any]:
        chosen: Any = type(known[0]).cat([known[row % len(known)] for row in rows])  # type: ignore[misc]
        return {"condition": Condition(tokens=chosen)} if is_condition else {"start": chosen}

    return given


def _shown(path: Path, frames: int | None, generator: Generator[Any], preprocessing: VideoPreprocessing) -> Clip:
    """The first frames of a file at the rate that the tokenizer was made for, resized and cropped to the size that the generator writes."""
    from visiontok.data.crops import CenterCrop
    from visiontok.data.train_loader import resized_clip
    from visiontok.signals import ImagePreprocessing
    from visiontok.signals.video_frames import FrameSampling
    from visiontok.signals.video_reading import read_clip

    clip = read_clip(path, sampling=FrameSampling(fps=preprocessing.spec.rate, frames=frames))
    height, width = generator.layout.signal_shape[1:]
    return resized_clip(clip, CenterCrop(), height, ImagePreprocessing(size=height)) if height == width else clip


def _tokens(clip: Clip, path: Path, tokenizer: Tokenizer[Any], preprocessing: VideoPreprocessing, *, repeat: bool) -> Tokens | Latents:
    """Of a clip, as far as it is whole tokens; with `repeat` of as many frames as the tokenizer's clips have, the last one repeated."""
    import numpy as np

    found = len(clip.frames)
    if repeat:
        rows = np.minimum(np.arange(preprocessing.num_frames), found - 1)
    else:
        sides = preprocessing.usual_size[1:]
        count = next((count for count in range(found, 0, -1) if preprocessing.padded_size((count, *sides))[0] == count), 0)
        if not count:
            raise ConfigError(f"{path}: {found} known frames are fewer than the {preprocessing.frames_multiple_of} of a token: raise --frames")
        rows = np.arange(count)
    return tokenizer.encode(replace(clip, frames=clip.frames[rows]))
