"""Finding families, checkpoints and bundled models by name, system, repository or class."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from visiontok.base.errors import ConfigError, UnknownNameError
from visiontok.base.json_text import read_json
from visiontok.base.names import matches, unknown
from visiontok.base.resources import models_folder
from visiontok.base.yaml_text import parse_yaml
from visiontok.registry.entries import MODALITIES, Checkpoint, Family, Kind, SavedModel, SignalFacts, read_family
from visiontok.registry.taxonomy import belongs, checked_filter


@cache
def families() -> Mapping[str, Family]:
    """Every family by name.

    Raises:
        ConfigError: naming the table that cannot be read.
    """
    return {family.name: family for family in read_families(Path(__file__).parent.parent)}


def read_families(package: Path) -> list[Family]:
    """The families whose tables are in the package."""
    tables = sorted([*package.glob("tokenizers/*/*/checkpoints.json"), *package.glob("generators/*/checkpoints.json")])
    return [read_family(table, package) for table in tables]


@cache
def checkpoints() -> Mapping[str, tuple[Family, Checkpoint]]:
    """Every released checkpoint by name, with its family."""
    return {checkpoint.name: (family, checkpoint) for family in families().values() for checkpoint in family.checkpoints}


@cache
def bundled() -> Mapping[str, SavedModel]:
    """Every bundled model by name.

    Raises:
        ConfigError: naming the file that cannot be read.
        UnknownNameError: if a model's family is not in the registry.
    """
    folders = sorted(config.parent for config in models_folder().glob("*/config.json"))
    return {folder.name: _read_bundled(folder) for folder in folders}


def list_tokenizers(
    pattern: str = "*", *, modality: str | None = None, streamable: bool = False, taxonomy: Mapping[str, str] | None = None
) -> list[str]:
    """Names of released and bundled tokenizer checkpoints: those that match a shell pattern such as "titok*", or contain a text such as "titok", in
    any case.

    Args:
        pattern: of names.
        modality: only of this one.
        streamable: only codecs whose encoder and decoder are causal.
        taxonomy: only those with these values on axes of `TAXONOMY`, such as {"quantizer": "RVQ", "domains": "music"}.

    Raises:
        UnknownNameError: if there is no such modality, axis or value.
    """
    wanted = checked_filter(taxonomy or {})
    named = _names("tokenizer", pattern, modality)
    if not streamable and not wanted:
        return named
    known = {name: checkpoints()[name][1] for name in named if name in checkpoints()}
    return [name for name, entry in known.items() if (entry.streamable or not streamable) and belongs(entry.taxonomy, wanted)]


def list_generators(pattern: str = "*", *, modality: str | None = None) -> list[str]:
    """Names of released and bundled generator checkpoints; see `list_tokenizers`."""
    return _names("generator", pattern, modality)


def list_drafters(pattern: str = "*", *, modality: str | None = None) -> list[str]:
    """Names of released and bundled drafters of generators; see `list_tokenizers`."""
    return _names("drafter", pattern, modality)


def modalities_of(family: Family, signal: SignalFacts | None) -> tuple[str, ...]:
    """What a checkpoint takes or generates: the modality that it was trained on, or those of its family where it does not say."""
    return family.modalities if signal is None else (signal.modality,)


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        UnknownNameError: with close matches.
    """
    if name not in families():
        raise unknown("family", name, families())
    return families()[name]


def families_of_system(system: str, kind: Kind | None = None) -> list[Family]:
    """Every family that reads the reference layout called `system`: tokenizers first.

    Args:
        system: whose layout.
        kind: only tokenizers, only generators, or only drafters.

    Raises:
        UnknownNameError: with close matches; if there is no such kind.
    """
    found = [family for family in families().values() if system in family.systems]
    if not found:
        raise unknown("reference system", system, {known for family in families().values() for known in family.systems})
    matching = [family for family in found if kind in (None, family.kind)]
    if not matching:
        kinds = " and ".join(f"a {family.kind} (family {family.name}, kind={family.kind!r})" for family in found)
        raise UnknownNameError(f"reference system {system!r} has no {kind}; it is {kinds}")
    return sorted(matching, key=lambda family: family.kind, reverse=True)


def recognize(config: Mapping[str, Any]) -> Family | None:
    """The family of a configuration that another library wrote and that says what it is, such as diffusers' `_class_name`; None if unknown."""
    for family in families().values():
        if any(config.get(entry) in values for entry, values in family.recognized_by.items()):
            return family
    return None


def find_repository(repo: str) -> list[tuple[Family, Checkpoint]]:
    """The released checkpoints of a hub repository; none for one that the registry does not list."""
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


def spelled(name: str) -> str:
    """The registered spelling of a family's or model's name in any case, perhaps with "@revision"; what is not registered stays as it is."""
    base, at, revision = name.partition("@")
    known = {each.lower(): each for each in (*families(), *checkpoints(), *bundled())}
    return known.get(base.lower(), base) + at + revision


def read_saved_model(folder: Path, name: str) -> SavedModel:
    """What a folder that `save_pretrained` wrote says of its model, without reading its weights.

    Raises:
        ConfigError: naming the file that cannot be read.
        UnknownNameError: if the family is not in the registry.
    """
    path = folder / "config.json"
    try:
        values = read_json(path)
        family, config = values["family"], values.get("config", {})
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read ({error!r})") from error
    card = _read_card(folder / "README.md") if (folder / "README.md").is_file() else {}
    signal = SignalFacts.read(card["signal"]) if card.get("signal") else None
    return SavedModel(name, find_family(family), folder, config, signal, card)


def _names(kind: Kind, pattern: str, modality: str | None) -> list[str]:
    if modality is not None and modality not in MODALITIES:
        raise unknown("modality", modality, MODALITIES)
    known = {name: (family, entry.signal) for name, (family, entry) in checkpoints().items()}
    known |= {name: (model.family, model.signal) for name, model in bundled().items()}
    return sorted(
        name
        for name, (family, signal) in known.items()
        if family.kind == kind and matches(name, pattern) and (modality is None or modality in modalities_of(family, signal))
    )


def _read_bundled(folder: Path) -> SavedModel:
    try:
        return read_saved_model(folder, folder.name)
    except ConfigError as error:
        raise ConfigError(f"a bundled model is damaged: {error}; install visiontok again") from error


def _read_card(path: Path) -> Mapping[str, Any]:
    try:
        _, front_matter, _ = path.read_text(encoding="utf-8").split("---\n", 2)
        values = parse_yaml(front_matter, source=f"the front matter of {path}")
        card = {"license": values["license"], **values["visiontok"]}
        if card.get("signal"):
            SignalFacts.read(card["signal"])
        if not all(isinstance(result, Mapping) for result in card.get("results", ())):
            raise ValueError("results are no mappings")
        return card
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} has no readable front matter ({error!r})") from error
