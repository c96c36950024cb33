"""The note of a tone by its pitch: the classifier of the built-in tones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from visiontok.data.synthesis import NOTES
from visiontok.evaluation.features.base import Classifier, described
from visiontok.evaluation.features.sound import SoundExtractor
from visiontok.layers.pitch import pitch

C4 = 440 * 2 ** (-9 / 12)
"""In Hz, the first of the notes."""

NO_NOTE = 0.1
"""Length of the mean of the directions below which a sound has no note: fewer than a tenth of its frames agree on one."""


class NoteClassifier(SoundExtractor, Classifier):
    """The twelve notes of an octave, and a thirteenth class for sounds without one; it has no weights.

    Features are two: the pitch of every frame by YIN is a direction on the circle of notes, that of an unvoiced frame is 0, and the mean over the
    frames is taken. Octaves are not told apart.
    """

    name = "note-classifier"
    identity = described("note-classifier", "YIN at 16 kHz, mean direction on the circle of twelve notes, no note below 0.1")
    protocol = "mean over frames of the pitch by YIN at 16 kHz as a direction on the circle of twelve notes"

    def embed(self, sounds: Tensor) -> Tensor:
        hertz = pitch(sounds[:, None], rate=self.rate)
        angles = 2 * math.pi * torch.log2(hertz.clamp_min(1.0) / C4)
        directions = torch.stack([angles.cos(), angles.sin()], dim=2) * (hertz > 0)[..., None]
        return directions.sum(dim=1) / max(1, hertz.shape[1])

    def logits_of(self, features: Tensor) -> Tensor:
        angles = torch.arange(len(NOTES), dtype=features.dtype, device=features.device) * (2 * math.pi / len(NOTES))
        notes = features @ torch.stack([angles.cos(), angles.sin()])
        return torch.cat([notes, torch.full_like(notes[:, :1], NO_NOTE)], dim=1)
