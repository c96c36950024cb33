"""Saving: atomic whatever happens; and pushing in one commit."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from hub_server import HubServer, leftovers
from safetensors import safe_open
from torch import nn

import visiontok
from visiontok.base.errors import CheckpointError, HubError, UnknownNameError
from visiontok.core.model import weights_sha256
from visiontok.hub import CardResult, ModelCard, add_results, push_folder, save_pretrained
from visiontok.hub.card import NOT_EVALUATED


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_round_trip_keeps_every_weight(tmp_path: Path) -> None:
    model = visiontok.create("tiny", codes=5, note="a")
    loaded = visiontok.from_pretrained(save_pretrained(model, tmp_path / "deep" / "model"))
    assert loaded.config == model.config
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = visiontok.create("tiny")
    card = ModelCard(name="same")
    assert contents(save_pretrained(model, tmp_path / "a", card=card)) == contents(save_pretrained(model, tmp_path / "b", card=card))


def test_tied_weights_are_saved_once_each(tmp_path: Path) -> None:
    model = visiontok.create("tiny")
    model.encoder.bias = nn.Parameter(model.encoder.weight.detach()[0])
    loaded = visiontok.from_pretrained(save_pretrained(model, tmp_path / "tied"))
    assert torch.equal(loaded.encoder.bias, loaded.encoder.weight[0])


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    save_pretrained(visiontok.create("tiny"), tmp_path)
    assert sorted(contents(tmp_path)) == ["README.md", "config.json", "model.safetensors", "notes.txt"]


def test_only_registered_classes_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Linear"):
        save_pretrained(nn.Linear(1, 1), tmp_path / "model")  # type: ignore[arg-type]
    assert not (tmp_path / "model").exists()


def test_a_failure_before_the_first_file_is_in_place_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_pretrained(visiontok.create("tiny", codes=5), tmp_path / "old")
    before = contents(folder)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("visiontok.hub.saving.save_file", full_disk)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(OSError, match="No space left"):
            save_pretrained(visiontok.create("tiny", codes=6), target)
    assert contents(folder) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("moves", [1, 2])
@pytest.mark.parametrize("old", [True, False])
def test_stopped_between_two_files_the_folder_is_the_new_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int, old: bool) -> None:
    folder = tmp_path / "model"
    if old:
        save_pretrained(visiontok.create("tiny", codes=5), folder)
    real_replace, done = os.replace, []

    def stop_after_some(source: Path, target: Path) -> None:
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(target)
        real_replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_after_some)
        with pytest.raises(KeyboardInterrupt):
            save_pretrained(visiontok.create("tiny", codes=6), folder)
    assert visiontok.from_pretrained(folder).config.codes == 6
    with pytest.raises((CheckpointError, HubError)):
        push_folder(folder, "me/model")

    save_pretrained(visiontok.create("tiny", codes=7), folder)
    assert not leftovers(folder)
    assert visiontok.from_pretrained(folder).config.codes == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_the_folder_is_one_of_the_two_models(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    models = [visiontok.create("tiny", codes=codes) for codes in (5, 6)]
    save_pretrained(models[0], folder)
    found = set()
    for attempt in range(20):
        saver = os.fork()
        if saver == 0:
            while True:
                for model in reversed(models):
                    save_pretrained(model, folder)
        time.sleep(0.002 + 0.0017 * attempt)
        os.kill(saver, signal.SIGKILL)
        os.waitpid(saver, 0)
        found.add(visiontok.from_pretrained(folder).config.codes)
    assert found <= {5, 6}
    save_pretrained(visiontok.create("tiny"), folder)
    assert sorted(contents(folder)) == ["README.md", "config.json", "model.safetensors"]


def test_weights_of_one_model_and_configuration_of_another_are_refused(tmp_path: Path) -> None:
    one = save_pretrained(visiontok.create("tiny", note="one"), tmp_path / "one")
    two = save_pretrained(visiontok.create("tiny", note="two"), tmp_path / "two")
    (one / "config.json").write_bytes((two / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"config\.json.*model\.safetensors"):
        visiontok.from_pretrained(one)
    with safe_open(one / "model.safetensors", framework="pt") as file:
        (one / "config.json").write_text(file.metadata()["visiontok"])  # what the message tells to do
    assert visiontok.from_pretrained(one).config.note == "one"


class TestCard:
    CARD = ModelCard(
        license="apache-2.0",
        summary="A tokenizer of gray squares.",
        trained_on="Nothing at all.",
        limitations="Colors.",
        results=(CardResult(metric="PSNR", value=12.34, unit="dB", dataset="4 photographs", protocol="center crop, 8 px"),),
    )

    def test_front_matter_and_text(self, tmp_path: Path) -> None:
        text = (save_pretrained(visiontok.create("tiny"), tmp_path / "gray", card=self.CARD) / "README.md").read_text()
        _, matter, body = text.split("---\n", 2)
        values = yaml.safe_load(matter)
        assert values["license"] == "apache-2.0"
        assert values["library_name"] == "visiontok"
        assert values["tags"] == ["visiontok", "tiny", "tokenizer", "image"]
        assert values["visiontok"]["tokens"] == 4
        assert values["visiontok"]["bits"] == 8
        assert values["visiontok"]["parameters"] == 16
        assert values["visiontok"]["results"][0]["value"] == 12.34
        for words in (
            "# gray",
            'from_pretrained("gray")',
            "| PSNR | 12.34 dB | 4 photographs | center crop, 8 px |",
            "Nothing at all.",
            "4 tokens",
            "8 bits",
        ):
            assert words in body

    def test_nothing_is_invented(self, tmp_path: Path) -> None:
        text = (save_pretrained(visiontok.create("tiny"), tmp_path / "bare") / "README.md").read_text()
        assert "license: unknown" in text
        assert NOT_EVALUATED in text
        assert "| metric |" not in text


class TestResults:
    """Evaluation results on the card of the model that they belong to."""

    def results(self, model: nn.Module, value: float = 21.5) -> tuple[CardResult, ...]:
        weights = weights_sha256(model.state_dict())
        return (CardResult(metric="PSNR", value=value, unit="dB", dataset="digits | test", protocol="center crop", weights_sha256=weights),)

    def test_saved_with_the_model(self, tmp_path: Path) -> None:
        model = visiontok.create("tiny")
        results = self.results(model)
        text = (save_pretrained(model, tmp_path / "model", card=TestCard.CARD, results=results) / "README.md").read_text()
        shown = yaml.safe_load(text.split("---\n")[1])["visiontok"]["results"]
        assert [entry["value"] for entry in shown] == [12.34, 21.5]
        assert "weights_sha256" not in shown[1]
        assert "| PSNR | 21.5 dB | digits \\| test | center crop |" in text

    def test_added_to_a_saved_model(self, tmp_path: Path) -> None:
        model = visiontok.create("tiny")
        folder = save_pretrained(model, tmp_path / "model", card=TestCard.CARD)
        before = (folder / "README.md").read_text()
        add_results(folder, [])
        assert (folder / "README.md").read_text() == before
        add_results(folder, self.results(model))
        add_results(folder, self.results(model, value=30.0))
        after = (folder / "README.md").read_text()
        assert [entry["value"] for entry in yaml.safe_load(after.split("---\n")[1])["visiontok"]["results"]] == [12.34, 30.0]
        assert "21.5 dB" not in after
        assert after == (save_pretrained(model, folder, card=TestCard.CARD, results=self.results(model, value=30.0)) / "README.md").read_text()

    def test_a_card_without_the_section_gets_one(self, tmp_path: Path) -> None:
        model = visiontok.create("tiny")
        folder = save_pretrained(model, tmp_path / "model")
        card = folder / "README.md"
        card.write_text(card.read_text().split("\n# ")[0] + "\n# Mine\n\nWords.\n")
        add_results(folder, self.results(model))
        assert card.read_text().endswith("| PSNR | 21.5 dB | digits \\| test | center crop |\n")

    def test_those_of_other_weights_are_refused(self, tmp_path: Path) -> None:
        model, other = visiontok.create("tiny"), visiontok.create("tiny", codes=7)
        with pytest.raises(CheckpointError, match="PSNR"):
            save_pretrained(model, tmp_path / "refused", results=self.results(other))
        assert not (tmp_path / "refused").exists()
        folder = save_pretrained(model, tmp_path / "model")
        before = contents(folder)
        with pytest.raises(CheckpointError, match="PSNR"):
            add_results(folder, self.results(other))
        assert contents(folder) == before

    @pytest.mark.parametrize("text", ["# no front matter\n", "---\nlicense: mit\n---\n# x\n", "---\na: [\n---\n", ""])
    def test_a_card_that_is_none(self, tmp_path: Path, text: str) -> None:
        folder = save_pretrained(visiontok.create("tiny"), tmp_path / "model")
        (folder / "README.md").write_text(text)
        with pytest.raises(CheckpointError, match=r"README\.md"):
            add_results(folder, [])


class TestPush:
    """Through the client's own create_repo and create_commit, with large files by the LFS protocol."""

    def test_a_model_arrives_whole_in_one_commit(self, hub: HubServer, tmp_path: Path) -> None:
        model = visiontok.create("tiny", codes=5)
        address = visiontok.push_to_hub(model, "me/gray", token="hf_token", card=TestCard.CARD)
        repo = hub.repos["me/gray"]
        assert address == f"{hub.url}/me/gray/commit/{repo.refs['main']}"
        assert sorted(repo.head) == ["README.md", "config.json", "model.safetensors"]
        assert len(repo.commits) == 2  # the empty repository and ours
        assert 'from_pretrained("me/gray")' in repo.head["README.md"].decode()
        loaded = visiontok.from_pretrained("me/gray", cache_dir=tmp_path / "cache")
        assert torch.equal(loaded.quantizer.codebook, model.quantizer.codebook)

    def test_only_the_models_files_of_a_folder_are_pushed(self, hub: HubServer, tmp_path: Path) -> None:
        folder = save_pretrained(visiontok.create("tiny"), tmp_path / "gray")
        (folder / "secrets.txt").write_text("mine")
        push_folder(folder, "me/gray", token="hf_token")
        assert sorted(hub.repos["me/gray"].head) == ["README.md", "config.json", "model.safetensors"]

    def test_images_that_the_card_shows_are_pushed_along(self, hub: HubServer, tmp_path: Path) -> None:
        card = ModelCard(summary="![curve](curve.png) ![gone](gone.png) ![far](../far.png)")
        folder = save_pretrained(visiontok.create("tiny"), tmp_path / "gray", card=card)
        for image in (folder / "curve.png", folder / "unseen.png", tmp_path / "far.png"):
            image.write_bytes(b"image")
        push_folder(folder, "me/gray", token="hf_token")
        assert sorted(hub.repos["me/gray"].head) == ["README.md", "config.json", "curve.png", "model.safetensors"]

    def test_refused(self, hub: HubServer) -> None:
        for status, message in (
            (401, "token.*me/gray"),
            (403, "me/gray.*forbidden"),
            (400, "me/gray.*BadRequest"),
        ):
            hub.refuse_commits = status
            with pytest.raises(HubError, match=message):
                visiontok.push_to_hub(visiontok.create("tiny"), "me/gray", token="hf_token")

    def test_a_folder_that_is_no_model(self, hub: HubServer, tmp_path: Path) -> None:
        with pytest.raises(HubError, match=r"config\.json"):
            push_folder(tmp_path, "me/gray")
        with pytest.raises(HubError, match="absent"):
            push_folder(tmp_path / "absent", "me/gray")
        folder = save_pretrained(visiontok.create("tiny"), tmp_path / "gray")
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-5])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            push_folder(folder, "me/gray")
        assert not hub.repos


def test_a_compiled_model_is_saved_by_its_plain_names(tmp_path: Path) -> None:
    tiny = visiontok.create("tiny")
    expected = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    identity = weights_sha256(tiny.state_dict())
    tiny.encoder = torch.compile(tiny.encoder)
    assert weights_sha256(tiny.state_dict()) == identity
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(tiny, tmp_path / "model"))
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_a_parametrized_model_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    tiny = visiontok.create("tiny")
    torch.nn.utils.parametrizations.weight_norm(next(part for part in tiny.modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)))
    with pytest.raises(CheckpointError, match="parametriz"):
        visiontok.save_pretrained(tiny, tmp_path / "model")
    assert not (tmp_path / "model").exists()
