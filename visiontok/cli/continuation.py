"""Clips that `visiontok generate` continues: their first frames are what samples begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontok.base.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from visiontok.core.tokenizer import Tokenizer
    from visiontok.generators.base import Generator
    from visiontok.signals import VideoPreprocessing
    from visiontok.signals.video_reading import Clip
    from visiontok.tokens import Latents, Tokens

_SHOWN, _EACH = 8, 4
"""The most clips in a report, and the most continuations of each."""


@dataclass(frozen=True)
class KnownClip:
    """A clip that is continued.

    Attributes:
        path: of the file.
        whole: what is known of it and what really follows, as far as the generator writes.
        count: known frames.
        tokens: of these, a batch of one.
    """

    path: Path
    whole: Clip
    count: int
    tokens: Tokens | Latents


@dataclass(frozen=True)
class Continuation:
    """Clips that samples, by their numbers, continue in turn.

    Attributes:
        clips: one or more.
        is_condition: whether the generator is conditioned on the tokens of the known frames, and does not begin with them.
        tokenizer: of these tokens.
        name: of the generator.
    """

    clips: Sequence[KnownClip]
    is_condition: bool
    tokenizer: Tokenizer[Any]
    name: str

    def given(self, rows: Sequence[int]) -> dict[str, Any]:
        """What `generate` takes for some samples."""
        from visiontok.generators.condition import Condition

        parts = [self.clips[row % len(self.clips)].tokens for row in rows]
        tokens: Any = type(parts[0]).cat(parts)  # type: ignore[arg-type]
        return {"condition": Condition(tokens=tokens)} if self.is_condition else {"start": tokens}

    def write_report(self, path: Path, samples: Sequence[Tensor]) -> None:
        """A page of the first samples (3, T, H, W): clips as they really go on, what tokens keep of that, and how samples go on."""
        from visiontok.evaluation.results.report import write_report
        from visiontok.evaluation.results.report.clips import continuation_grid

        tokenizer, found = self.tokenizer, []
        for number, clip in enumerate(self.clips[: min(_SHOWN, len(samples))]):
            original = tokenizer.prepare(clip.whole).values[0]
            frames, height, width = original.shape[1:]
            decoded = tokenizer.decode(_encoded(clip.whole, tokenizer, is_condition=self.is_condition))
            others = {"decoded": decoded[0, :, :frames]}
            mine = [*range(number, len(samples), len(self.clips))][:_EACH]
            others |= {f"sample {row}": samples[row][..., :height, :width] for row in mine}  # without what pads the sides of the known frames
            found.append(continuation_grid(str(clip.path), original, others, known=clip.count, spec=tokenizer.spec))
        summary = "Clips as they really go on, as their tokens are decoded, and as samples continue them."
        write_report(path, f"Clips continued by {self.name}", [grid for grid in found if grid is not None], summary=summary)


def continuation(files: Sequence[Path], *, frames: int | None, generator: Generator[Any], tokenizer: Tokenizer[Any], name: str) -> Continuation:
    """Samples begin with the tokens of the known frames; generators that are conditioned on the tokens of another clip are given these, of the known
    frames and the last one repeated.

    Args:
        files: the clips.
        frames: known ones of each, or fewer where these are not whole tokens; None for all.
        generator: that continues them.
        tokenizer: of the tokens of the generator.
        name: of the generator.

    Raises:
        ConfigError: if the generator continues no clips, or the known frames are not one token.
        SignalError: if a file cannot be read.
    """
    from visiontok.generators.condition import TokenCondition
    from visiontok.generators.gpt.model import GPT
    from visiontok.signals import VideoPreprocessing

    preprocessing = tokenizer.preprocessing
    if not isinstance(preprocessing, VideoPreprocessing) or not isinstance(generator, GPT):
        raise ConfigError(f"--continue needs a generator that writes the tokens of clips one after the other, such as a gpt; {name} does not")
    is_condition = isinstance(generator.config.condition, TokenCondition)
    clips = []
    for path in files:
        whole = _read(path, frames, generator, preprocessing)
        count = min(len(whole.frames), frames or len(whole.frames))
        if not is_condition:
            count = _whole_tokens(count, path, preprocessing)
        known = replace(whole, frames=whole.frames[:count])
        clips.append(KnownClip(path, whole, count, _encoded(known, tokenizer, is_condition=is_condition)))
    return Continuation(clips, is_condition, tokenizer, name)


def _read(path: Path, frames: int | None, generator: Generator[Any], preprocessing: VideoPreprocessing) -> Clip:
    """A file at the rate that the tokenizer was made for, resized and cropped to the size that the generator writes: the known frames, and those that
    follow as far as the generator writes."""
    from visiontok.data.crops import CenterCrop
    from visiontok.data.train_loader import resized_clip
    from visiontok.signals import ImagePreprocessing
    from visiontok.signals.video_frames import FrameSampling
    from visiontok.signals.video_reading import read_clip

    written, height, width = generator.layout.signal_shape
    clip = read_clip(path, sampling=FrameSampling(fps=preprocessing.spec.rate, frames=None if frames is None else max(frames, written)))
    return resized_clip(clip, CenterCrop(), height, ImagePreprocessing(size=height)) if height == width else clip


def _whole_tokens(found: int, path: Path, preprocessing: VideoPreprocessing) -> int:
    """The most frames, of those that are known, that are whole tokens."""
    sides = preprocessing.usual_size[1:]
    count = next((count for count in range(found, 0, -1) if preprocessing.padded_size((count, *sides))[0] == count), 0)
    if not count:
        raise ConfigError(f"{path}: {found} known frames are fewer than the {preprocessing.frames_multiple_of} of a token: raise --frames")
    return count


def _encoded(clip: Clip, tokenizer: Tokenizer[Any], *, is_condition: bool) -> Tokens | Latents:
    """Of a clip; as a condition with the last frame repeated, to as many frames as the tokenizer's clips have."""
    import numpy as np

    if is_condition:
        preprocessing: Any = tokenizer.preprocessing
        clip = replace(clip, frames=clip.frames[np.minimum(np.arange(preprocessing.num_frames), len(clip.frames) - 1)])
    return tokenizer.encode(clip)
