"""The model zoo's index: which families exist, which checkpoints were released or are bundled, where they lie and what was published about them.

The registry is data: one JSON table beside each family's module (`tokenizers/image/titok/checkpoints.json` beside `model.py`), and one folder in hub
layout per bundled model. Reading it imports neither the family nor torch. A family's module is found by the place of its table, so that no
table and no hub configuration can name code.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from visiontok.base.errors import ConfigError, UnknownNameError
from visiontok.base.resources import models_folder

Kind = Literal["tokenizer", "generator"]


@dataclass(frozen=True)
class PublishedFigure:
    """One figure as its source states it; never measured by this library.

    Attributes:
        metric: for example "rFID".
        value: as published.
        dataset: what it was measured on, by whom it was published.
        source: where it stands.
    """

    metric: str
    value: float
    dataset: str
    source: str


@dataclass(frozen=True)
class Checkpoint:
    """One released checkpoint.

    Attributes:
        name: by which `from_pretrained` knows it, for example "titok-l32".
        repo: hub repository, "owner/name"; empty for files that do not lie on the hub.
        page: where those are to be had, by hand.
        revision: branch, tag or commit.
        files: weight files to try, in order of preference.
        weights_key: where a pickle wraps several state dicts ("ema", "model"), the one that the published figures belong to.
        config_file: the authors' configuration in the repository; None where there is none.
        subfolder: of the repository that holds the model, for families that are read through another library's `from_pretrained`.
        reference_config: the authors' configuration, complete, with the flags that the released file leaves out; it wins over the file.
        weights_licence, code_licence: SPDX identifiers, or "unknown"; a note where the authors add a restriction.
        tokens: ids per sample (None for continuous latents).
        vocab_size: codebook size (None for continuous latents, and where the ids of a sample have several vocabularies).
        input_size: image side in pixels, frames, or sample rate.
        parameters: number of parameters, computed from the code.
        published: figures with their source.
        verified: what was checked here, in words.
    """

    name: str
    repo: str
    files: tuple[str, ...]
    reference_config: Mapping[str, Any]
    weights_licence: str
    code_licence: str
    page: str = ""
    revision: str = "main"
    weights_key: str | None = None
    config_file: str | None = None
    subfolder: str = ""
    licence_note: str = ""
    tokens: int | None = None
    vocab_size: int | None = None
    input_size: int | None = None
    parameters: int | None = None
    published: tuple[PublishedFigure, ...] = ()
    verified: str = ""


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        name: the family's registry name, written into our `config.json`.
        kind: tokenizer or generator.
        modality: image, video, audio (generators: "any").
        class_name: the class within the module beside the table.
        module: dotted module, derived from the table's place.
        summary: one line.
        paper, code: addresses.
        systems: names that `from_reference` accepts for it.
        recognised_by: entries of another library's configuration, each with the values that mean this family, in the layout of its first system.
        checkpoints: released ones.
    """

    name: str
    kind: Kind
    modality: str
    class_name: str
    module: str
    summary: str
    paper: str
    code: str
    systems: tuple[str, ...]
    recognised_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    checkpoints: tuple[Checkpoint, ...] = field(default=())

    def model_class(self) -> type[Any]:
        """Import the family and return its class."""
        return getattr(importlib.import_module(self.module), self.class_name)


@dataclass(frozen=True)
class BundledModel:
    """One checkpoint that was trained with this library and travels with it.

    Attributes:
        name: by which `from_pretrained` knows it; its folder's name.
        family: what it is an instance of.
        folder: where config.json, model.safetensors and README.md lie.
        card: the facts in the front matter of its model card: license, tokens, bits, vocab_size, input_size, parameters, measured ...
    """

    name: str
    family: Family
    folder: Path
    card: Mapping[str, Any]


@cache
def families() -> Mapping[str, Family]:
    """Every family by name."""
    root = Path(__file__).parent.parent
    tables = sorted([*root.glob("tokenizers/*/*/checkpoints.json"), *root.glob("generators/*/checkpoints.json")])
    loaded = [_read(table, root) for table in tables]
    return {family.name: family for family in loaded}


@cache
def checkpoints() -> Mapping[str, tuple[Family, Checkpoint]]:
    """Every released checkpoint by name, with its family."""
    return {checkpoint.name: (family, checkpoint) for family in families().values() for checkpoint in family.checkpoints}


@cache
def bundled() -> Mapping[str, BundledModel]:
    """Every bundled model by name.

    Raises:
        ConfigError: naming the file that cannot be read.
        UnknownNameError: if a model's family is not in the registry.
    """
    folders = sorted(config.parent for config in models_folder().glob("*/config.json"))
    return {folder.name: _read_bundled(folder) for folder in folders}


def list_tokenizers(pattern: str = "*", *, modality: str | None = None) -> list[str]:
    """Names of released and bundled tokenizer checkpoints that match a shell pattern such as "titok*"."""
    return _names("tokenizer", pattern, modality)


def list_generators(pattern: str = "*") -> list[str]:
    """Names of released and bundled generator checkpoints that match a shell pattern."""
    return _names("generator", pattern, None)


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        UnknownNameError: with close matches.
    """
    if name not in families():
        raise unknown("family", name, families())
    return families()[name]


def find_system(system: str) -> Family:
    """The family that reads the reference layout called `system`.

    Raises:
        UnknownNameError: with close matches.
    """
    by_system = {known: family for family in families().values() for known in family.systems}
    if system not in by_system:
        raise unknown("reference system", system, by_system)
    return by_system[system]


def recognise(config: Mapping[str, Any]) -> str | None:
    """The system of a configuration that another library wrote and that says what it is, such as diffusers' `_class_name`; None if unknown."""
    for family in families().values():
        if any(config.get(entry) in values for entry, values in family.recognised_by.items()):
            return family.systems[0]
    return None


def find_repository(repo: str) -> list[tuple[Family, Checkpoint]]:
    """The released checkpoints that lie in a hub repository; none for one that the registry does not list."""
    return [(family, entry) for family, entry in checkpoints().values() if entry.repo == repo]


def family_of(model_class: type[Any]) -> Family:
    """The family that a model is an instance of.

    Raises:
        UnknownNameError: for classes that no table names.
    """
    for family in families().values():
        if (family.module, family.class_name) == (model_class.__module__, model_class.__name__):
            return family
    raise UnknownNameError(f"{model_class.__module__}.{model_class.__name__} is no registered family; only registered ones can be saved")


def unknown(what: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """An error that lists the names closest to `name`."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"Did you mean {', '.join(close)}?" if close else f"Known: {', '.join(names[:12])}{' ...' if len(names) > 12 else '.'}"
    return UnknownNameError(f"there is no {what} called {name!r}. {hint}")


def _names(kind: Kind, pattern: str, modality: str | None) -> list[str]:
    known = {name: family for name, (family, _) in checkpoints().items()} | {name: model.family for name, model in bundled().items()}
    return sorted(
        name for name, family in known.items() if family.kind == kind and fnmatch.fnmatchcase(name, pattern) and modality in (None, family.modality)
    )


def _read_bundled(folder: Path) -> BundledModel:
    config, readme = folder / "config.json", folder / "README.md"
    try:
        family = find_family(json.loads(config.read_text(encoding="utf-8"))["family"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"the bundled model's {config} cannot be read ({error!r}); install visiontok again") from error
    try:
        _, front_matter, _ = readme.read_text(encoding="utf-8").split("---\n", 2)
        values = yaml.safe_load(front_matter)
        card = {"license": values["license"], **values["visiontok"]}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"the bundled model's {readme} has no readable front matter ({error!r}); install visiontok again") from error
    return BundledModel(folder.name, family, folder, card)


def _read(table: Path, root: Path) -> Family:
    values = json.loads(table.read_text(encoding="utf-8"))
    defaults = values.pop("checkpoint_defaults", {})
    entries = []
    for entry in values.pop("checkpoints", []):
        merged = {**defaults, **entry}
        merged["files"] = tuple(merged["files"])
        merged["published"] = tuple(PublishedFigure(**figure) for figure in merged.get("published", ()))
        entries.append(Checkpoint(**merged))
    module = ".".join(("visiontok", *table.parent.relative_to(root).parts, "model"))
    values["systems"] = tuple(values["systems"])
    values["recognised_by"] = {entry: tuple(known) for entry, known in values.get("recognised_by", {}).items()}
    return Family(module=module, checkpoints=tuple(entries), **values)
