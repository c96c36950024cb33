"""Where the files of a model are: what a user calls a model is a registered name, a folder, a training run, or a hub repository."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visiontok import registry
from visiontok.base.errors import CheckpointError, HubError, UnknownNameError
from visiontok.base.names import close_names, unknown
from visiontok.hub.download import Repository
from visiontok.hub.parts import folder_with_parts
from visiontok.hub.reading import CONFIG_NAME, WEIGHTS_NAME
from visiontok.hub.sources import Folder, ModelFiles


def locate(
    name: str | Path, *, cache_dir: str | Path | None = None, local_files_only: bool = False, token: str | bool | None = None
) -> tuple[ModelFiles, tuple[registry.Family, registry.Checkpoint] | None]:
    """Where a model's files are, and its registry entry if it was released by its authors.

    A registered name in its exact spelling goes before a folder of that name, and a folder before a registered name in another case. "runs/mine"
    where there is no such folder, but other models in runs/, is a mistyped path, not a repository.

    Args:
        name: see `from_pretrained`.
        cache_dir, local_files_only, token: see `from_pretrained`.

    Raises:
        UnknownNameError: if nothing has that name, with close matches; for families, and repositories of several models.
        CheckpointError: for paths that lead to no model, and training runs that have none yet.
        HubError: if files that are not on the hub are missing.
    """
    folder = Path(name).expanduser()
    if isinstance(name, str):
        own = registry.spelled(name) if not folder.is_dir() else name
        base, _, revision = own.partition("@")
        if base in registry.bundled():
            if revision:
                raise HubError(f"{base} is bundled and has no revisions; omit @{revision}")
            return Folder(registry.bundled()[base].folder), None
        if base in registry.checkpoints():
            family, entry = registry.checkpoints()[base]
            if not entry.repo:
                return folder_with_parts(entry, None if cache_dir is None else Folder(Path(cache_dir))), (family, entry)
            repository = Repository(entry.repo, revision or entry.revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token)
            return repository, (family, entry)
    if folder.is_dir():
        return Folder(registry.model_folder(folder)), None
    base, _, revision = str(name).partition("@")
    if isinstance(name, Path) or base.startswith((".", "/", "~")) or base.count("/") != 1:
        raise _nowhere(name, folder)
    if not revision and (beside := registry.models_in(folder.parent)):
        raise _mistyped(base, beside)
    entries = registry.find_repository(base)
    if len(entries) > 1:
        raise UnknownNameError(f"{base} holds several models: name one of {', '.join(entry.name for _, entry in entries)}")
    if entries:
        revision = revision or entries[0][1].revision
    repository = Repository(base, revision or "main", cache_dir=cache_dir, local_files_only=local_files_only, token=token)
    return repository, entries[0] if entries else None


def _mistyped(name: str, beside: Sequence[Path]) -> CheckpointError:
    close = close_names(name, map(str, beside)) or [str(path) for path in beside[:3]]
    return CheckpointError(
        f"there is no folder {name}. Did you mean {', '.join(close)}? For the hub's repository of that name, write its revision too: {name}@main"
    )


def _nowhere(name: str | Path, folder: Path) -> Exception:
    if folder.is_file():
        return CheckpointError(f"{folder} is a file; give the folder that holds it beside its {CONFIG_NAME}")
    family = registry.families().get(registry.spelled(str(name)))
    if family is not None:
        return UnknownNameError(
            f"{name!r} is a family, not a model: create({family.name!r}, ...) builds one with random weights"
            + (f"; released: {', '.join(entry.name for entry in family.checkpoints)}" if family.checkpoints else "")
        )
    if isinstance(name, Path) or "/" in name or name.startswith((".", "~")):
        return CheckpointError(f"there is no folder {folder}; expected that of a training run, or one with {CONFIG_NAME} and {WEIGHTS_NAME}")
    return unknown("model", name.partition("@")[0], [*registry.checkpoints(), *registry.bundled()], see="visiontok list")
