"""Networks of sound that the user points to: a recognizer of speech, an embedding of speakers, a predictor of listeners' ratings, an encoder.

Nothing is downloaded.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from visiontok.base.config import Config
from visiontok.base.network_folders import belonging_to, found_network, whole_network
from visiontok.base.optional import import_optional
from visiontok.evaluation.features.base import NamedNetwork
from visiontok.evaluation.features.sound import SoundExtractor
from visiontok.signals.audio_conversion import resampled

RATE = 16000
"""In Hz, of what all of them read."""

_SHORTEST = 4880
"""Samples; silence is added to shorter sounds, from which the convolutions of these networks leave nothing."""


class SoundNetworksConfig(Config):
    """Where the networks of metrics of sound are.

    Attributes:
        transcriber: folder of a speech recognizer in the layout of transformers (Whisper, wav2vec 2.0), for `wer`.
        speaker: folder of an x-vector network in that layout (WavLMForXVector, for example), for `speaker_similarity`.
        encoder: folder of an encoder of waveforms in that layout (wav2vec 2.0, HuBERT, WavLM, MERT), an extractor beside those that the suite names.
        rating: TorchScript file that maps sounds (1, T) at 16 kHz to a rating, such as an export of UTMOS, for `predicted_mos`.
    """

    transcriber: str | None = None
    speaker: str | None = None
    encoder: str | None = None
    rating: str | None = None


class SoundNetwork(NamedNetwork):
    """A network by its path, after which it is named; its identity is the SHA-256 of all its files.

    Attributes:
        what: it is, in words.
        suffix: of its file; a folder has none.
    """

    what: ClassVar[str]
    suffix: ClassVar[str] = ""

    def __init__(self, path: str | Path, device: torch.device) -> None:
        """Read the network.

        Raises:
            CheckpointError: if there is none; says what is required.
            DependencyError: if transformers is not installed.
        """
        where, self.identity = found_network(path, self.what, suffix=self.suffix)
        self.name = where.stem if self.suffix else where.name
        self.protocol = f"{self.name} ({self.identity[:12]}) at {RATE} Hz, resampled by soxr, mean of the channels"
        with belonging_to(where, self.what):
            self.load(where, device)

    @abstractmethod
    def load(self, path: Path, device: torch.device) -> None:
        """Build the network from its files."""

    @abstractmethod
    def __call__(self, sound: Tensor, rate: int) -> Any:
        """What it finds in a sound (C, T)."""


def _prepared(sound: Tensor, rate: int) -> np.ndarray:
    """(T,) float32 at 16 kHz of a sound (C, T), at least `_SHORTEST` samples."""
    samples: np.ndarray = resampled(sound.float().mean(dim=0, keepdim=True).cpu().numpy(), rate, RATE)[0]
    return np.pad(samples, (0, max(0, _SHORTEST - len(samples))))


class Transcriber(SoundNetwork):
    """Speech -> text, greedily."""

    what = "speech recognizer in the layout of transformers (a folder with config.json, weights and tokenizer)"

    def load(self, path: Path, device: torch.device) -> None:
        transformers = import_optional("transformers", extra="metrics")
        config = transformers.AutoConfig.from_pretrained(str(path), local_files_only=True)
        writes_text = type(config) in transformers.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING
        network = whole_network(transformers.AutoModelForSpeechSeq2Seq if writes_text else transformers.AutoModelForCTC, path)
        parts = {
            "tokenizer": transformers.AutoTokenizer.from_pretrained(str(path), local_files_only=True),
            "feature_extractor": transformers.AutoFeatureExtractor.from_pretrained(str(path), local_files_only=True),
        }
        self._pipeline: Any = transformers.pipeline("automatic-speech-recognition", model=network, device=device, **parts)

    @torch.no_grad()
    def __call__(self, sound: Tensor, rate: int) -> str:
        """The text of a sound (C, T)."""
        found: str = self._pipeline({"raw": _prepared(sound, rate), "sampling_rate": RATE})["text"]
        return found


class SpeakerEmbedding(SoundNetwork):
    """Speech -> the direction of its speaker."""

    what = "x-vector network in the layout of transformers (a folder with config.json, weights and preprocessor_config.json)"

    def load(self, path: Path, device: torch.device) -> None:
        transformers = import_optional("transformers", extra="metrics")
        self._prepare = transformers.AutoFeatureExtractor.from_pretrained(str(path), local_files_only=True)
        self._network = whole_network(transformers.AutoModelForAudioXVector, path).to(device)

    @torch.no_grad()
    def __call__(self, sound: Tensor, rate: int) -> Tensor:
        """(D,) float64 of length 1, of a sound (C, T)."""
        values = self._prepare(_prepared(sound, rate), sampling_rate=RATE, return_tensors="pt").input_values
        return normalize(self._network(values.to(self._network.device)).embeddings[0].double(), dim=0).cpu()


class RatingPredictor(SoundNetwork):
    """Sound -> the rating that listeners would give."""

    what = "TorchScript file of a predictor of ratings"
    suffix = ".pt"

    def load(self, path: Path, device: torch.device) -> None:
        self._device = device
        self._network = torch.jit.load(str(path), map_location=device).eval()

    @torch.no_grad()
    def __call__(self, sound: Tensor, rate: int) -> float:
        """Of a sound (C, T)."""
        return float(self._network(torch.from_numpy(_prepared(sound, rate))[None].to(self._device)))


class SoundEncoder(SoundExtractor):
    """The mean over time of what a self-supervised encoder of waveforms gives last."""

    what = "encoder of waveforms in the layout of transformers (a folder with config.json, weights and preprocessor_config.json)"
    shortest = _SHORTEST

    def __init__(self, path: str | Path, device: torch.device) -> None:
        """Read the network.

        Raises:
            CheckpointError: if there is none, or another one; says what is required.
            DependencyError: if transformers is not installed.
        """
        where, self.identity = found_network(path, self.what)
        transformers = import_optional("transformers", extra="metrics")
        with belonging_to(where, self.what):
            self._prepare = transformers.AutoFeatureExtractor.from_pretrained(str(where), local_files_only=True)
            self._network = whole_network(transformers.AutoModel, where).to(device)
            self.rate = int(self._prepare.sampling_rate)
        self.name = where.name
        self.protocol = f"mean over time of the last hidden states of {self.name} ({self.identity[:12]}) at {self.rate} Hz, resampled by soxr"

    def embed(self, sounds: Tensor) -> Tensor:
        values = self._prepare(list(sounds.numpy()), sampling_rate=self.rate, return_tensors="pt").input_values
        return self._network(values.to(self._network.device)).last_hidden_state.mean(dim=1)


NetworkT = TypeVar("NetworkT", bound=SoundNetwork)


@cache
def find_network(kind: type[NetworkT], path: str, device: torch.device) -> NetworkT:
    """The network at a path, built once per process.

    Raises:
        CheckpointError, DependencyError: see `SoundNetwork`.
    """
    return kind(path, device)
