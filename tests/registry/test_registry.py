from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from visiontok import list_drafters, list_generators, list_tokenizers, registry
from visiontok.base import resources
from visiontok.base.errors import ConfigError, UnknownNameError
from visiontok.generators.gpt.model import GPT
from visiontok.registry import lookup
from visiontok.registry.taxonomy import read_taxonomy

CARD = "---\nlicense: apache-2.0\nvisiontok:\n  tokens: 16\n  bits: 128.0\n  results: []\n---\n\n# A card\n---\n"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in place of the bundled models."""
    monkeypatch.setattr(lookup, "models_folder", lambda: tmp_path)
    registry.bundled.cache_clear()
    yield tmp_path
    registry.bundled.cache_clear()


def put(models: Path, name: str, *, config: str = '{"family": "titok"}', card: str = CARD) -> None:
    (models / name).mkdir()
    (models / name / "config.json").write_text(config)
    (models / name / "README.md").write_text(card)


def test_a_name_means_one_thing() -> None:
    names = Counter([*registry.families(), *registry.checkpoints(), *registry.bundled()])
    assert [name for name, count in names.items() if count > 1] == []
    assert sum(len(family.checkpoints) for family in registry.families().values()) == len(registry.checkpoints())


def test_families_of_one_system_and_kind_are_told_apart_by_their_key_maps() -> None:
    by_system: dict[tuple[str, str], list[registry.Family]] = {}
    for family in registry.families().values():
        for system in family.systems:
            by_system.setdefault((system, family.kind), []).append(family)
    for several in (found for found in by_system.values() if len(found) > 1):
        maps = [family.model_class().reference_keys for family in several]
        assert all(maps)
        assert len({tuple(sorted(keys.patterns)) for keys in maps}) == len(several)


def test_every_family_can_be_imported_and_found_by_its_class() -> None:
    for family in registry.families().values():
        assert registry.family_of(family.model_class()) is family


def test_every_checkpoint_says_what_it_was_trained_on() -> None:
    for family, entry in registry.checkpoints().values():
        assert set(family.modalities) <= set(registry.MODALITIES)
        assert entry.signal is not None, entry.name
        assert entry.signal.modality in family.modalities, entry.name
        if family.kind == "generator":
            assert registry.checkpoints()[str(entry.tokenizer)][0].kind == "tokenizer"


def test_every_audio_checkpoint_has_a_place_on_every_axis_of_the_survey() -> None:
    codecs = {
        name: entry for name, (family, entry) in registry.checkpoints().items() if (family.kind, family.modalities) == ("tokenizer", ("audio",))
    }
    for name, entry in codecs.items():
        assert set(entry.taxonomy) == set(registry.TAXONOMY), name
        assert entry.streamable is not None, name


@pytest.mark.parametrize("taxonomy", [{"quantizer": "RVQ, RWQ"}, {"quantiser": "RVQ"}])
def test_a_taxonomy_with_unknown_values_is_refused(taxonomy: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"RWQ|quantiser"):
        read_taxonomy(taxonomy)


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    table = tmp_path / "tokenizers" / "image" / "toy" / "checkpoints.json"
    table.parent.mkdir(parents=True)
    for broken in ("{", "[]", '{"name": "toy"}', '{"name": "toy", "kind": "tokenizer", "surprise": 1}'):
        table.write_text(broken)
        with pytest.raises(ConfigError, match=r"toy/checkpoints\.json"):
            lookup.read_families(tmp_path)


def test_a_table_of_audio_checkpoints(tmp_path: Path) -> None:
    """Fields that image families leave out; mappings of an entry go over those of the defaults field by field."""
    table = tmp_path / "tokenizers" / "audio" / "codec" / "checkpoints.json"
    table.parent.mkdir(parents=True)
    family: dict[str, object] = {"name": "codec", "kind": "tokenizer", "modalities": ["audio"], "class_name": "Codec", "title": "Codec"}
    family |= {"summary": "a codec", "verified": "not yet", "paper": "", "code": "", "systems": ["codec"]}
    files = [{"names": ["encoder.jit"], "prefix": "encoder."}, {"names": ["decoder.jit"], "repo": "others/decoder", "key": "ema"}]
    defaults = {"files": files, "reference_config": {"width": 8, "depth": 2}, "weights_license": "mit", "code_license": "mit", "vocab_size": 1024}
    defaults |= {"signal": {"modality": "audio", "channels": 1}, "taxonomy": {"quantizer": "RVQ", "encoder": "CNN"}}
    entry: dict[str, object] = {
        "name": "codec-24khz",
        "repo": "authors/codec",
        "reference_config": {"depth": 3},
        "codebooks": 8,
        "frame_rate": 75.0,
        "streamable": True,
    }
    entry |= {"signal": {"sample_rate": 24000}, "taxonomy": {"encoder": "CNN+RNN"}}
    table.write_text(json.dumps({**family, "checkpoint_defaults": defaults, "checkpoints": [entry]}))
    (codec,) = lookup.read_families(tmp_path)
    (checkpoint,) = codec.checkpoints
    assert codec.module == "visiontok.tokenizers.audio.codec.model"
    assert checkpoint.signal == registry.SignalFacts(modality="audio", sample_rate=24000, channels=1)
    assert str(checkpoint.signal) == "24000 Hz, 1 channel"
    assert checkpoint.taxonomy == {"quantizer": ("RVQ",), "encoder": ("CNN+RNN",)}
    assert checkpoint.reference_config == {"width": 8, "depth": 3}
    assert checkpoint.files[1] == registry.WeightPart(names=("decoder.jit",), repo="others/decoder", key="ema")


@pytest.mark.parametrize(
    ("facts", "short"),
    [
        ({"modality": "image", "size": (256, 128)}, "256x128"),
        ({"modality": "video", "size": (64, 64), "num_frames": 17, "fps": 8.0}, "17x64x64"),
        ({"modality": "audio", "sample_rate": 16000}, "16000Hz"),
        ({"modality": "image"}, ""),
    ],
)
def test_signals_in_a_word(facts: dict[str, Any], short: str) -> None:
    assert registry.SignalFacts.read(facts).short() == short


def test_listing() -> None:
    assert "titok-l32" in list_tokenizers("titok*")
    assert all(name.startswith("titok") for name in list_tokenizers("titok*"))
    assert list_tokenizers("titok*", modality="image") == list_tokenizers("titok*")
    assert list_tokenizers("titok*", modality="audio") == []
    assert list_tokenizers("TITOK*") == list_tokenizers("titok*")
    assert "titok-l32" not in list_generators()
    assert set(list_generators()) | set(list_tokenizers()) | set(list_drafters()) >= set(registry.checkpoints())


def test_unknown_names_have_close_matches() -> None:
    with pytest.raises(UnknownNameError, match="titok"):
        registry.find_family("titk")
    with pytest.raises(UnknownNameError, match="titok"):
        registry.families_of_system("titok2")
    with pytest.raises(UnknownNameError, match="Path"):
        registry.family_of(Path)
    assert registry.family_of(GPT).name == "gpt"


def test_repositories() -> None:
    family, entry = registry.checkpoints()["titok-l32"]
    assert registry.find_repository(entry.repo) == [(family, entry)]
    assert registry.find_repository("nobody/nothing") == []


def test_bundled_models_are_listed_with_their_cards(models: Path) -> None:
    put(models, "titok-toy")
    (models / "half-written").mkdir()
    assert list(registry.bundled()) == ["titok-toy"]
    model = registry.bundled()["titok-toy"]
    assert (model.family.name, model.folder) == ("titok", models / "titok-toy")
    assert model.card == {"license": "apache-2.0", "tokens": 16, "bits": 128.0, "results": []}
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
def test_a_broken_bundled_model_is_named(models: Path, broken: dict[str, str], message: str) -> None:
    put(models, "toy", **broken)
    with pytest.raises(ConfigError, match=message):
        registry.bundled()


def test_a_bundled_model_of_an_unknown_family(models: Path) -> None:
    put(models, "toy", config=json.dumps({"family": "titak"}))
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
