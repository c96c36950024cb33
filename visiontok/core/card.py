"""What the card of a model says beside what follows from the model: its maker's words, and results of evaluations."""

from __future__ import annotations

from typing import Literal

from visiontok.base.config import Config


class CardResult(Config):
    """One metric of an evaluation, as the card shows it.

    Attributes:
        metric: its name, for example "psnr.mean_db".
        title: as a reader knows it, for example "PSNR"; empty for the name.
        better: which direction is better, if any.
        value: the number.
        unit: "dB", "bits", or nothing.
        dataset: the data it was computed on.
        protocol: how, in words: split, size, resizing, number of samples.
        weights_sha256: of the model that was evaluated; None where nobody recorded it. The card of another model refuses it.
    """

    metric: str
    title: str = ""
    better: Literal["higher", "lower", "neither"] = "neither"
    value: float
    unit: str = ""
    dataset: str
    protocol: str
    weights_sha256: str | None = None


class ModelCard(Config):
    """What only its maker knows about a model; the rest of the card follows from the model.

    Attributes:
        name: by which it can be loaded; None for the folder or repository that it is saved to.
        license: SPDX identifier in lower case, as hubs require.
        summary: one paragraph.
        trained_on: data and recipe, in words.
        recipe: of the training, as YAML.
        limitations: what it is not good for.
        results: of evaluations, with their protocol.
    """

    name: str | None = None
    license: str = "unknown"
    summary: str = ""
    trained_on: str = ""
    recipe: str = ""
    limitations: str = ""
    results: tuple[CardResult, ...] = ()
