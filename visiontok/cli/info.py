"""`visiontok info`: what is known of a model, a family, a training run, a folder or a repository."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from visiontok import registry
from visiontok.base.errors import ConfigError, UnknownNameError
from visiontok.base.names import unknown
from visiontok.cli.completion import complete_models_and_families
from visiontok.cli.facts import family_facts, loading, released_facts, run_facts, saved_facts
from visiontok.cli.output import print_facts, print_table


def info(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A released or bundled model, a family (see `visiontok list`), a folder, a training run, or owner/name on the hub.",
            autocompletion=complete_models_and_families,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object, for programs.")] = False,
) -> None:
    """Show what is known of a model, family or training run.

    For a model: where it comes from, its licenses, its tokens, published and own results, and how to load it. For a family: its models, and the
    fields of its configuration with types and defaults. For a training run: how far it is, and its model. Weights are not loaded.

    \b
    Examples:
      visiontok info titok-l32
      visiontok info titok
      visiontok info titok-b64 --json
      visiontok info runs/digits
    """
    facts, raw = _registered(registry.spelled(name)) or _located(name)
    family = registry.families().get(raw.get("name", ""))
    if not as_json:
        print_facts(facts)
        if family is not None:
            _print_fields(family)
        return
    if family is not None:
        raw = {**raw, "config": family.model_class().config_class.model_json_schema()}
    typer.echo(json.dumps(raw, indent=1, default=str))


def _registered(name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Facts to show, and the registry's data."""
    base, _, revision = name.partition("@")
    if base in registry.checkpoints():
        family, entry = registry.checkpoints()[base]
        return released_facts(family, entry), {"family": family.name, **asdict(entry)}
    if revision:
        return None
    if name in registry.bundled():
        model = registry.bundled()[name]
        return saved_facts(model, origin={"bundled in": str(model.folder)}), _raw(model)
    if name in registry.families():
        family = registry.families()[name]
        return family_facts(family), asdict(family)
    return None


def _located(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _folder(folder, name)
    if registry.find_repository(name.partition("@")[0]):
        entries = registry.find_repository(name.partition("@")[0])
        if len(entries) > 1:
            raise UnknownNameError(f"{name} holds several models: name one of {', '.join(entry.name for _, entry in entries)}")
        family, entry = entries[0]
        return released_facts(family, entry), {"family": family.name, **asdict(entry)}
    if "/" not in name:
        known = [*registry.checkpoints(), *registry.bundled(), *registry.families()]
        raise unknown("model, family or folder", name, known, see="visiontok list")
    return _repository(name)


def _folder(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    run = registry.run_state(folder)
    run_entries = {} if run is None else run_facts(run)
    if run is not None and run.final is None:
        return run_entries, {"name": name, **run_entries}
    model_folder = registry.model_folder(folder)
    facts, raw = _described(model_folder, name, {"folder": str(model_folder)})
    return {**run_entries, **facts}, {**run_entries, **raw}


def _repository(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of a hub repository, of which configuration and card are fetched, and no weights."""
    from visiontok.hub.locate import locate
    from visiontok.hub.sources import FileAbsentError

    source, _ = locate(name)
    folder = source.get("config.json").parent
    with suppress(FileAbsentError):  # a model without a card
        source.get("README.md")
    return _described(folder, name, {"repository": str(source)})


def _described(folder: Path, name: str, origin: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of a folder in our layout, or in that of another library which says what it is."""
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{name} holds no config.json: it is neither a model nor a training run")
    config = _read(folder / "config.json")
    if config.get("library") == "visiontok":
        model = registry.read_saved_model(folder, name)
        return saved_facts(model, origin=origin), _raw(model)
    family = registry.recognize(config)
    if family is None:
        raise ConfigError(
            f"config.json of {name} says neither that it is visiontok's nor of which known library; if it is in its authors' layout, say whose: "
            "visiontok.from_pretrained(name, system=...)"
        )
    facts = {"name": name, "family": f"{family.name}: {family.summary}", "kind": family.kind, **origin, "load it": loading(name)}
    return facts, {"name": name, "family": family.name, "config": config}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not a readable configuration: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; a configuration is an object with named values")
    return values


def _raw(model: registry.SavedModel) -> dict[str, Any]:
    return {"name": model.name, "family": model.family.name, "folder": model.folder, **model.card, "config": model.config}


def _print_fields(family: registry.Family) -> None:
    """Imports the family, and torch with it."""
    from visiontok.cli.fields import field_rows

    rows = field_rows(family.model_class().config_class)
    typer.echo(f'\nfields of its configuration, as keywords of visiontok.create("{family.name}", ...) or under model.config in a recipe:')
    print_table(("field", "type", "default"), rows)
    choice = next((name for name, _, _ in rows if "[" in name), None)
    if choice is not None:
        field, _, tag = choice.partition("]")[0].partition("[")
        typer.echo(f"{field}[{tag}] has the fields of the choice {tag!r} of {field}.")
