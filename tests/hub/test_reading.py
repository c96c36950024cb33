"""Weights and configurations that somebody else wrote."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import struct
import sys
import types
from pathlib import Path, PosixPath

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.base.interpolation import resolve
from visiontok.hub.reading import check_whole, read_config, read_weights

WHOLE = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.int64)})


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


class TestSafetensors:
    def test_whole(self, tmp_path: Path) -> None:
        path = written(tmp_path, "w.safetensors", WHOLE)
        check_whole(path)
        assert read_weights(path).tensors["a"].tolist() == [[0, 1, 2], [3, 4, 5]]

    @pytest.mark.parametrize("length", [*range(0, len(WHOLE), 7), len(WHOLE) - 1])
    def test_truncated_anywhere(self, tmp_path: Path, length: int) -> None:
        path = written(tmp_path, "w.safetensors", WHOLE[:length])
        for read in (check_whole, read_weights):
            with pytest.raises(CheckpointError, match=rf"w\.safetensors \({length} bytes\)"):
                read(path)

    @pytest.mark.parametrize(
        "content",
        [
            WHOLE + b"\0",
            struct.pack("<Q", 1 << 60) + WHOLE[8:],
            struct.pack("<Q", 10) + b"not a json" + WHOLE[18:],
            b"<html>the proxy's login page</html>",
        ],
    )
    def test_corrupt(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(CheckpointError, match=r"w\.safetensors"):
            check_whole(written(tmp_path, "w.safetensors", content))


class TestPickles:
    def test_plain(self, tmp_path: Path) -> None:
        for suffix in (".bin", ".pt", ".pth", ".ckpt", ".th"):
            assert list(read_weights(written(tmp_path, f"w{suffix}", pickled({"a": torch.ones(2)}))).tensors) == ["a"]

    def test_code_is_never_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.system, (f"touch {tmp_path / 'ran'}",)

        with pytest.raises(CheckpointError, match="system"):
            read_weights(written(tmp_path, "w.pt", pickled({"a": torch.ones(2), "b": Evil()})))
        assert not (tmp_path / "ran").exists()

    def test_other_objects_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"pathlib\.\S*PosixPath"):
            read_weights(written(tmp_path, "w.pt", pickled({"model": {"a": torch.ones(2)}, "args": argparse.Namespace(data=PosixPath("x"))})))

    def test_a_training_checkpoint(self, tmp_path: Path) -> None:
        layer = torch.nn.Linear(2, 1)
        optimizer = torch.optim.AdamW(layer.parameters())
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        arguments = argparse.Namespace(lr=1e-4, betas=[0.9, 0.95], results_dir="results", nested=argparse.Namespace(resume=None))
        checkpoint = {"model": layer.state_dict(), "optimizer": optimizer.state_dict(), "steps": 7, "args": arguments}
        assert list(read_weights(written(tmp_path, "w.pt", pickled(checkpoint)), key="model").tensors) == ["weight", "bias"]

    @pytest.mark.parametrize("key", ["ema", "model"])
    def test_arguments_of_yaml_types_stay_inert(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
        """A list and a number that remember how they were written, as ruamel.yaml makes them; torch reads no subclass of list."""
        module = types.ModuleType("ruamel.yaml.comments")
        module.CommentedSeq = type("CommentedSeq", (list,), {"__module__": module.__name__})
        module.ScalarFloat = type("ScalarFloat", (float,), {"__module__": module.__name__})
        for name in ("ruamel", "ruamel.yaml"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        sizes, rate = module.CommentedSeq([1, 2]), module.ScalarFloat(1e-4)
        sizes.line, rate.width = 3, 4
        layer = torch.nn.Linear(3, 2).to(torch.bfloat16)
        average = {name: value.detach().float().t() for name, value in layer.state_dict().items()}
        average["rows"] = torch.arange(12.0).view(3, 4)[1:, ::2]
        average["none"] = torch.empty(0, 3)
        arguments = argparse.Namespace(v_patch_nums=sizes, lr=rate)
        checkpoint = {"args": arguments, "model": dict(layer.named_parameters()), "ema": average, "steps": 7}
        path = written(tmp_path, "w.pt", pickled(checkpoint))
        monkeypatch.delitem(sys.modules, module.__name__)
        read = read_weights(path, key=key).tensors
        assert list(read) == list(checkpoint[key])
        for name, value in checkpoint[key].items():
            assert read[name].dtype == value.dtype
            assert torch.equal(read[name], value)

    def test_yaml_types_do_not_let_code_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.system, (f"touch {tmp_path / 'ran'}",)

        module = types.ModuleType("ruamel.yaml.comments")
        module.CommentedSeq = type("CommentedSeq", (list,), {"__module__": module.__name__})
        for name in ("ruamel", "ruamel.yaml"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        content = pickled({"args": module.CommentedSeq([Evil()]), "model": {"a": torch.ones(2)}})
        with pytest.raises(CheckpointError, match=r"\w+\.system"):
            read_weights(written(tmp_path, "w.pt", content), key="model")
        assert not (tmp_path / "ran").exists()
        beyond = content.replace(b"\x4b\x00\x4b\x02\x85", b"\x4b\x09\x4b\x02\x85").replace(b"posix\nsystem", b"ruamel.yaml.\nx")
        with pytest.raises(CheckpointError, match=r"w\.pt"):
            read_weights(written(tmp_path, "w.pt", beyond), key="model")

    def test_arguments_do_not_smuggle_code(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str, ...]]:
                return setattr, (argparse.Namespace(), "__class__", str(tmp_path))

        for arguments in (argparse.Namespace(lr=Evil()), {"lr": Evil()}):
            with pytest.raises(CheckpointError, match="setattr"):
                read_weights(written(tmp_path, "w.pt", pickled({"model": {"a": torch.ones(2)}, "args": arguments})), key="model")

    def test_wrapped_state_dicts(self, tmp_path: Path) -> None:
        one, two = {"a": torch.ones(1)}, {"a": torch.zeros(1)}
        path = written(tmp_path, "w.pt", pickled({"epoch": 3, "ema": one, "model": two}))
        assert read_weights(path).tensors["a"].item() == 0
        assert read_weights(path, key="ema").tensors["a"].item() == 1
        with pytest.raises(CheckpointError, match=r"'state_dict'.*epoch, ema, model"):
            read_weights(path, key="state_dict")
        with pytest.raises(CheckpointError, match="'epoch'"):
            read_weights(path, key="epoch")

    @pytest.mark.parametrize(("value", "message"), [([1, 2], "list"), ({"a": torch.ones(1), "b": 3}, r"\bb\b"), (torch.ones(2), "Tensor")])
    def test_no_state_dict(self, tmp_path: Path, value: object, message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            read_weights(written(tmp_path, "w.pt", pickled(value)))

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_damage_is_always_a_checkpoint_error(self, tmp_path: Path, data: st.DataObject) -> None:
        whole = bytearray(pickled({"a": torch.ones(3)}))
        if data.draw(st.booleans()):
            del whole[data.draw(st.integers(0, len(whole) - 1)) :]
        for position, byte in data.draw(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8)):
            if position < len(whole):
                whole[position] = byte
        try:
            state_dict = read_weights(written(tmp_path, "w.pt", bytes(whole))).tensors
        except CheckpointError:
            return
        assert all(isinstance(value, torch.Tensor) for value in state_dict.values())

    def test_unknown_kind(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"w\.npz"):
            read_weights(written(tmp_path, "w.npz", b""))


class TestConfigurations:
    def test_json_and_yaml(self, tmp_path: Path) -> None:
        assert read_config(written(tmp_path, "c.json", b'{"a": {"b": 1}}')) == {"a": {"b": 1}}
        assert read_config(written(tmp_path, "c.yaml", b"a:\n  b: 1\n")) == {"a": {"b": 1}}
        with pytest.raises(ConfigError, match=r"c\.yaml"):
            read_config(written(tmp_path, "c.yaml", b"a: !!python/object/apply:os.system ['true']"))


class TestReferences:
    def test_they_are_replaced_by_the_values_that_they_name(self) -> None:
        config = {
            "model": {"vq": {"tokens": 32}, "sizes": [1, 2]},
            "length": "${model.vq.tokens}",
            "text": "${model.sizes.1} of ${length}",
            "whole": "${model.vq}",
            "plain": "$5 {x}",
        }
        resolved = resolve(config)
        assert resolved["length"] == 32
        assert resolved["text"] == "2 of 32"
        assert resolved["whole"] == {"tokens": 32}
        assert resolved["plain"] == "$5 {x}"
        assert config["length"] == "${model.vq.tokens}"

    @pytest.mark.parametrize("text", ["${oc.env:HOME}", "${now:%Y}", "${.sibling}", "${}", "${a[0]}", "${eval:1+1}", "x ${oc.env:HOME}"])
    def test_nothing_else_is_resolved(self, text: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(text[text.index("$") :])):
            resolve({"a": text, "sibling": 1})

    def test_references_to_nothing_in_circles_and_within_references(self) -> None:
        with pytest.raises(ConfigError, match="'c'"):
            resolve({"a": {"b": 1}, "d": "${a.c}"})
        with pytest.raises(ConfigError, match="b -> a -> b"):
            resolve({"a": "${b}", "b": "${a}"})
        with pytest.raises(ConfigError, match=r"b\$\{c\}"):
            resolve({"a": "${b${c}}", "c": "d", "bd": 1})

    def test_a_small_file_cannot_become_a_large_one(self) -> None:
        words = {"a0": "x" * 100} | {f"a{i}": f"${{a{i - 1}}}" * 10 for i in range(1, 12)}
        nodes = {"a0": [1]} | {f"a{i}": [f"${{a{i - 1}}}"] * 10 for i in range(1, 12)}
        chain = {"a0": 1} | {f"a{i}": f"${{a{i - 1}}}" for i in range(1, 3000)}
        for config in (words, nodes, dict(reversed(chain.items()))):
            with pytest.raises(ConfigError, match=r"grows beyond|more than|too deeply"):
                resolve(config)

    @settings(max_examples=50, deadline=None)
    @given(st.recursive(st.integers() | st.text(alphabet="ab$ {}", max_size=8), lambda inner: st.lists(inner, max_size=3), max_leaves=8))
    def test_configurations_without_references_stay_as_they_are(self, value: object) -> None:
        if "${" not in json.dumps(value):
            assert resolve({"value": value}) == {"value": value}
