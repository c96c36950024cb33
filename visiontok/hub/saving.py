"""`save_pretrained` and `push_to_hub`."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

import visiontok
from visiontok import registry
from visiontok.base.errors import CheckpointError, HubError, damage_as
from visiontok.base.files import clear_stale, file_sha256, read_text, replacing, sync
from visiontok.base.offline import is_offline
from visiontok.core.building import check_fits
from visiontok.core.card import CardResult, ModelCard
from visiontok.core.model import plain_state, weights_sha256
from visiontok.hub.card import AnyModel, check_results, renamed, render_card, with_results
from visiontok.hub.download import endpoint, explained
from visiontok.hub.loading import verify_model
from visiontok.hub.reading import CARD_NAME, CONFIG_NAME, METADATA_KEY, WEIGHTS_NAME, SavedConfig
from visiontok.hub.sources import STAGE_PREFIX, Folder

MOST_CARD_BYTES = 2**24
FILES = (WEIGHTS_NAME, CONFIG_NAME, CARD_NAME)
"""In the order in which a save puts them in place: the weights carry their configuration, so from the first on the new model can be loaded."""


def save_pretrained(model: AnyModel, folder: str | Path, *, card: ModelCard | None = None, results: Sequence[CardResult] = ()) -> Path:
    """Write `model.safetensors`, `config.json` and a model card. Other files in the folder stay.

    Everything is first written and synced in a hidden folder inside `folder`, then moved into place file by file. Killed at any moment,
    the folder still loads as the old model or as the new one: the weights carry their configuration, and the hidden folder that is
    left tells `from_pretrained` to read it there. The next save removes it.

    Args:
        model: of a registered family.
        folder: made if it is not there.
        card: what the model card says beside what follows from the model.
        results: of evaluations of this model, shown after those of `card`; see `visiontok.evaluation.results.card_results`.

    Returns:
        The folder.

    Raises:
        UnknownNameError: if the model's class is not registered.
        CheckpointError, OSError: if a result is that of other weights, the model's tensors are not those of a model that is built from its
            configuration (parametrized, quantized, on the meta device), or the files cannot be written; the folder is then as it was.
    """
    folder = Path(folder)
    family = registry.family_of(type(model))
    saved = SavedConfig(version=visiontok.__version__, kind=family.kind, family=family.name, config=model.config.to_dict())
    card = card or ModelCard()
    card = card.model_copy(update={"results": (*card.results, *results)})

    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    stage = folder / f"{STAGE_PREFIX}{uuid.uuid4().hex[:8]}"
    left_over = list(folder.glob(f"{STAGE_PREFIX}*"))
    placed: list[str] = []
    try:
        stage.mkdir()
        readme = render_card(card, model, name=card.name or folder.resolve().name, family=family)
        (stage / CARD_NAME).write_text(readme, encoding="utf-8")
        _write_weights(model, stage / WEIGHTS_NAME, saved)
        _write_config(saved, stage)
        for name in FILES:
            sync(stage / name)
        for name in FILES:
            os.replace(stage / name, folder / name)
            placed.append(name)
        sync(folder)
    finally:
        if len(placed) in (0, len(FILES)):
            shutil.rmtree(stage, ignore_errors=True)
        if created and not placed:
            shutil.rmtree(folder, ignore_errors=True)
    for old in left_over:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def push_to_hub(
    model: AnyModel,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    card: ModelCard | None = None,
    results: Sequence[CardResult] = (),
) -> str:
    """Save a model and upload it in one commit.

    Args:
        model: of a registered family.
        repo_id: "owner/name"; made if it is not there.
        private: whether a new repository is private; None for the owner's default.
        token: access token that may write; None for the stored one.
        card, results: as in `save_pretrained`.

    Returns:
        The address of the commit.

    Raises:
        HubError: if the hub refuses or cannot be reached.
    """
    card = card or ModelCard()
    with tempfile.TemporaryDirectory(prefix="visiontok-") as scratch:
        folder = save_pretrained(model, Path(scratch) / "model", card=card if card.name else card.replace(name=repo_id), results=results)
        return push_folder(folder, repo_id, private=private, token=token)


def add_results(folder: str | Path, results: Sequence[CardResult]) -> None:
    """Put evaluation results on the card of a saved model, beside those that it shows of other metrics, data or protocols.

    Args:
        folder: that `save_pretrained` wrote, or that of a training run.
        results: of this model.

    Raises:
        HubError: if there is no card or no weights.
        CheckpointError: if a result is that of other weights, or the card has no readable front matter.
    """
    source = Folder(registry.model_folder(Path(folder)))
    clear_stale(source.path)
    check_results(results, weights_sha256(verify_model(source.path).state_dict()), name=str(source))
    path = source.get(CARD_NAME)
    with damage_as(CheckpointError, f"{path} is not a readable model card"):
        text = with_results(read_text(path, max_bytes=MOST_CARD_BYTES), results, source=str(path))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def push_folder(folder: str | Path, repo_id: str, *, private: bool | None = None, token: str | bool | None = None) -> str:
    """Upload a folder that `save_pretrained` wrote, or the `final/` of a training run, in one commit: weights, configuration, card and the
    images that it shows; nothing else.

    The card says the name of the repository as that of the model.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError, ConfigError: if the folder does not hold one whole model.
        HubError: if the hub refuses or cannot be reached.
    """
    source = Folder(registry.model_folder(Path(folder)))
    family = registry.family_of(type(verify_model(source.path)))
    with damage_as(CheckpointError, f"{source.path / CARD_NAME} is not a readable model card"):
        card = renamed(read_text(source.get(CARD_NAME), max_bytes=MOST_CARD_BYTES), repo_id)
    shown = re.findall(r"!\[[^\]]*\]\(([\w-]+\.(?:png|svg|jpg))\)", card)
    images = [name for name in dict.fromkeys(shown) if (source.path / name).is_file()]
    if is_offline():
        raise HubError(f"nothing can be uploaded to {repo_id} while HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")
    api = HfApi(endpoint=endpoint(), token=token, library_name="visiontok", library_version=visiontok.__version__)
    with explained(repo_id, "the upload"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        others = (name for name in (*FILES, *images) if name != CARD_NAME)
        additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=source.path / name) for name in others]
        additions.append(CommitOperationAdd(path_in_repo=CARD_NAME, path_or_fileobj=card.encode()))
        commit = api.create_commit(repo_id, additions, commit_message=f"Upload {family.name} {family.kind}")
    return str(commit.commit_url)


def _write_config(saved: SavedConfig, folder: Path) -> None:
    """The configuration, with the checksums of the tensor files that lie in the folder."""
    whole = saved.replace(checksums={path.name: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))})
    (folder / CONFIG_NAME).write_text(whole.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _loadable_state(model: AnyModel, folder: Path) -> dict[str, Tensor]:
    """The tensors of a model, if a model that is built anew from its configuration can take them.

    Raises:
        CheckpointError: if it has other tensors, values of a type that is not stored, or no values.
    """
    state, model_class = plain_state(model), type(model)
    for name, tensor in state.items():
        if tensor.is_meta or tensor.layout != torch.strided or type(tensor) is not Tensor:
            what = "lies on the meta device and holds no values" if tensor.is_meta else f"is a {type(tensor).__name__} with {tensor.layout}"
            raise CheckpointError(f"{name} of the model {what}, which cannot be saved: give it plain values first")
    config = model_class.config_class.parse(model.config.to_dict(), source="the model's configuration")
    if config != model.config:
        raise CheckpointError(f"the configuration of this {model_class.__name__} reads back as another one: {config} instead of {model.config}")
    try:
        check_fits(lambda: model_class(config), state, source=f"this {model_class.__name__}")
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder} is not written, since it could not be loaded: a {model_class.__name__} that is built from its configuration has other tensors "
            f"than this one; was it quantized, or were parts replaced or added? {error}"
        ) from error
    return state


def _write_weights(model: AnyModel, path: Path, saved: SavedConfig) -> None:
    """Weights with their configuration in the header, so that the two can never be told apart from one another's."""
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in _loadable_state(model, path.parent.parent).items():
        tensor = tensor.cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if storage in seen else tensor  # the format knows no tied weights
        seen.add(storage)
    try:
        save_file(tensors, path, metadata={METADATA_KEY: saved.model_dump_json(indent=2, exclude={"checksums"}) + "\n"})
    except SafetensorError as error:
        raise CheckpointError(f"{path} could not be written: {error}") from error
