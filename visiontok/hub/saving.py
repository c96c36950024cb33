"""`save_pretrained` and `push_to_hub`."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

import visiontok
from visiontok import registry
from visiontok.base.errors import CheckpointError
from visiontok.base.files import replacing, sync
from visiontok.core.card import CardResult, ModelCard
from visiontok.core.model import plain_state, weights_sha256
from visiontok.hub.card import AnyModel, check_results, render, with_results
from visiontok.hub.download import endpoint, explained
from visiontok.hub.reading import CARD_NAME, CONFIG_NAME, METADATA_KEY, WEIGHTS_NAME, SavedConfig, read_config, read_own_config, read_safetensors
from visiontok.hub.sources import STAGE_PREFIX, Folder

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
        CheckpointError, OSError: if a result is that of other weights, a part of the model is parametrized, or the files cannot be written; the
            folder is then as it was.
    """
    folder = Path(folder)
    family = registry.family_of(type(model))
    saved = SavedConfig(version=visiontok.__version__, kind=family.kind, family=family.name, config=model.config.to_dict())
    text = saved.model_dump_json(indent=2) + "\n"
    card = card or ModelCard()
    card = card.model_copy(update={"results": (*card.results, *results)})

    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    stage = folder / f"{STAGE_PREFIX}{uuid.uuid4().hex[:8]}"
    left_over = list(folder.glob(f"{STAGE_PREFIX}*"))
    placed: list[str] = []
    try:
        stage.mkdir()
        (stage / CONFIG_NAME).write_text(text, encoding="utf-8")
        readme = render(card, model, name=card.name or folder.resolve().name, family=family)
        (stage / CARD_NAME).write_text(readme, encoding="utf-8")
        _write_weights(model, stage / WEIGHTS_NAME, text)
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
        folder: that `save_pretrained` wrote.
        results: of this model.

    Raises:
        HubError: if there is no card or no weights.
        CheckpointError: if a result is that of other weights, or the card has no readable front matter.
    """
    source = Folder(Path(folder))
    check_results(results, weights_sha256(read_safetensors(source.get(WEIGHTS_NAME))), name=str(source))
    path = source.get(CARD_NAME)
    text = with_results(path.read_text(encoding="utf-8"), results, source=str(path))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def push_folder(folder: str | Path, repo_id: str, *, private: bool | None = None, token: str | bool | None = None) -> str:
    """Upload a folder that `save_pretrained` wrote, in one commit: weights, configuration, card and the images that it shows; nothing else.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError, ConfigError: if the folder does not hold one whole model.
        HubError: if the hub refuses or cannot be reached.
    """
    source = Folder(Path(folder))
    saved = SavedConfig.read(read_config(source.get(CONFIG_NAME)), source=f"{CONFIG_NAME} of {source}")
    own = read_own_config(source.get(WEIGHTS_NAME))
    if source.is_interrupted or (own is not None and not saved.describes_same_model(SavedConfig.read(own, source=WEIGHTS_NAME))):
        raise CheckpointError(f"{CONFIG_NAME} and {WEIGHTS_NAME} in {source} are not of one model; save the model again before pushing it")
    shown = re.findall(r"!\[[^\]]*\]\(([\w-]+\.(?:png|svg|jpg))\)", source.get(CARD_NAME).read_text(encoding="utf-8"))
    images = [name for name in dict.fromkeys(shown) if (source.path / name).is_file()]
    api = HfApi(endpoint=endpoint(), token=token, library_name="visiontok", library_version=visiontok.__version__)
    with explained(repo_id, "the upload"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=source.path / name) for name in (*FILES, *images)]
        commit = api.create_commit(repo_id, additions, commit_message=f"Upload {saved.family} {saved.kind}")
    return str(commit.commit_url)


def _write_weights(model: nn.Module, path: Path, config: str) -> None:
    """Weights with their configuration in the header, so that the two can never be told apart from one another's."""
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in plain_state(model).items():
        tensor = tensor.cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if storage in seen else tensor  # the format knows no tied weights
        seen.add(storage)
    try:
        save_file(tensors, path, metadata={METADATA_KEY: config})
    except SafetensorError as error:
        raise CheckpointError(f"{path} could not be written: {error}") from error
