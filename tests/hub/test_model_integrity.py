"""What is written can be read, what was damaged is not read, and sizes in a configuration are not believed before the weights."""

from __future__ import annotations

import json
import random
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import load_file, save_file
from small_models import SMALL
from torch import nn

import visiontok
from visiontok import registry
from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.hub import push_folder, save_pretrained


@pytest.fixture
def tiny() -> None:
    """The real registry in place of the tiny one."""


def small(family: str = "titok") -> Any:
    torch.manual_seed(0)
    return visiontok.create(family, **SMALL[family]).eval()


def edit(folder: Path, **config: Any) -> None:
    path = folder / "config.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "config": {**saved["config"], **config}}))


class TestDamage:
    def test_any_flipped_bit_of_the_weights_is_an_error_that_names_the_file(self, tmp_path: Path) -> None:
        folder, draw = save_pretrained(small("mqt"), tmp_path / "model"), random.Random(0)
        path = folder / "model.safetensors"
        whole = path.read_bytes()
        for _ in range(40):
            damaged = bytearray(whole)
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            with pytest.raises((CheckpointError, ConfigError), match=r"model\.safetensors"):
                visiontok.from_pretrained(folder)
        path.write_bytes(whole)
        assert visiontok.from_pretrained(folder)

    def test_checksums_can_be_omitted_and_a_push_needs_them(self, tmp_path: Path) -> None:
        folder = save_pretrained(small("mqt"), tmp_path / "model")
        data = bytearray((folder / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "model.safetensors").write_bytes(data)
        assert visiontok.from_pretrained(folder, verify_checksums=False)
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            push_folder(folder, "me/model")

    def test_a_damaged_download_is_removed_from_the_cache(self, hub: HubServer, tmp_path: Path) -> None:
        folder = save_pretrained(small("mqt"), tmp_path / "model")
        hub.repo("me/model", {path.name: path.read_bytes() for path in folder.iterdir()})
        visiontok.from_pretrained("me/model")
        (cached,) = (tmp_path / "cache").glob("**/snapshots/*/model.safetensors")
        data = bytearray(cached.read_bytes())
        data[-1] ^= 1
        cached.resolve().write_bytes(data)
        with pytest.raises(CheckpointError, match=r"model\.safetensors.*removed from the cache"):
            visiontok.from_pretrained("me/model")
        assert visiontok.from_pretrained("me/model")

    def test_bundled_models_have_checksums(self) -> None:
        for name, model in registry.bundled().items():
            saved = json.loads((model.folder / "config.json").read_text())
            assert set(saved["checksums"]) == {"model.safetensors"}, name

    @pytest.mark.parametrize("dtype", [torch.int32, torch.float8_e4m3fn, torch.complex64, torch.bool], ids=str)
    def test_weights_of_another_kind_of_dtype(self, tmp_path: Path, dtype: torch.dtype) -> None:
        tensors = small("mqt").state_dict()
        folder = save_pretrained(small("mqt"), tmp_path / "model")
        name = next(iter(tensors))
        save_file({**tensors, name: tensors[name].to(dtype)}, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=f"{name}.*{dtype}"):
            visiontok.from_pretrained(folder, verify_checksums=False)

    def test_a_pickle_that_repeats_its_values_endlessly(self, tmp_path: Path) -> None:
        torch.save({"weight": torch.ones(1).expand(2**40)}, tmp_path / "pytorch_model.bin")
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(CheckpointError, match=str(2**42)):
            visiontok.from_pretrained(tmp_path, system="titok")


class TestSizes:
    """In a process with little memory and time."""

    @pytest.mark.parametrize(
        ("family", "change"),
        [
            ("titok", {"num_latent_tokens": 10**12}),
            ("titok", {"encoder": {"dim": 2**40, "depth": 1, "num_heads": 2, "patch_size": 8}}),
            ("titok", {"encoder": {"dim": 32, "depth": 10**9, "num_heads": 2, "patch_size": 8}}),
            ("titok", {"image_size": 8 * 10**9}),
            ("titok", {"quantizer": {"type": "vq", "codebook_size": 2**60, "dim": 4}}),
            ("titok", {"quantizer": {"type": "binary", "dim": 10**9}}),
            ("gpt", {"depth": 10**12}),
            ("gpt", {"layout": {"modality": "image", "segments": [{"name": "x", "shape": [10**15], "vocab_size": 11}], "signal_shape": [8, 8]}}),
            ("flextok", {"num_registers": 10**7}),
            ("conv-grid", {"quantizer": {"type": "fsq", "levels": [10**30] * 500}}),
        ],
    )
    def test_huge_numbers_are_errors_at_once(self, tmp_path: Path, family: str, change: dict[str, Any]) -> None:
        folder = save_pretrained(small(family), tmp_path / "model")
        edit(folder, **change)
        _limited(lambda: visiontok.from_pretrained(folder), (ConfigError, CheckpointError))
        _limited(lambda: visiontok.create(family, **{**SMALL[family], **change}), (ConfigError,))


def _limited(call: Any, errors: tuple[type[Exception], ...]) -> None:
    """Expect one of the errors within 4 GiB more of address space than now."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**32, before[1]))
    try:
        with pytest.raises(errors):
            call()
        assert torch.is_grad_enabled()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class TestWhatIsWrittenCanBeRead:
    @pytest.mark.parametrize("family", ["titok", "gpt", "maskgit"])
    def test_half_precision(self, tmp_path: Path, family: str) -> None:
        model = small(family).to(torch.bfloat16)
        loaded = visiontok.from_pretrained(save_pretrained(model, tmp_path / "model"), dtype=torch.bfloat16)
        expected = model.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items() if tensor.dtype == torch.bfloat16)

    @pytest.mark.parametrize("family", ["titok", "gpt", "maskgit"])
    def test_compiled(self, tmp_path: Path, family: str) -> None:
        model = small(family)
        expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        name, part = next((name, part) for name, part in model.named_children() if any(True for _ in part.parameters()))
        setattr(model, name, torch.compile(part))
        loaded = visiontok.from_pretrained(save_pretrained(model, tmp_path / "model"))
        assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())

    def test_tied_weights(self, tmp_path: Path) -> None:
        model = small("gpt")
        first, second = [part for part in model.modules() if isinstance(part, nn.Linear)][:2]
        first.bias = second.bias = None
        same = [part for part in model.modules() if isinstance(part, nn.Linear) and part.weight.shape == first.weight.shape]
        for part in same:
            part.weight = first.weight
        loaded = visiontok.from_pretrained(save_pretrained(model, tmp_path / "model"))
        assert torch.equal(loaded.state_dict()[_name(model, same[-1])], first.weight)

    @pytest.mark.parametrize("change", ["old weight norm", "parametrized", "fp8", "integers", "meta", "replaced", "added", "quantized"])
    def test_a_model_that_could_not_be_loaded_is_not_written(self, tmp_path: Path, change: str) -> None:
        for family in ("titok", "gpt"):
            model = small(family)
            name, linear = next((name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear))
            if change == "old weight norm":
                with pytest.warns(FutureWarning):
                    nn.utils.weight_norm(linear)
            elif change == "parametrized":
                nn.utils.parametrizations.orthogonal(linear)
            elif change in ("fp8", "integers"):
                linear.weight = nn.Parameter(linear.weight.detach().to(torch.float8_e4m3fn if change == "fp8" else torch.int8), requires_grad=False)
            elif change == "meta":
                linear.to_empty(device="meta")
            elif change == "replaced":
                linear.weight = nn.Parameter(torch.zeros(3, 3))
            elif change == "added":
                linear.adapter = nn.Linear(2, 2)
            else:
                linear.weight = nn.Parameter(linear.weight.detach().to_sparse())
            with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
                save_pretrained(model, tmp_path / family)
            assert not (tmp_path / family).exists()

    def test_the_checksum_is_that_of_the_file(self, tmp_path: Path) -> None:
        folder = save_pretrained(small(), tmp_path / "model")
        sums = subprocess.run(["sha256sum", str(folder / "model.safetensors")], capture_output=True, text=True, check=True).stdout
        assert json.loads((folder / "config.json").read_text())["checksums"] == {"model.safetensors": sums.split()[0]}
        assert load_file(folder / "model.safetensors")


def _name(model: nn.Module, part: nn.Module) -> str:
    return next(f"{name}.weight" for name, module in model.named_modules() if module is part)
