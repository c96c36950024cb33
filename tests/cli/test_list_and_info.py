from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import refused
from typer.testing import CliRunner

import visiontok
from visiontok import registry
from visiontok.base.errors import ConfigError, UnknownNameError
from visiontok.cli import app
from visiontok.cli.fields import field_rows
from visiontok.hub import CardResult, ModelCard
from visiontok.registry import lookup

SIZES = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a bundled model, with no other."""
    quantizer = {"type": "vq", "codebook_size": 32, "dim": 4}
    model = visiontok.create("titok", image_size=16, num_latent_tokens=4, encoder=SIZES, decoder=SIZES, quantizer=quantizer)
    psnr = CardResult(metric="PSNR", value=23.5, unit="dB", dataset="4 photographs", protocol="center crop")
    visiontok.save_pretrained(model, tmp_path / "titok-toy", card=ModelCard(license="apache-2.0", results=(psnr,)))
    monkeypatch.setattr(lookup, "models_folder", lambda: tmp_path)
    registry.bundled.cache_clear()
    yield "titok-toy"
    registry.bundled.cache_clear()


def test_list_is_a_table_with_a_header() -> None:
    header, *rows = run("list").splitlines()
    assert header.split() == ["name", "kind", "modality", "tokens", "vocabulary", "signal", "parameters", "from"]
    assert {row.split()[0] for row in rows} == set(registry.checkpoints()) | set(registry.bundled())


def test_list_selects() -> None:
    for pattern in ("titok-b64", "TiTok-B64"):
        assert [row.split()[0] for row in run("list", pattern).splitlines()[1:]] == ["titok-b64", "maskgit-titok-b64"]
    assert [row.split()[0] for row in run("list", "titok-b6?").splitlines()[1:]] == ["titok-b64"]
    assert run("list", "--modality", "audio", "maskgit-titok*").startswith("No model matches")
    names = {entry["name"] for entry in json.loads(run("list", "titok*", "--modality", "image", "--json"))}
    assert names == set(visiontok.list_tokenizers("titok*"))
    assert names < set(visiontok.list_tokenizers("titok"))
    assert set(visiontok.list_generators("titok")) == {f"maskgit-titok-{size}" for size in ("l32", "b64", "s128")}


def test_list_selects_codecs_by_what_they_are() -> None:
    def names(*arguments: str) -> set[str]:
        return {entry["name"] for entry in json.loads(run("list", "--modality", "audio", "--json", *arguments)) if entry["kind"] == "tokenizer"}

    assert {"encodec-24khz", "mimi-24khz"} <= names("--streamable") < names()
    assert "dac-44khz" not in names("--streamable")
    assert "mimi-24khz" in names("--quantizer", "rvq") - names("--domain", "music")
    semantic = names("--where", "auxiliary=semantic distillation", "--where", "encoder=cnn+transformer")
    assert "mimi-24khz" in semantic
    assert semantic == set(visiontok.list_tokenizers(taxonomy={"auxiliary": "semantic distillation", "encoder": "CNN+Transformer"}))
    assert names("--streamable") == set(visiontok.list_tokenizers(modality="audio", streamable=True))
    for axis in ("quantizer=RVW", "quantiser=RVQ"):
        assert isinstance(refused("list", "--where", axis), UnknownNameError)
    for conditions in (["quantizer"], ["quantizer=RVQ", "quantizer=FSQ"]):
        assert isinstance(refused("list", *(word for each in conditions for word in ("--where", each))), ConfigError)
    mimi = next(entry for entry in json.loads(run("list", "mimi-24khz", "--json")))
    assert mimi["kilobits_per_second"] == pytest.approx(4.4)
    assert mimi["taxonomy"]["auxiliary"] == ["semantic distillation"]
    assert "objectives: GAN, feature matching, VQ\n" in run("info", "mimi-24khz")


def test_unknown_patterns_and_modalities_list_the_close_names() -> None:
    assert "titok-l32" in run("list", "titok-l23")
    with pytest.raises(UnknownNameError, match=r"'imag'.*image"):
        visiontok.list_tokenizers(modality="imag")
    assert isinstance(refused("list", "--modality", "imag"), UnknownNameError)


def test_list_as_json_keeps_numbers() -> None:
    entry = json.loads(run("list", "titok-l32", "--json"))[0]
    assert (entry["tokens"], entry["vocabulary"], entry["signal"]["size"], entry["kind"]) == (32, 4096, [256, 256], "tokenizer")
    assert json.loads(run("list", "nothing*", "--json")) == []


def test_info_of_a_released_model() -> None:
    text = run("info", "titok-l32")
    for line in (
        "repository: yucornetto/tokenizer_titok_l32_imagenet@main",
        "license of the weights: apache-2.0",
        "tokens: 32 from a vocabulary of 4096, 384 bits",
        "published by the authors, not computed here:\n  rFID 2.21 on ImageNet",
        'load it: visiontok.from_pretrained("titok-l32")',
    ):
        assert line in text
    assert json.loads(run("info", "titok-l32", "--json"))["reference_config"]["model"]["vq_model"]["num_latent_tokens"] == 32


def test_info_of_a_family() -> None:
    text = run("info", "titok")
    assert "reads checkpoints of: titok" in text
    assert "\n  titok-s128\n" in text
    assert json.loads(run("info", "titok", "--json"))["systems"] == ["titok"]


def test_info_of_a_family_shows_the_fields_of_its_configuration() -> None:
    rows = {line.split("  ")[0]: line.split() for line in run("info", "TiTok").splitlines()}
    assert rows["num_latent_tokens"][1:] == ["int", ">", "0", "32"]
    assert rows["encoder.dim"][-1] == "required"
    assert rows["quantizer[vq].gradient"][-1] == '"straight_through"'
    assert rows["quantizer[gaussian].kl_weight"][1:] == ["float", ">=", "0", "1e-06"]
    assert "num_latent_tokens" in json.loads(run("info", "titok", "--json"))["config"]["properties"]


@pytest.mark.parametrize("name", list(registry.families()))
def test_every_field_of_every_family_has_a_row(name: str) -> None:
    config = registry.find_family(name).model_class().config_class
    rows = field_rows(config)
    names = [field for field, _, _ in rows]
    assert len(set(names)) == len(names)
    assert set(config.model_fields) <= set(names)
    for field, kind, default in rows:
        assert kind, field
        assert default, field
        assert "typing" not in kind + default, field
        assert "FieldInfo" not in kind + default, field


def test_info_of_a_folder_and_of_a_training_run(bundled: str, tmp_path: Path) -> None:
    folder = tmp_path / bundled
    text = run("info", str(folder))
    for line in (f"folder: {folder}", "license of the weights: apache-2.0", "tokens: 4 from a vocabulary of 32", "  num_latent_tokens: 4"):
        assert line in text
    (folder / "README.md").unlink()
    assert "license" not in run("info", str(folder))

    run_folder = tmp_path / "runs" / "mine"
    (run_folder / "checkpoints" / "step-00000005").mkdir(parents=True)
    (run_folder / "config.json").write_text(json.dumps({"recipe": {"steps": 10}}))
    text = run("info", str(run_folder))
    assert "newest checkpoint: step 5 of 10" in text
    assert "trained model: none yet" in text
    folder.rename(run_folder / "final")
    text = run("info", str(run_folder))
    assert f"trained model: {run_folder / 'final'}" in text
    assert "family: titok" in text
    assert json.loads(run("info", str(run_folder), "--json"))["config"]["num_latent_tokens"] == 4


def test_info_of_what_is_no_model(tmp_path: Path) -> None:
    assert isinstance(refused("info", "titokk"), UnknownNameError)
    (tmp_path / "config.json").write_text(json.dumps({"name": "another library's"}))
    error = refused("info", str(tmp_path))
    assert isinstance(error, ConfigError)
    assert str(tmp_path) in str(error)


def test_a_bundled_model_is_listed_explained_and_loaded(bundled: str) -> None:
    assert run("list", bundled).splitlines()[1].split()[:6] == [bundled, "tokenizer", "image", "4", "32", "16x16"]
    text = run("info", bundled)
    assert "license of the weights: apache-2.0" in text
    assert "tokens: 4 from a vocabulary of 32, 20 bits" in text
    assert "results:\n  PSNR 23.5 dB on 4 photographs (center crop)" in text
    assert bundled in run("info", "titok")
    assert json.loads(run("info", bundled, "--json"))["bits"] == 20
    assert visiontok.from_pretrained(bundled).config == visiontok.create(bundled).config
    assert visiontok.create(bundled, num_latent_tokens=2).config.num_latent_tokens == 2
    with pytest.raises(visiontok.VisiontokError, match="@main"):
        visiontok.from_pretrained(f"{bundled}@main")


def test_every_registered_name_has_a_page() -> None:
    for name in (*registry.checkpoints(), *registry.families(), *registry.bundled()):
        for spelling in (name, name.upper()):
            assert run("info", spelling).startswith(f"name: {name}\n")
