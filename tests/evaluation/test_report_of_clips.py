"""Clips in a report: the animation and the contact sheets show what was given."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from visiontok.base.errors import SignalError
from visiontok.evaluation.results.report import ImageGrid
from visiontok.evaluation.results.report.clips import MOST_FRAMES, SHEET, clip_gallery, clip_grid, continuation_grid, frames, spread, token_maps
from visiontok.evaluation.results.report.page import render_page
from visiontok.evaluation.results.report.sections import ClipGrid
from visiontok.evaluation.results.report.side_by_side import side_by_side
from visiontok.signals import SignalSpec
from visiontok.signals.animation import animation_grid, encode_animation
from visiontok.tokens import Tokens
from visiontok.tokens.grid import grid_layout

SPEC = SignalSpec(modality="video", channels=3, low=0, high=1, rate=10)


def clip(frames: int, size: tuple[int, int] = (16, 24), seed: int = 0) -> torch.Tensor:
    return torch.rand(3, frames, *size, generator=torch.Generator().manual_seed(seed))


def decoded(animation: bytes) -> np.ndarray:
    """(T, H, W, 3)."""
    with Image.open(io.BytesIO(animation)) as image:
        frames = []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames)


def test_an_animation_holds_every_frame_exactly() -> None:
    given = clip(5)
    shown = decoded(encode_animation(given, rate=10))
    assert np.array_equal(shown, (given * 255).round().byte().permute(1, 2, 3, 0).numpy())
    with Image.open(io.BytesIO(encode_animation(given, rate=10))) as image:
        image.load()
        assert (image.info["loop"], image.info["duration"]) == (0, 100)
    with pytest.raises(SignalError, match=r"\(3, T, H, W\)"):
        encode_animation(given[:1], rate=10)


def test_clips_of_different_lengths_side_by_side() -> None:
    grid = animation_grid([clip(2), clip(4, seed=1), clip(1, seed=2)], columns=2)
    assert grid.shape == (3, 4, 2 * 18 + 2, 2 * 26 + 2)
    torch.testing.assert_close(grid[:, 3, 2:18, 2:26], clip(2)[:, 1])  # the shorter one stops


def test_a_clip_above_its_reconstruction_and_their_difference() -> None:
    original = clip(20) * 0.5
    other = original.clone()
    other[:, 19] += 0.1
    grid = clip_grid("title", original, {"model": other}, spec=SPEC)
    assert isinstance(grid, ClipGrid)
    originals, models, gaps = grid.rows
    assert [len(row.images) for row in grid.rows] == [SHEET] * 3
    assert originals.captions[0] == "0.00 s"
    assert originals.captions[-1] == "1.90 s"
    assert models.captions[0] == "identical"
    assert models.captions[-1].endswith(" dB")
    assert float(models.captions[-1].removesuffix(" dB")) == pytest.approx(20, abs=0.3)
    assert not gaps.images[0].any()
    assert gaps.images[-1].mean() == pytest.approx(0.1 * 4 * 255, abs=3)
    shown = decoded(grid.animation)
    assert shown.shape == (20, 20, 3 * 26 + 2, 3)
    assert grid.labels == ["original", "model", "difference, 4 times"]


def test_only_common_frames_are_compared() -> None:
    grid = clip_grid("", clip(6), {"shorter": clip(6)[:, :4]}, spec=SPEC.replace(rate=None))
    assert grid is not None
    assert [row.captions for row in grid.rows[:2]] == [[f"frame {index}" for index in range(4)], ["identical"] * 4]
    assert len(decoded(grid.animation)) == 6


def test_long_and_large_clips_are_shown_in_part_and_smaller() -> None:
    grid = clip_grid("", clip(120, (8, 512)), {}, spec=SPEC)
    assert grid is not None
    assert len(decoded(grid.animation)) <= MOST_FRAMES
    assert grid.rows[0].images[0].shape == (4, 256, 3)
    assert grid.rows[0].captions[-1] == "11.90 s"
    assert spread(120)[::7] == [0, 119]
    assert spread(3) == [0, 1, 2]
    assert spread(1) == [0]


def test_tokens_are_drawn_frame_by_frame() -> None:
    layout = grid_layout((3, 2, 4), stride=2, vocab_size=16)
    maps = token_maps(Tokens(torch.arange(24)[None] % 16, layout), side=24)
    assert [image.shape for image in maps] == [(12, 24, 3)] * 3
    assert np.array_equal(maps[0], maps[2])  # whose indices are equal
    assert not np.array_equal(maps[0], maps[1])


def test_known_frames_of_a_continued_clip_have_another_border() -> None:
    grid = continuation_grid("", clip(6), {"sample 0": clip(4, seed=1)}, known=2, spec=SPEC)
    assert grid is not None
    original, sample = grid.rows
    assert original.captions == ["0.00 s, known", "0.10 s, known", "0.20 s", "0.30 s", "0.40 s", "0.50 s"]
    assert [len(original.images), len(sample.images)] == [6, 4]
    for row, given in ((original, clip(6)), (sample, clip(4, seed=1))):
        inner = [image[1:-1, 1:-1] for image in row.images]
        assert np.array_equal(inner, frames(given, range(given.shape[1])))
        borders = [{tuple(pixel) for side in (image[0], image[-1], image[:, 0], image[:, -1]) for pixel in side.tolist()} for image in row.images]
        assert [len(colors) for colors in borders] == [1] * len(borders)
        assert borders[0] == borders[1] != borders[2] == borders[-1]
    assert decoded(grid.animation).shape == (6, 18 + 4, 2 * 28 + 2, 3)
    assert continuation_grid("", torch.zeros(2, 3, 8, 8), {}, known=1, spec=SPEC.replace(channels=2)) is None


def test_depth_is_shown_in_gray_and_what_cannot_be_looked_at_is_not() -> None:
    depth = SignalSpec(modality="video", channels=1, low=0, high=10)
    grid = clip_grid("", torch.full((1, 3, 8, 8), 5.0), {}, spec=depth)
    assert grid is not None
    assert grid.rows[0].images[0].flatten().tolist() == [128] * 192
    assert clip_grid("", torch.zeros(2, 3, 8, 8), {}, spec=depth.replace(channels=2)) is None
    assert clip_gallery("", [torch.zeros(2, 3, 8, 8)], spec=depth.replace(channels=2)) is None


def test_a_page_with_clips_is_self_contained() -> None:
    tokens = Tokens(torch.zeros(1, 12, dtype=torch.int64), grid_layout((3, 2, 2), stride=2, vocab_size=4))
    section = side_by_side("a clip", clip(6), {"model": clip(6, seed=1)}, spec=SPEC, tokens=tokens)
    gallery = clip_gallery("generated", [clip(3), clip(5)], spec=SPEC, captions=["class 0", "class 1"])
    assert isinstance(section, ClipGrid)
    assert gallery is not None
    assert not isinstance(section, ImageGrid)
    page = render_page("title", [section, gallery])
    assert page.count("data:image/webp;base64,") == 2
    assert page.count("data:image/png;base64,") == 3 * 6 + 3 + 3 + 5
    assert "http" not in page.replace("http://www.w3.org", "")
