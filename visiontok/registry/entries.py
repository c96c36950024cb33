"""What the registry holds: families, released checkpoints, bundled models, and how their files are read."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from visiontok.base.errors import ConfigError
from visiontok.base.json_text import read_json
from visiontok.base.modality import AXES
from visiontok.registry.taxonomy import Taxonomy, read_taxonomy

Kind = Literal["tokenizer", "generator", "drafter"]
KINDS: tuple[Kind, ...] = ("tokenizer", "generator", "drafter")
MODALITIES = tuple(AXES)


@dataclass(frozen=True)
class PublishedFigure:
    """One figure as its source states it; never computed by this library.

    Attributes:
        metric: for example "rFID".
        value: as published.
        dataset: the data set and the protocol, as far as the source names them.
        source: where it is published.
    """

    metric: str
    value: float
    dataset: str
    source: str


@dataclass(frozen=True)
class SignalFacts:
    """The signal that a checkpoint was trained on. None where it takes any.

    Attributes:
        modality: image, video, audio or features.
        size: (height, width) in pixels.
        num_frames: frames of a clip.
        fps: frames of a clip per second.
        sample_rate: audio samples per second.
        channels: of the audio or of the features; images and videos have three.
    """

    modality: str
    size: tuple[int, ...] | None = None
    num_frames: int | None = None
    fps: float | None = None
    sample_rate: int | None = None
    channels: int | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> SignalFacts:
        """From JSON or YAML."""
        size = values.get("size")
        return cls(**{**values, "size": None if size is None else tuple(size)})

    def short(self) -> str:
        """In one word, for tables: "256x256", "17x256x256", "24000Hz"; empty where it takes any."""
        axes = [side for side in (self.num_frames, *(self.size or ())) if side is not None]
        return "x".join(map(str, axes)) or ("" if self.sample_rate is None else f"{self.sample_rate}Hz")

    def __str__(self) -> str:
        """For example "256 x 256 pixels" or "24000 Hz"."""
        parts = [
            "" if self.num_frames is None else f"{self.num_frames} frames",
            "" if self.size is None else f"{' x '.join(map(str, self.size))} pixels",
            "" if self.fps is None else f"{self.fps:g} frames per second",
            "" if self.sample_rate is None else f"{self.sample_rate} Hz",
            "" if self.channels is None else f"{self.channels} channel{'s' if self.channels > 1 else ''}",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class WeightPart:
    """One weight file of a checkpoint; several together make some checkpoints, such as an encoder's and a decoder's.

    Attributes:
        names: the file within its repository, or transformers' index of several; several names are alternatives in order of preference. One file may
            be several parts.
        repo: that holds it; None for the checkpoint's own repository.
        revision: None for the checkpoint's in its own repository and "main" in another.
        key: where the file wraps several state dicts ("ema", "model"), the one that the published figures belong to.
        prefix: put before the names of its tensors, for example "vit.".
    """

    names: tuple[str, ...]
    repo: str | None = None
    revision: str | None = None
    key: str | None = None
    prefix: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """One released checkpoint.

    Attributes:
        name: by which `from_pretrained` knows it, for example "titok-l32".
        repo: hub repository, "owner/name"; empty for files that are not on the hub.
        files: the weight files that make it; none where another library's `from_pretrained` finds them.
        reference_config: the authors' configuration, complete, with the flags that the released file omits; it overrides the file.
        weights_license, code_license: SPDX identifiers, or "unknown".
        page: where files that are not on the hub can be downloaded by hand.
        revision: branch, tag or commit.
        config_file: the authors' configuration in the repository; None where there is none.
        subfolder: of the repository that holds the model, for families that are read through another library's `from_pretrained`.
        license_note: what the authors say beside the licenses.
        signal: what it was trained on.
        tokens: tokens per sample of that size (None for continuous latents and for signals of any length).
        vocab_size: codebook size (None for continuous latents, and where the tokens of a sample have several vocabularies).
        codebooks: tokens per position: residual levels, groups, channels (None where the layout says it all).
        frame_rate: positions per second of audio or video; of all levels together where their rates differ.
        streamable: whether encoder and decoder are causal; None where the question does not arise.
        taxonomy: of audio: its values on the axes of `TAXONOMY`.
        tokenizer: for generators and drafters, the released tokenizer on whose tokens it was trained.
        parameters: number of parameters, computed from the code.
        published: figures with their source.
        verified: what was checked here, in words.
    """

    name: str
    repo: str
    files: tuple[WeightPart, ...]
    reference_config: Mapping[str, Any]
    weights_license: str
    code_license: str
    page: str = ""
    revision: str = "main"
    config_file: str | None = None
    subfolder: str = ""
    license_note: str = ""
    signal: SignalFacts | None = None
    tokens: int | None = None
    vocab_size: int | None = None
    codebooks: int | None = None
    frame_rate: float | None = None
    streamable: bool | None = None
    taxonomy: Taxonomy = field(default_factory=dict)
    tokenizer: str | None = None
    parameters: int | None = None
    published: tuple[PublishedFigure, ...] = ()
    verified: str = ""

    @property
    def kilobits(self) -> float | None:
        """Kilobits per second of audio with all codebooks, computed from their number, their size and the frame rate; None where one is not given."""
        if self.frame_rate is None or self.codebooks is None or self.vocab_size is None:
            return None
        return self.frame_rate * self.codebooks * math.log2(self.vocab_size) / 1000


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        name: the family's registry name, written into our `config.json`.
        kind: tokenizer, generator, or drafter of a generator for speculative decoding.
        modalities: one or several of `MODALITIES`.
        class_name: the class within the module beside the table.
        module: dotted module, derived from the table's path.
        title: as papers write it.
        summary: one line.
        verified: what was checked against the reference implementation, in short; the checkpoints' own statements say it in full.
        paper, code: addresses.
        docs: its page, relative to the project; empty where there is none.
        systems: names that `from_reference` accepts for it. A tokenizer and a generator of the same authors may share one.
        recognized_by: entries of another library's configuration, each with the values that mean this family, in the layout of its first system.
        checkpoints: released ones.
    """

    name: str
    kind: Kind
    modalities: tuple[str, ...]
    class_name: str
    module: str
    title: str
    summary: str
    verified: str
    paper: str
    code: str
    systems: tuple[str, ...]
    docs: str = ""
    recognized_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    checkpoints: tuple[Checkpoint, ...] = ()

    def model_class(self) -> type[Any]:
        """Import the family and return its class."""
        return getattr(importlib.import_module(self.module), self.class_name)


@dataclass(frozen=True)
class SavedModel:
    """A model in a folder that `save_pretrained` wrote: a bundled one, or the user's own.

    Attributes:
        name: of a bundled model, by which `from_pretrained` knows it; else the folder as it was given.
        family: what it is an instance of.
        folder: of config.json, model.safetensors and README.md.
        config: the family's own configuration.
        signal: what it was trained on.
        card: the facts in the front matter of its model card: license, summary, tokens, bits, vocab_size, signal, parameters, results ...;
            empty where there is no card.
    """

    name: str
    family: Family
    folder: Path
    config: Mapping[str, Any]
    signal: SignalFacts | None
    card: Mapping[str, Any]


def read_family(table: Path, package: Path) -> Family:
    """The family whose `checkpoints.json` this is.

    Args:
        table: beside the family's `model.py`.
        package: the folder of visiontok.

    Raises:
        ConfigError: naming the table and what is wrong with it.
    """
    try:
        values = read_json(table)
        defaults = values.pop("checkpoint_defaults", {})
        values["checkpoints"] = tuple(_checkpoint(entry, defaults) for entry in values.get("checkpoints", ()))
        values["modalities"] = tuple(values["modalities"])
        values["systems"] = tuple(values["systems"])
        values["recognized_by"] = {entry: tuple(known) for entry, known in values.get("recognized_by", {}).items()}
        return Family(module=".".join(("visiontok", *table.parent.relative_to(package).parts, "model")), **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{table} is not a readable table of a family: {error!r}") from error


def _checkpoint(entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> Checkpoint:
    """One checkpoint; its mappings go over those of the defaults field by field, all else replaces them."""
    merged = {**defaults, **entry}
    for name in ("reference_config", "signal", "taxonomy"):
        if name in merged:
            merged[name] = {**defaults.get(name, {}), **entry.get(name, {})}
    merged["files"] = tuple(WeightPart(**{**part, "names": tuple(part["names"])}) for part in merged["files"])
    merged["signal"] = SignalFacts.read(merged["signal"]) if "signal" in merged else None
    merged["taxonomy"] = read_taxonomy(merged.get("taxonomy", {}))
    merged["published"] = tuple(PublishedFigure(**figure) for figure in merged.get("published", ()))
    return Checkpoint(**merged)
