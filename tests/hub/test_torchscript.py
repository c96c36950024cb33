"""TorchScript archives: tensors under the names of their state dict, and no code of the file ever run."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_family import TinyTokenizer, reference_state_dict
from torch import Tensor, nn

import visiontok
from visiontok.base.errors import CheckpointError
from visiontok.hub.reading import read_weights

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")


class Block(nn.Module):
    """Parameters, buffers of both kinds, and attributes that are no tensors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.register_buffer("steps", torch.arange(5))
        self.register_buffer("mask", torch.ones(width, dtype=torch.bool).view(1, -1).expand(3, -1), persistent=False)
        self.label, self.scale, self.counts, self.nothing = "a block", 0.5, [1, 2], None

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.scale + self.steps.sum() + self.mask[0]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(3), Block(3)])
        self.blocks[1].linear.weight = self.blocks[0].linear.weight  # one parameter in two modules
        self.again = self.blocks[0]  # one module in two places
        self.norm = nn.BatchNorm1d(3)
        self.low = nn.Parameter(torch.arange(4.0, dtype=torch.bfloat16))
        self.table = nn.Parameter(torch.arange(12.0).view(3, 4).t()[1:])  # a view: strides and an offset
        storage = torch.arange(8.0)
        self.register_buffer("head", storage[:4])
        self.register_buffer("tail", storage[4:].view(2, 2))
        self.register_buffer("empty", torch.empty(0, 3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(self.again(x)) + self.low.sum() + self.table.sum() + self.head.sum() + self.tail.sum() + self.empty.sum()


def scripted(model: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(model), buffer)
    return buffer.getvalue()


def traced(model: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, torch.ones(2, 3)), buffer)
    return buffer.getvalue()


def written(folder: Path, content: bytes, name: str = "w.jit") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def with_record(archive: bytes, name: str, content: bytes | None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with one record replaced, or without it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(buffer, "w") as target:
        for entry in source.infolist():
            if entry.filename != name:
                target.writestr(entry, source.read(entry))
        if content is not None:
            target.writestr(name, content, compress_type=compression)
    return buffer.getvalue()


def data_of(archive: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return next(name for name in file.namelist() if name.endswith("/data.pkl"))


@pytest.mark.parametrize("suffix", [".jit", ".pt", ".ts"])
@pytest.mark.parametrize("compiled", [scripted, traced])
def test_tensors_are_those_of_the_state_dict(tmp_path: Path, compiled: Callable[[nn.Module], bytes], suffix: str) -> None:
    torch.manual_seed(0)
    content = compiled(Network().eval())
    expected = torch.jit.load(io.BytesIO(content)).state_dict()
    read = read_weights(written(tmp_path, content, f"w{suffix}")).tensors
    assert set(read) == set(expected)
    for name, tensor in expected.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name


def test_tensors_that_shared_their_numbers_still_do(tmp_path: Path) -> None:
    read = read_weights(written(tmp_path, scripted(Network()))).tensors
    assert read["blocks.0.linear.weight"].data_ptr() == read["blocks.1.linear.weight"].data_ptr()
    assert read["head"].untyped_storage().data_ptr() == read["tail"].untyped_storage().data_ptr()


class TestInPlaceOfAStateDict:
    class Reference(nn.Module):
        """Modules named as the authors of the tiny family name them."""

        def __init__(self) -> None:
            super().__init__()
            self.enc = nn.Linear(3, 3)
            self.codebook = nn.Parameter(reference_state_dict()["codebook"])
            self.register_buffer("steps", torch.zeros(1), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.enc(x) + self.codebook.sum() + self.steps

    def test_a_repository_whose_weights_are_an_archive(self, hub: HubServer) -> None:
        theirs = self.Reference()
        config = json.dumps({"model": {"codes": 4, "width": 3}}).encode()
        hub.repo("me/archive", {"config.json": config, "pytorch_model.bin": scripted(theirs)})
        model = visiontok.from_pretrained("me/archive", system="tiny-reference")
        assert isinstance(model, TinyTokenizer)
        assert torch.equal(model.encoder.weight, theirs.enc.weight)


class TestRefused:
    def test_code_is_never_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                import os

                return os.system, (f"touch {tmp_path / 'ran'}",)

        archive = scripted(Network())
        evil = pickle.dumps({"a": Evil()}, protocol=2)
        with pytest.raises(CheckpointError, match="system"):
            read_weights(written(tmp_path, with_record(archive, data_of(archive), evil)))
        compromised = with_record(archive, data_of(archive).replace("data.pkl", "constants.pkl"), evil)
        assert read_weights(written(tmp_path, compromised)).tensors  # constants are not opened at all
        assert not (tmp_path / "ran").exists()

    def test_frozen_weights_have_no_names(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.freeze(torch.jit.script(nn.Linear(3, 3).eval())), buffer)
        with pytest.raises(CheckpointError, match="frozen"):
            read_weights(written(tmp_path, buffer.getvalue()))

    @pytest.mark.parametrize(
        ("pickled", "named"),
        [
            (b"\x80\x02c__torch__.torch.classes.quantized\nLinearPackedParamsBase\n)\x81.", "LinearPackedParamsBase"),
            (b"\x80\x02c__torch__\nM\n)\x81(K\x01K\x02tb.", "__torch__.M"),
            (b"\x80\x02c__torch__\nM\n)\x81.", "__torch__.M"),
            (b"\x80\x02}.", "dict"),
            (b"\x80\x02c__torch__\nM\n(K\x01t\x81.", "__torch__.M"),
        ],
    )
    def test_objects_that_are_no_modules(self, tmp_path: Path, pickled: bytes, named: str) -> None:
        archive = scripted(nn.Linear(1, 1))
        with pytest.raises(CheckpointError, match=named):
            read_weights(written(tmp_path, with_record(archive, data_of(archive), pickled)))

    def test_modules_within_themselves(self, tmp_path: Path) -> None:
        archive = scripted(nn.Linear(1, 1))
        circle = b"\x80\x02c__torch__\nM\n)\x81q\x00}X\x01\x00\x00\x00mh\x00sb."
        with pytest.raises(CheckpointError, match="contain themselves"):
            read_weights(written(tmp_path, with_record(archive, data_of(archive), circle)))

    def test_an_archive_of_the_old_format(self, tmp_path: Path) -> None:
        archive = scripted(nn.Linear(1, 1))
        with pytest.raises(CheckpointError, match="before"):
            read_weights(written(tmp_path, with_record(archive, data_of(archive), None)))

    def test_compressed_and_big_endian_tensors(self, tmp_path: Path) -> None:
        archive = scripted(nn.Linear(1, 1))
        root = data_of(archive).removesuffix("data.pkl")
        for broken in (
            with_record(archive, f"{root}data/0", b"\0" * 4, zipfile.ZIP_DEFLATED),
            with_record(archive, f"{root}byteorder", b"big"),
            with_record(archive, f"{root}data/0", b"\0"),
        ):
            with pytest.raises(CheckpointError, match="truncated or corrupt"):
                read_weights(written(tmp_path, broken))

    def test_a_small_file_cannot_become_a_large_tensor(self, tmp_path: Path) -> None:
        archive = scripted(nn.Linear(1, 1))
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            data = file.read(data_of(archive))
        size, stride = b"(K\x01K\x01t", b"(K\x01K\x01t"
        assert data.count(size + stride) == 1
        huge = data.replace(size + stride, b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft" + b"(K\x00K\x00t")
        with pytest.raises(CheckpointError, match="truncated or corrupt"):
            read_weights(written(tmp_path, with_record(archive, data_of(archive), huge)))

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_damage_is_always_a_checkpoint_error(self, tmp_path: Path, data: st.DataObject) -> None:
        archive = scripted(nn.Linear(2, 2))
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            pickled = bytearray(file.read(data_of(archive)))
        for position, byte in data.draw(st.lists(st.tuples(st.integers(0, len(pickled) - 1), st.integers(0, 255)), min_size=1, max_size=4)):
            pickled[position] = byte
        try:
            read = read_weights(written(tmp_path, with_record(archive, data_of(archive), bytes(pickled))))
        except CheckpointError:
            return
        assert all(isinstance(tensor, Tensor) for tensor in read.tensors.values())
