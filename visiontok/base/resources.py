"""Where data files are: bundled models, recipes and evaluation suites of this package, and the folders of other packages that carry some.

A checkout holds them in `models/`, `configs/` and `eval/suites/` next to the package; an installed wheel carries them inside it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from visiontok.base.errors import ConfigError
from visiontok.base.names import close_names, unknown

_PACKAGE = Path(__file__).resolve().parent.parent


def models_folder() -> Path:
    """One folder per bundled checkpoint, each in the layout of a hub repository."""
    return _find("models", "models")


def configs_folder() -> Path:
    """YAML recipes."""
    return _find("configs", "configs")


def suites_folder() -> Path:
    """Evaluation suites."""
    return _find("suites", "eval/suites")


def package_folder(name: str) -> Path | None:
    """Where a package is installed, by the name by which it is imported; nothing of it is imported. None where it is not installed."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # of the package around it
        return None
    return None if spec is None or not spec.submodule_search_locations else Path(spec.submodule_search_locations[0])


def yaml_files(folder: Path, *, deep: bool = False) -> dict[str, Path]:
    """The YAML files in a folder by name, for example "digits"; with `deep` also those in its sub-folders, for example "small/vq"."""
    files = sorted(folder.rglob("*.yaml") if deep else folder.glob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def find_yaml(name: str | Path, bundled: Mapping[str, Path], *, what: str) -> Path:
    """The file that a user means: their own by its path, or a bundled one by its name.

    Args:
        name: as given.
        bundled: files by name, from `yaml_files`.
        what: what the files are, for errors: "recipe".

    Raises:
        UnknownNameError: if there is neither a file nor a bundled one of that name, with close matches.
        ConfigError: if the name is that of a YAML file which does not exist; with close matches.
    """
    path = Path(name)
    if path.is_file():
        return path
    if str(name) in bundled:
        return bundled[str(name)]
    beside = [str(file) for file in yaml_files(path.parent).values()]
    if path.suffix not in (".yaml", ".yml"):
        raise unknown(what, str(name), [*bundled, *beside])
    close = [*close_names(str(path), beside), *close_names(path.stem, bundled, count=1)]
    hint = f". Did you mean {', '.join(close)}?" if close else ""
    raise ConfigError(f"the {what} {path} cannot be read: No such file or directory{hint}")


def _find(installed: str, checkout: str) -> Path:
    inside = _PACKAGE / "_data"
    return inside / installed if inside.is_dir() else _PACKAGE.parent / checkout
