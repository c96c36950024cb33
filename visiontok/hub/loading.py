"""`create` and `from_pretrained`: from a name to a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiontok import registry
from visiontok.base.config import Config, merge
from visiontok.base.devices import find_device, find_dtype
from visiontok.base.errors import CheckpointError, ConfigError, NonFiniteError
from visiontok.base.interpolation import resolve
from visiontok.base.names import unknown
from visiontok.core.building import build_new, build_with_weights
from visiontok.hub.card import AnyModel
from visiontok.hub.download import Repository, explained
from visiontok.hub.locate import locate
from visiontok.hub.parts import read_parts
from visiontok.hub.reading import CONFIG_NAME, WEIGHTS_NAME, SavedConfig, check_sha256, read_config, read_own_config, read_safetensors, read_weights
from visiontok.hub.reference import build_from_reference, family_for
from visiontok.hub.sources import Folder, ModelFiles, first_of

AUTHORS_WEIGHTS = (WEIGHTS_NAME, "pytorch_model.bin", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
"""Weight files that are tried where the registry does not name one."""


def create(name: str, **overrides: Any) -> AnyModel:
    """A model with random weights, drawn from torch's global state.

    Args:
        name: of a family (all of its configuration then comes from `overrides`), a released checkpoint or a bundled model, in any case.
        overrides: fields of the family's configuration; a mapping changes fields of a nested one.

    Raises:
        UnknownNameError: with close matches.
        ConfigError: for unknown or invalid fields, a model that is larger than the memory, or where a released configuration does not tell all
            sizes without its weights.
    """
    name = registry.spelled(name)
    if name in registry.families():
        model_class = registry.find_family(name).model_class()
        config = model_class.config_class.parse(overrides, source=f"the configuration of {name}")
    else:
        model_class, config = _known_config(name)
        config = config.replace(**overrides) if overrides else config
    return build_new(lambda: model_class(config))


def from_pretrained(
    name: str | Path,
    *,
    system: str | None = None,
    kind: registry.Kind | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    verify_checksums: bool = True,
) -> AnyModel:
    """A trained model, in evaluation mode.

    Args:
        name: a released or bundled model ("titok-l32", see `list_tokenizers`), a hub repository ("owner/name", each optionally with
            "@revision"), a folder that `save_pretrained` wrote, or that of a training run, whose `final/` is taken. Registered names are
            known in any case; spelled exactly, they go before a folder of that name: write "./name".
        system: for repositories and folders in an authors' own layout that the registry does not list: whose layout it is.
        kind: with `system`, which of the two where the authors released a tokenizer and a generator; by default the weights' names tell.
        cache_dir: where downloads are kept; None for huggingface_hub's cache. For a released model whose files are not on the hub, the
            folder into which you put them.
        local_files_only: use the cache only.
        token: access token; None for the stored one.
        device, dtype: to which the model is moved, also by name ("cuda:0", "bfloat16"). None keeps float32, whatever was saved: float16 and bfloat16
            are read without loss; models that were saved in float64 stay float64.
        verify_checksums: whether weights in our layout are compared with the SHA-256 in their `config.json`, which takes about a second per GB.

    Raises:
        UnknownNameError: with close matches.
        HubError: offline and not cached, gated, no such repository, revision or file, interrupted transfer.
        ConfigError: a configuration that is unreadable, of an unknown family, or has unknown keys or values; an unknown device or dtype.
        CheckpointError: truncated or corrupt weights, or tensors that are missing, unmapped, wrongly shaped or of another kind of dtype.
    """
    device, dtype = find_device(device), find_dtype(dtype)
    if kind is not None and system is None:
        raise ConfigError(f"kind={kind!r} tells apart what one system's authors released; give system= with it, or omit it")
    source, released = locate(name, cache_dir=cache_dir, local_files_only=local_files_only, token=token)
    if released is None:
        model = _load(source, system, kind, verify_checksums=verify_checksums)
    elif system is not None:
        raise ConfigError(f"{source} is listed in the registry, which knows its layout; omit system={system!r}")
    else:
        model = _load_released(source, *released)
    return model.to(device=device, dtype=dtype).eval()


def _known_config(name: str) -> tuple[type[AnyModel], Config]:
    if name in registry.bundled():
        saved = SavedConfig.read(read_config(registry.bundled()[name].folder / CONFIG_NAME), source=name)
        model_class = registry.find_family(saved.family).model_class()
        return model_class, model_class.config_class.parse(saved.config, source=name)
    if name in registry.checkpoints():
        family, entry = registry.checkpoints()[name]
        return family.model_class(), family.model_class().config_from_reference(resolve(entry.reference_config), {})
    raise unknown("family or model", name, [*registry.families(), *registry.checkpoints(), *registry.bundled()])


def _load_released(source: ModelFiles, family: registry.Family, entry: registry.Checkpoint) -> AnyModel:
    if not entry.files:
        assert isinstance(source, Repository)
        return _load_through_library(source, family, entry)
    config: Mapping[str, Any] = entry.reference_config
    if entry.config_file is not None:
        config = merge(read_config(source.get(entry.config_file)), config)
    weights = read_parts(source, entry)
    with _naming(source):
        return build_from_reference(family, config, weights)


def _load_through_library(source: Repository, family: registry.Family, entry: registry.Checkpoint) -> AnyModel:
    """Released checkpoints without weight files of their own: parts of models that another library's `from_pretrained` finds."""
    hub = {
        "subfolder": entry.subfolder,
        "revision": source.revision,
        "cache_dir": source.cache_dir,
        "local_files_only": source.only_cached,
        "token": source.token,
    }
    model_class = family.model_class()
    with explained(str(source), entry.name, local_files_only=source.only_cached):
        config, weights, problems = model_class.read_library(source.repo, hub)
    if problems:
        raise CheckpointError(f"{source} does not hold all of {entry.name}: {'; '.join(problems)}")
    with _naming(source):
        return model_class.from_reference(merge(config, entry.reference_config), weights)


def _load(source: ModelFiles, system: str | None, kind: registry.Kind | None, *, verify_checksums: bool) -> AnyModel:
    interrupted = isinstance(source, Folder) and source.is_interrupted
    values = read_own_config(source.get(WEIGHTS_NAME)) if interrupted else None
    if values is None:
        values = read_config(source.get(CONFIG_NAME))
    if values.get("library") == "visiontok":
        if system is not None:
            raise ConfigError(f"{source} is in visiontok's own layout; omit system={system!r}")
        saved = SavedConfig.read(values, source=f"{CONFIG_NAME} of {source}")
        return _load_ours(source, saved, verify_checksums=verify_checksums)
    family = registry.recognize(values) if system is None else None
    if family is None and system is None:
        known = ", ".join(sorted({known for family in registry.families().values() for known in family.systems}))
        raise ConfigError(
            f"{CONFIG_NAME} of {source} is not in visiontok's layout. If it is the authors' own, say whose with system=...; known: {known}"
        )
    weights = read_weights(first_of(source, AUTHORS_WEIGHTS))
    with _naming(source):
        return build_from_reference(family or family_for(str(system), weights, kind), values, weights)


def _load_ours(source: ModelFiles, saved: SavedConfig, *, verify_checksums: bool) -> AnyModel:
    """A model in our layout, on the CPU.

    Args:
        source: of its files.
        saved: its configuration.
        verify_checksums: see `from_pretrained`.

    Raises:
        HubError, UnknownNameError, ConfigError, CheckpointError: as `from_pretrained`.
    """
    family = registry.find_family(saved.family)
    if family.kind != saved.kind:
        raise ConfigError(f"{CONFIG_NAME} of {source} says kind {saved.kind!r}, but {saved.family} is a {family.kind}")
    model_class = family.model_class()
    config = model_class.config_class.parse(saved.config, source=f"config in {CONFIG_NAME} of {source}")
    path = source.get(WEIGHTS_NAME)
    own = read_own_config(path)
    is_theirs = own is None or saved.describes_same_model(SavedConfig.read(own, source=f"the header of {path}"))
    if verify_checksums and is_theirs and WEIGHTS_NAME in saved.checksums:
        try:
            check_sha256(path, saved.checksums[WEIGHTS_NAME])
        except CheckpointError as error:
            raise source.damaged(path, error) from error
    weights = read_safetensors(path)
    model = build_with_weights(lambda: model_class(config), weights, source=str(source), dtype=_widest(weights))
    if not is_theirs:
        raise CheckpointError(
            f"{CONFIG_NAME} of {source} is not the configuration that {WEIGHTS_NAME} was saved with (it stands in that file's header): "
            "one of the two was replaced or edited. Restore it, or save the model again."
        )
    return model


def _widest(weights: Mapping[str, Tensor]) -> torch.dtype:
    """float32, which holds every float16 and bfloat16, or float64 where the weights need it: nothing is rounded."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in weights.values()) else torch.float32


def verify_model(folder: str | Path) -> AnyModel:
    """The model of a folder that `save_pretrained` wrote, if everything in it is whole and fits together.

    Raises:
        HubError: if a file is missing.
        ConfigError, CheckpointError: naming the file that is damaged, without a checksum, or does not belong to the others.
    """
    source = Folder(Path(folder))
    saved = SavedConfig.read(read_config(source.get(CONFIG_NAME)), source=f"{CONFIG_NAME} of {source}")
    source.get(WEIGHTS_NAME)
    if source.is_interrupted:
        raise CheckpointError(f"saving to {source} was interrupted, so that its files may be of different models; save the model again")
    if WEIGHTS_NAME not in saved.checksums:
        raise CheckpointError(f"{CONFIG_NAME} of {source} holds no checksum of {WEIGHTS_NAME}; save the model again")
    model = _load_ours(source, saved, verify_checksums=True)
    try:
        model.check_weights()
    except NonFiniteError as error:
        raise CheckpointError(f"{source.path / WEIGHTS_NAME}: {error}") from error
    return model


@contextmanager
def _naming(source: ModelFiles) -> Iterator[None]:
    """Say which files an error is about, where the code that raises it knows tensors and values only."""
    try:
        yield
    except (ConfigError, CheckpointError) as error:
        raise type(error)(f"{source}: {error}") from error
