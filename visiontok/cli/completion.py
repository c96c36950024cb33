"""Completion of names in a shell: registered models and families, recipes, suites and studies. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable

from visiontok import registry
from visiontok.base.resources import configs_folder, suites_folder, yaml_files


def complete_models_and_families(incomplete: str) -> list[str]:
    """Any registered name."""
    return _starting({*registry.list_tokenizers(), *registry.list_generators(), *registry.families()}, incomplete)


def complete_tokenizers(incomplete: str) -> list[str]:
    """Released and bundled tokenizers."""
    return _starting(registry.list_tokenizers(), incomplete)


def complete_generators(incomplete: str) -> list[str]:
    """Released and bundled generators."""
    return _starting(registry.list_generators(), incomplete)


def complete_drafters(incomplete: str) -> list[str]:
    """Released and bundled models that can draft the tokens of a generator."""
    return _starting([*registry.list_drafters(), *registry.list_generators()], incomplete)


def complete_models(incomplete: str) -> list[str]:
    """Released and bundled models."""
    return _starting([*registry.list_tokenizers(), *registry.list_generators(), *registry.list_drafters()], incomplete)


def complete_recipes(incomplete: str) -> list[str]:
    """Bundled recipes."""
    return _starting(yaml_files(configs_folder(), deep=True), incomplete)


def complete_suites(incomplete: str) -> list[str]:
    """Bundled suites, and the second word of `evaluate rd`."""
    return _starting([*yaml_files(suites_folder()), "rd"], incomplete)


def complete_studies(incomplete: str) -> list[str]:
    """Bundled studies."""
    return _starting(yaml_files(suites_folder() / "studies"), incomplete)


def complete_modalities(incomplete: str) -> list[str]:
    """Image, video and the others."""
    return _starting(registry.MODALITIES, incomplete)


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
