from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from visiontok import list_generators, list_tokenizers, registry
from visiontok.base import resources
from visiontok.base.errors import ConfigError, UnknownNameError
from visiontok.generators.gpt.model import GPT
from visiontok.registry import lookup

CARD = "---\nlicense: apache-2.0\nvisiontok:\n  tokens: 16\n  bits: 128.0\n  measured: []\n---\n\n# A card\n---\n"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in place of the bundled models."""
    monkeypatch.setattr(lookup, "models_folder", lambda: tmp_path)
    registry.bundled.cache_clear()
    yield tmp_path
    registry.bundled.cache_clear()


def put(shelf: Path, name: str, *, config: str = '{"family": "titok"}', card: str = CARD) -> None:
    (shelf / name).mkdir()
    (shelf / name / "config.json").write_text(config)
    (shelf / name / "README.md").write_text(card)


def test_a_name_means_one_thing() -> None:
    names = Counter([*registry.families(), *registry.checkpoints(), *registry.bundled()])
    systems = Counter(system for family in registry.families().values() for system in family.systems)
    assert [name for name, count in (names + systems).items() if names[name] > 1 or systems[name] > 1] == []
    assert sum(len(family.checkpoints) for family in registry.families().values()) == len(registry.checkpoints())


def test_every_family_can_be_imported_and_found_by_its_class() -> None:
    for family in registry.families().values():
        assert registry.family_of(family.model_class()) is family


def test_listing() -> None:
    assert "titok-l32" in list_tokenizers("titok*")
    assert all(name.startswith("titok") for name in list_tokenizers("titok*"))
    assert list_tokenizers("titok*", modality="image") == list_tokenizers("titok*")
    assert list_tokenizers("titok*", modality="audio") == []
    assert list_tokenizers("TITOK*") == []
    assert "titok-l32" not in list_generators()
    assert set(list_generators()) | set(list_tokenizers()) >= set(registry.checkpoints())


def test_unknown_names_have_close_matches() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean titok"):
        registry.find_family("titk")
    with pytest.raises(UnknownNameError, match="Did you mean titok"):
        registry.find_system("titok2")
    with pytest.raises(UnknownNameError, match="is no registered family"):
        registry.family_of(Path)
    assert registry.family_of(GPT).name == "gpt"


def test_repositories() -> None:
    family, entry = registry.checkpoints()["titok-l32"]
    assert registry.find_repository(entry.repo) == [(family, entry)]
    assert registry.find_repository("nobody/nothing") == []


def test_bundled_models_are_listed_with_their_cards(shelf: Path) -> None:
    put(shelf, "titok-toy")
    (shelf / "half-written").mkdir()
    assert list(registry.bundled()) == ["titok-toy"]
    model = registry.bundled()["titok-toy"]
    assert (model.family.name, model.folder) == ("titok", shelf / "titok-toy")
    assert model.card == {"license": "apache-2.0", "tokens": 16, "bits": 128.0, "measured": []}
    assert "titok-toy" in list_tokenizers("titok*", modality="image")
    assert "titok-toy" not in list_generators()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"config": "{"}, r"toy/config\.json cannot be read"),
        ({"config": "{}"}, r"toy/config\.json cannot be read.*family"),
        ({"card": "# no front matter"}, r"toy/README\.md has no readable front matter"),
        ({"card": "---\nlicense: mit\n---\n"}, r"toy/README\.md has no readable front matter"),
        ({"card": "---\na: [\n---\n"}, r"toy/README\.md has no readable front matter"),
    ],
)
def test_a_broken_bundled_model_is_named(shelf: Path, broken: dict[str, str], message: str) -> None:
    put(shelf, "toy", **broken)
    with pytest.raises(ConfigError, match=message):
        registry.bundled()


def test_a_bundled_model_of_an_unknown_family(shelf: Path) -> None:
    put(shelf, "toy", config=json.dumps({"family": "titak"}))
    with pytest.raises(UnknownNameError, match="titak"):
        registry.bundled()


def test_resources_are_found_in_a_checkout_and_in_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "visiontok"
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert resources.models_folder() == tmp_path / "models"
    assert resources.configs_folder() == tmp_path / "configs"
    assert resources.suites_folder() == tmp_path / "eval" / "suites"
    for name in ("models", "configs", "suites"):
        (package / "_data" / name).mkdir(parents=True)
    assert resources.models_folder() == package / "_data" / "models"
    assert resources.configs_folder() == package / "_data" / "configs"
    assert resources.suites_folder() == package / "_data" / "suites"


def test_the_registry_is_read_without_torch() -> None:
    script = (
        "import sys, visiontok; visiontok.list_tokenizers(); visiontok.list_generators(); print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "set()"
