"""CLAP (Wu et al. 2022, arXiv 2211.06687): embeddings of sound that were learned together with those of texts."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize
from typing_extensions import Self

from visiontok.base.network_folders import belonging_to, found_network, whole_network
from visiontok.base.optional import import_optional
from visiontok.evaluation.features.sound import WindowedExtractor
from visiontok.evaluation.features.weight_files import WeightFile, find_folder

_WHAT = "CLAP in the layout of transformers (a folder with config.json, weights and preprocessor_config.json)"


def _published(name: str) -> WeightFile:
    source = f"all files of the repository laion/{name} on the Hugging Face hub"
    return WeightFile(name=name, size="0.6 GB", sha256="", source=source, license="Apache-2.0")


class ClapHtsatUnfused(WindowedExtractor):
    """512 features of length 1 of every 10 s of a recording: (B, R, 512). Shorter recordings are repeated, as the network's preprocessing does.

    The preprocessing would cut 10 s at random out of longer recordings; here every whole window counts.
    """

    name = "clap-htsat-unfused"
    shortest = 1
    weights: ClassVar[WeightFile] = _published("clap-htsat-unfused")

    def __init__(self, path: str | Path | None = None) -> None:
        """Read the network.

        Args:
            path: of its folder in the layout of transformers; by default that of the extractor's name in the weights' folder.

        Raises:
            CheckpointError: if there is none (says how to get it), or another network.
            DependencyError: if transformers is not installed.
        """
        where, self.identity = found_network(find_folder(self.weights, path), _WHAT)
        transformers = import_optional("transformers", extra="metrics")
        with belonging_to(where, _WHAT):
            self._prepare = transformers.ClapFeatureExtractor.from_pretrained(str(where), local_files_only=True)
            self.network = whole_network(transformers.ClapAudioModelWithProjection, where).requires_grad_(False)
        self.rate = int(self._prepare.sampling_rate)
        self.length = self.step = self.span = int(self._prepare.nb_max_samples)
        seconds = self.length / self.rate
        self.protocol = f"CLAP embeddings of length 1 of every {seconds:g} s at {self.rate} Hz, resampled by soxr, network {self.identity[:12]}"

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        return self

    def embed_windows(self, windows: Tensor) -> Tensor:
        prepared = self._prepare(list(windows.numpy()), sampling_rate=self.rate, return_tensors="pt").input_features
        is_longer = torch.zeros(len(windows), 1, dtype=torch.bool)  # the preprocessing of fused networks draws one instead
        embeds = self.network(prepared.to(self.network.device, self.network.dtype), is_longer=is_longer.to(self.network.device)).audio_embeds
        return normalize(embeds.float(), dim=1).cpu()


class ClapHtsatFused(ClapHtsatUnfused):
    """The same of the network that also reads longer recordings as a whole, `laion/clap-htsat-fused`; here it reads windows too."""

    name = "clap-htsat-fused"
    weights = _published("clap-htsat-fused")
