"""Sound, clips and features, from what a caller holds to a model's batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from visiontok.base.errors import ConfigError, SignalError
from visiontok.signals import AudioPreprocessing, FeaturePreprocessing, ImagePreprocessing, SignalSpec, VideoPreprocessing

STEREO = AudioPreprocessing(sample_rate=100, channels=2, multiple_of=8)
CLIPS = VideoPreprocessing(frames=ImagePreprocessing(multiple_of=4), num_frames=5, frames_multiple_of=4, first_frame_alone=True)
FEATURES = FeaturePreprocessing(channels=3)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


# Sound.


def test_sound_comes_as_tensors_arrays_and_mappings() -> None:
    sound = noise(2, 30)
    for item in (sound, sound.numpy(), {"array": sound.numpy(), "sampling_rate": 100}, sound.double()):
        assert torch.equal(STEREO(item).values[0], sound)
    mono = AudioPreprocessing(sample_rate=100)
    assert mono(noise(30)).values.shape == (1, 1, 30)
    assert STEREO([sound, sound[:, :7]]).sizes.tolist() == [[30], [7]]


def test_sound_is_padded_with_silence_to_whole_frames() -> None:
    padded = STEREO.pad(noise(1, 2, 13))
    assert padded.shape == (1, 2, 16)
    assert not padded[..., 13:].any()
    assert STEREO.fits((16,))
    assert not STEREO.fits((13,))


@pytest.mark.parametrize(
    ("sound", "named"),
    [
        (noise(3, 30), r"\(1, 3, 30\)"),
        (noise(1, 2, 3, 4), r"\(1, 2, 3, 4\)"),
        ({"array": noise(2, 30).numpy(), "sampling_rate": 0.5}, "0.5"),
        ({"sampling_rate": 100}, "sampling_rate"),
        ({"array": noise(30, 2).numpy(), "sampling_rate": 100}, r"\(30, 2\)"),
        (3 * noise(2, 30), "item 0"),
        ((noise(2, 30) * 1000).to(torch.int16), "int16"),
        (torch.full((2, 4), float("nan")), "NaN"),
        ("song.mp3", "song.mp3"),
        (Image.new("RGB", (4, 4)), "Image"),
        ([], "signal"),
    ],
)
def test_sound_that_cannot_be_taken_is_named(sound: object, named: str) -> None:
    with pytest.raises(SignalError, match=named):
        STEREO(sound)


# Clips.


def test_clips_and_images_share_a_batch() -> None:
    image = Image.fromarray(np.full((6, 7, 3), 255, dtype=np.uint8))
    batch = CLIPS([noise(3, 4, 6, 7).abs(), image, noise(3, 5, 9).abs()])
    assert batch.sizes.tolist() == [[4, 6, 7], [1, 6, 7], [1, 5, 9]]
    assert batch.values.shape == (3, 3, 4, 6, 9)
    assert bool((batch.values[1, :, 0, :6, :7] == 1).all())


def test_clips_come_as_arrays_of_floats_or_of_bytes_as_readers_give_them() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 6, 7, 3), dtype=np.uint8)
    expected = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 255
    assert torch.equal(CLIPS(frames).values[0], expected)
    assert torch.equal(CLIPS([expected.numpy(), frames]).values[0], expected)


def test_clips_are_padded_in_space_and_time() -> None:
    clip = noise(1, 3, 7, 5, 6).abs()
    padded = CLIPS.pad(clip)
    assert padded.shape == (1, 3, 9, 8, 8)  # 1 + 8 frames
    assert torch.equal(padded[:, :, :7, :5, :6], clip)
    assert torch.equal(padded[:, :, 7], padded[:, :, 6])
    assert CLIPS.pad(clip[:, :, :1]).shape == (1, 3, 1, 8, 8)
    assert CLIPS.fits((9, 8, 8))
    assert not CLIPS.fits((8, 8, 8))
    assert CLIPS.fits(CLIPS.usual_size)


def test_clips_of_a_fixed_length() -> None:
    fixed = CLIPS.replace(fixed_length=True)
    with pytest.raises(SignalError, match="4 frames"):
        fixed(noise(3, 4, 8, 8).abs())
    assert fixed(noise(3, 5, 8, 8).abs()).values.shape == (1, 3, 5, 8, 8)


# Features.


def test_features_have_any_values_and_perhaps_one_length() -> None:
    sequence = 100 * noise(3, 6)
    assert torch.equal(FEATURES(sequence.numpy()).values[0], sequence)
    assert FEATURES([sequence, sequence[:, :2]]).sizes.tolist() == [[6], [2]]
    fixed = FeaturePreprocessing(channels=3, length=6)
    assert fixed.fits((6,))
    with pytest.raises(SignalError, match="2"):
        fixed([sequence, sequence[:, :2]])
    frames = FeaturePreprocessing(channels=3, multiple_of=6)
    assert frames.usual_size == (18,)
    assert torch.equal(frames(sequence).values[0], sequence)
    with pytest.raises(SignalError, match=r"\[2, 6\].* 6"):
        frames([sequence, sequence[:, :2]])
    with pytest.raises(SignalError, match=r"\(4, 6\)|\(1, 4, 6\)"):
        FEATURES(noise(4, 6))


# All.


@pytest.mark.parametrize("preprocessing", [STEREO, CLIPS, FEATURES, ImagePreprocessing(size=8), ImagePreprocessing(channels=1, low=2, high=80)])
def test_a_blank_signal_fits_and_lies_in_the_range(preprocessing: AudioPreprocessing) -> None:
    blank = preprocessing.blank(samples=2)
    assert len(blank) == 2
    assert blank.shape[1] == preprocessing.spec.channels
    assert preprocessing.fits(blank.shape[2:])
    assert torch.equal(preprocessing(blank).values, blank)
    assert type(preprocessing).parse(preprocessing.to_dict()) == preprocessing


def test_a_spec_names_axes_and_range() -> None:
    depth = SignalSpec(modality="image", channels=1, low=0, high=80)
    assert depth.axes == ("height", "width")
    assert depth.peak == 80
    assert not depth.is_rgb
    assert depth.clamp(torch.tensor([-1.0, 90.0])).tolist() == [0, 80]
    assert SignalSpec(modality="features", channels=4).peak is None
    with pytest.raises(ConfigError, match="empty"):
        SignalSpec.parse({"modality": "image", "channels": 1, "low": 1, "high": 1})
