"""Suites by name or file: what to evaluate, of which task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visiontok.base.errors import ConfigError
from visiontok.base.resources import find_yaml, suites_folder, yaml_files
from visiontok.base.yaml_files import read_yaml
from visiontok.evaluation.generation.suite import GenerationSuite
from visiontok.evaluation.reconstruction.suite import Suite


def list_suites() -> list[str]:
    """Names of the suites that come with the library."""
    return sorted(yaml_files(suites_folder()))


def load_suite(name: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """A suite of reconstructions by name, or from a YAML file, with overrides such as "size=256".

    Raises:
        UnknownNameError: if there is neither a suite nor a file of that name, with close matches.
        ConfigError: if the file cannot be read, or holds unknown keys or values, or is about generated samples.
    """
    suite = load_any_suite(name, overrides)
    if not isinstance(suite, Suite):
        raise ConfigError(f"the suite {name} is about generated samples; this needs one of reconstructions, see: visiontok evaluate --help")
    return suite


def load_any_suite(name: str | Path, overrides: Sequence[str] = ()) -> Suite | GenerationSuite:
    """A suite of either task, which the file names: `task: reconstruction`, also where it names none, or `task: generation`.

    Raises:
        UnknownNameError, ConfigError: see `load_suite`.
    """
    path = find_yaml(name, yaml_files(suites_folder()), what="suite")
    values = read_yaml(path, overrides, what="suite")
    kind = GenerationSuite if values.get("task") == "generation" else Suite
    return kind.parse(values, source=f"the suite {path}")
