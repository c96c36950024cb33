"""JSON, YAML, pickles and names from files that somebody else wrote."""

import json
import zipfile

import pytest
import torch

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.file_names import check_name, file_stem
from visiontok.base.json_text import parse_json, read_json
from visiontok.base.markdown import code, escaped
from visiontok.base.torch_files import MAX_DEPTH, check_nesting, read_torch, write_torch
from visiontok.base.yaml_files import read_yaml
from visiontok.base.yaml_text import parse_yaml
from visiontok.evaluation import GenerationSuite, Suite


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[" * 100_000, "file.json"),
        ("[" * 80 + "]" * 80, "64 levels"),
        ("1" * 5000, "file.json"),
        ('{"a": [1, %s]}' % ("1" * 50), r"a\[1\]"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c'"),
        ('{"a": "\\ud800"}', "a is a text"),
        ("{", "file.json"),
        (b"\xff\xfe\xff", "file.json"),
    ],
)
def test_json_that_cannot_be_used_is_refused_by_name(text, found):
    with pytest.raises(ConfigError, match=found):
        parse_json(text, source="file.json")


def test_json_from_what_is_no_file(tmp_path):
    class Some(Config):
        a: int

    for path in ("/dev/zero", tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match=str(path)):
            read_json(path)
    (tmp_path / "a.json").write_text(json.dumps({"a": 3}))
    assert Some.load(tmp_path / "a.json").a == 3


def test_yaml_has_the_values_of_json_with_numbers_and_dates_as_people_mean_them():
    text = "{a: 1e-4, b: -3, c: .5, d: 1_000, e: no, f: true, g: , h: 2024-01-01, i: '010', j: [~]}"
    expected = {"a": 1e-4, "b": -3, "c": 0.5, "d": 1000, "e": "no", "f": True, "g": None, "h": "2024-01-01", "i": "010", "j": [None]}
    assert parse_yaml(text, source="f") == expected
    assert parse_yaml("a: &x {k: 1}\nb: {<<: *x, z: 2}", source="f") == {"a": {"k": 1}, "b": {"k": 1, "z": 2}}


LETTERS = zip("abcdefghi", "bcdefghij", strict=True)
BOMB = "a: &a [x, x]\n" + "".join(f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in LETTERS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 010", "010"),
        ("a: 1:30", "1:30"),
        ("a: 0x1f", "0x1f"),
        ("a: .nan", ".nan"),
        ("a: -.inf", "-.inf"),
        ("a: 1\na: 2", "line 2.*'a'"),
        ("a: " + "9" * 5000, "f.yaml"),
        ("a: " + "9" * 40, "a is an integer"),
        (BOMB, "100000"),
        ("a: &a [*a]", "holds itself"),
        ("[" * 100_000, "f.yaml"),
        ("{a: " * 3000, "f.yaml"),
        ("a: !!binary aGk=", "binary"),
        ("a: !!set {x}", "set"),
        ("a: !!python/name:os.system", "os.system"),
        ("? [1, 2]\n: 3", "key"),
        ("a: !!int b", "f.yaml"),
        ("<<: 5", "f.yaml"),
        ("a: \0", "f.yaml"),
        ("#" * 600_000, "600000"),
    ],
)
def test_yaml_that_cannot_be_used_is_refused_by_name(text, found):
    with pytest.raises(ConfigError, match=found):
        parse_yaml(text, source="f.yaml")


@pytest.mark.parametrize("text", ["${oc.env:SECRET}", "x ${oc.env:SECRET,none}", "${oc.decode:'1'}", "${oc.create:{}}", "${oc.select:b}", "${"])
def test_a_recipe_reads_nothing_outside_of_itself(tmp_path, monkeypatch, text):
    monkeypatch.setenv("SECRET", "hunter2")
    path = tmp_path / "recipe.yaml"
    path.write_text(f'a: "{text}"')
    with pytest.raises(ConfigError, match=r"recipe\.yaml") as caught:
        read_yaml(path, what="recipe")
    assert "hunter2" not in str(caught.value)
    path.write_text("a: 1")
    with pytest.raises(ConfigError, match=r"recipe\.yaml"):
        read_yaml(path, [f"b={text}"], what="recipe")


def test_references_within_a_recipe_follow_its_overrides(tmp_path):
    (tmp_path / "r.yaml").write_text("model: {dim: 3}\nhead: ${model.dim}\nname: d${head}\nlist: [{x: 1}]")
    values = read_yaml(tmp_path / "r.yaml", ["model.dim=7", "list.0.x=2"], what="recipe")
    assert values == {"model": {"dim": 7}, "head": 7, "name": "d7", "list": [{"x": 2}]}


def deep(kind, depth=1_000_000):
    nested = b")" + b"\x85" * depth
    return b"\x80\x02" + {"tuples": nested, "key": b"}" + nested + b"K\x01s", "lists": b"]" * depth + b"a" * (depth - 1)}[kind] + b"."


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("kind", ["tuples", "key", "lists"])
def test_a_pickle_nested_a_million_deep_does_not_end_the_process(tmp_path, kind, archive):
    path = tmp_path / "deep.pt"
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", deep(kind, 100_000))
    else:
        path.write_bytes(deep(kind, 100_000))
    with pytest.raises(ValueError, match=str(MAX_DEPTH)):
        read_torch(path)


def test_what_torch_saves_is_read_in_both_formats(tmp_path):
    value = {"a": [torch.arange(3), {(1, 2): "x"}], **{f"{number}": torch.zeros(2) for number in range(1100)}}
    write_torch(tmp_path / "new.pt", value)
    torch.save(value, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("new.pt", "old.pt"):
        check_nesting(tmp_path / name)
        found = read_torch(tmp_path / name)
        assert torch.equal(found["a"][0], torch.arange(3))
        assert (found["a"][1], len(found)) == ({(1, 2): "x"}, 1101)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "a\\b", "a\nb", "a\x1b[31mb", "..", ".x", "", " ", "a:b", "x" * 101, "a\u202eb"])
def test_a_name_is_no_path_and_holds_no_control_characters(name):
    with pytest.raises(ValueError, match="name"):
        check_name(name)
    with pytest.raises(ConfigError, match="name"):
        Suite.parse({"name": name, "data": {"name": "digits", "split": "test"}, "metrics": ["psnr"]})
    with pytest.raises(ConfigError, match="name"):
        GenerationSuite.parse({"name": name, "size": 8, "extractors": ["downsampled-pixels"], "reference": {"name": "digits"}})
    stem = file_stem(name)
    assert not stem or check_name(stem) == stem


def test_names_open_nothing_on_a_page():
    assert escaped("a | b\n\n# c") == "a \\| b # c"
    assert escaped("[x](http://y) <script> ![z](q) FD[digits]") == "[x\\](http://y) \\<script> \\![z\\](q) FD[digits]"
    assert escaped("a\x1b[31m") == "a\ufffd[31m"
    assert code("a`b|c") == "``a`b\\|c``"
    assert code("plain") == "`plain`"
