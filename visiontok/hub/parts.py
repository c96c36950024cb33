"""The weight files that make a released checkpoint, from one repository or several, as one state dict."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from visiontok.base.errors import CheckpointError, HubError
from visiontok.base.json_text import read_json
from visiontok.hub.download import Repository
from visiontok.hub.reading import read_weights
from visiontok.hub.sources import Folder, ModelFiles, first_of
from visiontok.hub.wrappers import Weights
from visiontok.registry import Checkpoint, WeightPart


def read_parts(source: ModelFiles, entry: Checkpoint) -> Weights:
    """Fetch and read every part.

    Args:
        source: the checkpoint's own repository, or the folder that holds files which were downloaded by hand.
        entry: names the parts.

    Raises:
        HubError: if a part cannot be fetched.
        CheckpointError: if a part or an index of parts cannot be read, or if two parts hold a tensor of the same name.
    """
    tensors: dict[str, Tensor] = {}
    wrappers: list[str] = []
    parts = dict.fromkeys((path, part.key, part.prefix) for part in entry.files for path in _paths(_source_of(part, source), part))
    for path, key, prefix in parts:
        weights = read_weights(path, key=key)
        named = {prefix + name: tensor for name, tensor in weights.tensors.items()}
        twice = sorted(set(named) & set(tensors))
        if twice:
            raise CheckpointError(
                f"{path.name} of {entry.name} holds {len(twice)} tensors that an earlier file of it holds too: {', '.join(twice[:20])}"
            )
        tensors |= named
        wrappers += [f"{path.name}: {weights}"] if weights.wrappers else []
    return Weights(tensors, tuple(wrappers))


def folder_with_parts(entry: Checkpoint, folder: Folder | None) -> Folder:
    """The folder of a model that is not on the hub.

    Raises:
        HubError: naming what to download and from where, if a part is missing or no folder was named.
    """
    missing = [part.names[0] for part in entry.files if folder is None or not any((folder.path / name).is_file() for name in part.names)]
    if folder is None or missing:
        raise HubError(
            f"{entry.name} is not on the hub: download {', '.join(missing)} from {entry.page} yourself, check its license, and name the folder "
            f"that holds it: from_pretrained({entry.name!r}, cache_dir=...)"
        )
    return folder


def _paths(source: ModelFiles, part: WeightPart) -> list[Path]:
    """The part's file, or, where that is an index as transformers writes it, the files that it names."""
    path = first_of(source, part.names)
    if not path.name.endswith(".index.json"):
        return [path]
    index = read_json(path)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) and name == Path(name).name for name in names.values()):
        raise source.damaged(path, CheckpointError(f"{path} is no index of weight files: it has no weight_map of names of files beside it"))
    return [source.get(name) for name in sorted(set(names.values()))]


def _source_of(part: WeightPart, source: ModelFiles) -> ModelFiles:
    """Parts of other repositories are fetched as the checkpoint's own are: same cache, same token, same answer to whether the hub may be asked."""
    if isinstance(source, Repository) and (part.repo or part.revision):
        return source.other(part.repo or source.repo, part.revision or "main")
    return source
