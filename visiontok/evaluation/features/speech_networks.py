"""Networks of speech that the user points to: a recognizer, a speaker embedding, a predictor of listeners' ratings. Nothing is downloaded."""

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
from visiontok.base.errors import CheckpointError
from visiontok.base.files import file_sha256
from visiontok.base.optional import import_optional
from visiontok.evaluation.features.base import NamedNetwork, described
from visiontok.signals.audio_conversion import resampled

RATE = 16000
"""In Hz, of what all of them read."""

_SHORTEST = 4880
"""Samples; silence is added to shorter sounds, from which the convolutions of these networks leave nothing."""


class SpeechNetworksConfig(Config):
    """Where the networks of metrics of speech are.

    Attributes:
        transcriber: folder of a speech recognizer in the layout of transformers (Whisper, wav2vec 2.0), for `wer`.
        speaker: folder of an x-vector network in that layout (WavLMForXVector, for example), for `speaker_similarity`.
        rating: TorchScript file that maps sounds (1, T) at 16 kHz to a rating, such as an export of UTMOS, for `predicted_mos`.
    """

    transcriber: str | None = None
    speaker: str | None = None
    rating: str | None = None


class SpeechNetwork(NamedNetwork):
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
        where = Path(path).expanduser()
        if not (where.is_file() if self.suffix else (where / "config.json").is_file()):
            raise CheckpointError(f"there is no {self.what} at {where}. visiontok downloads none: get one, and give its path")
        files = [where] if self.suffix else sorted(each for each in where.rglob("*") if each.is_file() and not each.name.startswith("."))
        self.name = where.stem if self.suffix else where.name
        self.identity = described(type(self).__name__, *(f"{each.name}:{file_sha256(each)}" for each in files))
        self.protocol = f"{self.name} ({self.identity[:12]}) at {RATE} Hz, resampled by soxr, mean of the channels"
        try:
            self.load(where, device)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise CheckpointError(f"{where} is not a {self.what}: {error}") from error

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


class Transcriber(SpeechNetwork):
    """Speech -> text, greedily."""

    what = "speech recognizer in the layout of transformers (a folder with config.json, weights and tokenizer)"

    def load(self, path: Path, device: torch.device) -> None:
        transformers = import_optional("transformers", extra="metrics")
        self._pipeline: Any = transformers.pipeline("automatic-speech-recognition", model=str(path), device=device)

    @torch.no_grad()
    def __call__(self, sound: Tensor, rate: int) -> str:
        """The text of a sound (C, T)."""
        found: str = self._pipeline({"raw": _prepared(sound, rate), "sampling_rate": RATE})["text"]
        return found


class SpeakerEmbedding(SpeechNetwork):
    """Speech -> the direction of its speaker."""

    what = "x-vector network in the layout of transformers (a folder with config.json, weights and preprocessor_config.json)"

    def load(self, path: Path, device: torch.device) -> None:
        transformers = import_optional("transformers", extra="metrics")
        self._prepare = transformers.AutoFeatureExtractor.from_pretrained(str(path), local_files_only=True)
        self._network = transformers.AutoModelForAudioXVector.from_pretrained(str(path), local_files_only=True).eval().to(device)

    @torch.no_grad()
    def __call__(self, sound: Tensor, rate: int) -> Tensor:
        """(D,) float64 of length 1, of a sound (C, T)."""
        values = self._prepare(_prepared(sound, rate), sampling_rate=RATE, return_tensors="pt").input_values
        return normalize(self._network(values.to(self._network.device)).embeddings[0].double(), dim=0).cpu()


class RatingPredictor(SpeechNetwork):
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


NetworkT = TypeVar("NetworkT", bound=SpeechNetwork)


@cache
def find_network(kind: type[NetworkT], path: str, device: torch.device) -> NetworkT:
    """The network at a path, built once per process.

    Raises:
        CheckpointError, DependencyError: see `SpeechNetwork`.
    """
    return kind(path, device)
