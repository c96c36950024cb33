"""Loading through the real huggingface_hub client from a server that speaks its protocol."""

from __future__ import annotations

import errno
import io
import json
import logging
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tiny_family
import torch
from hub_server import Fault, HubServer, leftovers
from safetensors.torch import save
from tiny_family import TinyTokenizer, reference_state_dict

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError, HubError, UnknownNameError
from visiontok.hub import download, push_folder, save_pretrained


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def authors_files(codes: int = 4) -> dict[str, bytes]:
    return {
        "config.json": json.dumps({"model": {"codes": codes, "width": 99}, "dataset": {"size": 8}}).encode(),
        "model.safetensors": save(reference_state_dict(codes)),
    }


def our_files(folder: Path, **config: object) -> dict[str, bytes]:
    save_pretrained(visiontok.create("tiny", **config), folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestAuthorsLayouts:
    def test_a_released_name_loads_with_the_registrys_configuration_over_the_files(self, hub: HubServer) -> None:
        hub.repo("authors/tiny-4", authors_files())
        model = visiontok.from_pretrained("tiny-4")
        assert isinstance(model, TinyTokenizer)
        assert not model.training
        assert (model.config.codes, model.config.width) == (4, 3)  # codes from the file, width from the registry
        assert torch.equal(model.encoder.weight, torch.ones(3, 3))

    def test_a_registered_repository_id_loads_like_its_name(self, hub: HubServer) -> None:
        hub.repo("authors/tiny-4", authors_files())
        assert visiontok.from_pretrained("authors/tiny-4").config == visiontok.from_pretrained("tiny-4").config

    def test_the_next_weight_file_is_tried_where_the_first_is_missing(self, hub: HubServer) -> None:
        files = authors_files()
        del files["model.safetensors"]
        hub.repo("authors/tiny-4", {**files, "pytorch_model.bin": pickled(reference_state_dict())})
        assert torch.equal(visiontok.from_pretrained("tiny-4").encoder.weight, torch.ones(3, 3))

    def test_the_entry_names_one_of_several_state_dicts(self, hub: HubServer, caplog: pytest.LogCaptureFixture) -> None:
        raw = reference_state_dict()
        averaged = {**raw, "enc.weight": raw["enc.weight"] * 2}
        hub.repo("authors/tiny-many", {"weights.pt": pickled({"step": 7, "model": raw, "ema": averaged})})
        assert visiontok.from_pretrained("tiny-ema").encoder.weight.unique().tolist() == [2]
        with caplog.at_level(logging.INFO):
            assert visiontok.from_pretrained("tiny-raw").encoder.weight.unique().tolist() == [1]
        assert "'model'" in caplog.text

    def test_a_repository_of_several_models_needs_a_name(self, hub: HubServer) -> None:
        with pytest.raises(UnknownNameError, match="tiny-ema, tiny-raw"):
            visiontok.from_pretrained("authors/tiny-many")

    def test_an_unregistered_repository_needs_its_system(self, hub: HubServer) -> None:
        files = authors_files()
        files["config.json"] = json.dumps({"model": {"codes": 4, "width": 3}}).encode()
        hub.repo("me/copy", files)
        with pytest.raises(ConfigError, match=r"system=.*tiny-reference"):
            visiontok.from_pretrained("me/copy")
        assert visiontok.from_pretrained("me/copy", system="tiny-reference").config.codes == 4
        with pytest.raises(UnknownNameError, match="tiny-reference"):
            visiontok.from_pretrained("me/copy", system="tiny-referense")

    def test_a_system_for_what_needs_none_is_refused(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours"))
        for name in ("me/ours", "tiny-4"):
            with pytest.raises(ConfigError, match="tiny-reference"):
                visiontok.from_pretrained(name, system="tiny-reference")

    def test_unmapped_and_missing_tensors_are_listed_with_the_repository(self, hub: HubServer) -> None:
        files = authors_files()
        hub.repo("authors/tiny-4", {**files, "model.safetensors": save({**reference_state_dict(), "surprise": torch.ones(1)})})
        with pytest.raises(CheckpointError, match=r"authors/tiny-4: .*surprise"):
            visiontok.from_pretrained("tiny-4")
        shortened = {name: tensor for name, tensor in reference_state_dict().items() if name != "enc.bias"}
        hub.repo("authors/tiny-4", {**files, "model.safetensors": save(shortened)})
        with pytest.raises(CheckpointError, match=r"encoder\.bias"):
            visiontok.from_pretrained("tiny-4")

    def test_wrong_shapes_are_listed(self, hub: HubServer) -> None:
        hub.repo("authors/tiny-4", {**authors_files(), "model.safetensors": save(reference_state_dict(codes=6))})
        with pytest.raises(CheckpointError, match=r"quantizer\.codebook.*\(6, 1\).*\(4, 1\)"):
            visiontok.from_pretrained("tiny-4")


class TestOurLayout:
    def test_round_trip(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours", codes=7, note="hello"))
        model = visiontok.from_pretrained("me/ours")
        assert (model.config.codes, model.config.note) == (7, "hello")
        assert not model.training

    def test_revisions(self, hub: HubServer, tmp_path: Path) -> None:
        repo = hub.repo("me/ours", our_files(tmp_path / "one", codes=5))
        first = repo.refs["main"]
        repo.refs["v1"] = first
        repo.commit(our_files(tmp_path / "two", codes=6))
        assert visiontok.from_pretrained("me/ours").config.codes == 6
        assert visiontok.from_pretrained("me/ours@v1").config.codes == 5
        assert visiontok.from_pretrained(f"me/ours@{first}").config.codes == 5
        with pytest.raises(HubError, match=r"me/ours.*'v2'"):
            visiontok.from_pretrained("me/ours@v2")

    def test_a_new_commit_between_two_files_is_noticed(self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        repo = hub.repo("me/ours", our_files(tmp_path / "one", codes=5))
        newer = our_files(tmp_path / "two", codes=6)
        real_download = huggingface_hub.hf_hub_download

        def commit_after_the_configuration(repo_id: str, filename: str, **options: object) -> str:
            path = real_download(repo_id, filename, **options)
            if filename == "config.json":
                repo.commit(newer)
            return path

        monkeypatch.setattr("visiontok.hub.download.hf_hub_download", commit_after_the_configuration)
        with pytest.raises(HubError, match="changed"):
            visiontok.from_pretrained("me/ours")

    @pytest.mark.parametrize(
        ("change", "error", "named"),
        [
            ({"family": "teeny"}, UnknownNameError, "'teeny'.*tiny"),
            ({"kind": "generator"}, ConfigError, "'generator'.*tiny is a tokenizer"),
            ({"format": 2, "version": "9.9"}, ConfigError, r"format 2.*visiontok 9\.9"),
            ({"surprise": 1}, ConfigError, "surprise"),
            ({"config": {"codes": 4, "depth": 1}}, ConfigError, "depth"),
            ({"config": {"codes": 0}}, ConfigError, "codes: .*0"),
            ({"config": {"codes": 9}}, CheckpointError, r"quantizer\.codebook.*\(4, 1\).*\(9, 1\)"),
            ({"config": {"codes": 4, "note": "edited"}}, CheckpointError, r"config\.json.*model\.safetensors"),
        ],
    )
    def test_a_wrong_configuration_is_its_own_error(
        self, hub: HubServer, tmp_path: Path, change: dict[str, object], error: type[Exception], named: str
    ) -> None:
        files = our_files(tmp_path / "ours")
        files["config.json"] = json.dumps({**json.loads(files["config.json"]), **change}).encode()
        hub.repo("me/ours", files)
        with pytest.raises(error, match=named):
            visiontok.from_pretrained("me/ours")

    @pytest.mark.parametrize("content", [b"{not json", b"\xff\xfe", b"[1, 2]", b"", b"[" * 100_000])
    def test_a_configuration_that_is_not_json(self, hub: HubServer, tmp_path: Path, content: bytes) -> None:
        hub.repo("me/ours", {**our_files(tmp_path / "ours"), "config.json": content})
        with pytest.raises(ConfigError, match=r"config\.json"):
            visiontok.from_pretrained("me/ours")

    def test_a_damaged_configuration_does_not_stay_in_the_cache(self, hub: HubServer, tmp_path: Path) -> None:
        repo = hub.repo("me/ours", {**our_files(tmp_path / "ours"), "config.json": b'{"format": 1,'})
        with pytest.raises(ConfigError, match=r"config\.json.*removed from the cache.*me/ours"):
            visiontok.from_pretrained("me/ours")
        repo.commits[repo.refs["main"]]["config.json"] = (tmp_path / "ours" / "config.json").read_bytes()
        assert visiontok.from_pretrained("me/ours").config.codes == 4

    @pytest.mark.parametrize("options", [{"device": "gpu"}, {"device": "cuda:99"}, {"dtype": "fp16"}, {"dtype": torch.int8}, {"dtype": 3}])
    def test_a_wrong_device_or_dtype_is_named_with_those_there_are(self, tmp_path: Path, options: dict[str, Any]) -> None:
        our_files(tmp_path / "ours")
        with pytest.raises(ConfigError, match=rf"{next(iter(options.values()))}.*(cpu|bfloat16)"):
            visiontok.from_pretrained(tmp_path / "ours", **options)
        assert visiontok.from_pretrained(tmp_path / "ours", dtype="bfloat16").dtype == torch.bfloat16

    def test_device_and_precision(self, tmp_path: Path) -> None:
        our_files(tmp_path / "ours")
        model = visiontok.from_pretrained(tmp_path / "ours", dtype=torch.bfloat16, device="cpu")
        assert model.dtype == torch.bfloat16


class TestWhatTheHubRefuses:
    def test_a_repository_that_is_not_there(self, hub: HubServer) -> None:
        with pytest.raises(HubError, match=r"me/nothing.*private"):
            visiontok.from_pretrained("me/nothing")

    def test_gated(self, hub: HubServer) -> None:
        hub.repo("me/gated", {}, gated=True)
        with pytest.raises(HubError, match=r"gated.*http://127\.0\.0\.1:\d+/me/gated"):
            visiontok.from_pretrained("me/gated")

    def test_private(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repo("me/private", our_files(tmp_path / "ours"), token="right")
        for token in (None, "wrong"):
            with pytest.raises(HubError, match=r"token.*me/private"):
                visiontok.from_pretrained("me/private", token=token)
        assert visiontok.from_pretrained("me/private", token="right").config.codes == 4

    def test_a_missing_file_is_named(self, hub: HubServer, tmp_path: Path) -> None:
        files = our_files(tmp_path / "ours")
        for name in ("config.json", "model.safetensors"):
            hub.repo(f"me/without-{name[:5]}", {key: value for key, value in files.items() if key != name})
            with pytest.raises(HubError, match=f"me/without-{name[:5]}.*{name}"):
                visiontok.from_pretrained(f"me/without-{name[:5]}")

    def test_all_weight_files_missing(self, hub: HubServer) -> None:
        hub.repo("authors/tiny-4", {"config.json": authors_files()["config.json"]})
        with pytest.raises(HubError, match=r"model\.safetensors, pytorch_model\.bin"):
            visiontok.from_pretrained("tiny-4")

    @pytest.mark.parametrize("status", [403, 500, 503])
    def test_other_answers(self, hub: HubServer, tmp_path: Path, status: int) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours"))
        hub.faults["config.json"] = Fault("status", times=10_000, status=status)
        with pytest.raises(HubError, match=str(status) if status != 403 else "forbidden"):
            visiontok.from_pretrained("me/ours")

    def test_a_mirror_that_does_not_say_what_is_missing(self, hub: HubServer) -> None:
        files = authors_files()
        hub.repo("authors/tiny-4", {**files, "pytorch_model.bin": pickled(reference_state_dict())})
        hub.faults["model.safetensors"] = Fault("status", times=10_000, status=404)
        assert visiontok.from_pretrained("tiny-4").config.codes == 4
        hub.faults["config.json"] = Fault("status", times=10_000, status=404)
        hub.repo("me/other", files)
        with pytest.raises(HubError, match=r"config\.json of me/other"):
            visiontok.from_pretrained("me/other")

    def test_a_name_that_is_no_repository_id(self, hub: HubServer) -> None:
        with pytest.raises(HubError, match="'me/--x--'"):
            visiontok.from_pretrained("me/--x--")


class TestTransfers:
    def test_a_dropped_connection_is_resumed_where_it_broke(self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 64)  # the client keeps whole chunks only
        files = our_files(tmp_path / "ours")
        hub.repo("me/ours", files)
        hub.faults["model.safetensors"] = Fault("drop", times=2)
        assert visiontok.from_pretrained("me/ours", cache_dir=tmp_path / "cache").config.codes == 4
        first, *resumed = hub.downloads("model.safetensors")
        assert first is None
        starts = [int(header.removeprefix("bytes=").removesuffix("-")) for header in resumed if header]
        assert 0 < starts[0] < starts[1] < len(files["model.safetensors"])
        assert next((tmp_path / "cache").rglob("model.safetensors")).read_bytes() == files["model.safetensors"]
        assert not leftovers(tmp_path / "cache")

    def test_a_connection_that_keeps_breaking(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours"))
        hub.faults["model.safetensors"] = Fault("drop", times=10_000)
        with pytest.raises(HubError, match=r"model\.safetensors of me/ours"):
            visiontok.from_pretrained("me/ours", cache_dir=tmp_path / "cache")
        assert not leftovers(tmp_path / "cache")
        hub.faults.clear()
        assert visiontok.from_pretrained("me/ours", cache_dir=tmp_path / "cache").config.codes == 4

    def test_a_file_shorter_than_announced(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours"))
        hub.faults["model.safetensors"] = Fault("short", times=1)
        with pytest.raises(HubError, match=r"model\.safetensors of me/ours"):
            visiontok.from_pretrained("me/ours", cache_dir=tmp_path / "cache")
        assert not leftovers(tmp_path / "cache")
        assert visiontok.from_pretrained("me/ours", cache_dir=tmp_path / "cache").config.codes == 4

    def test_a_truncated_file_that_the_client_cannot_notice_does_not_stay_in_the_cache(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours"))
        hub.faults["model.safetensors"] = Fault("unannounced", times=1)
        with pytest.raises(CheckpointError, match=r"model\.safetensors.*cache"):
            visiontok.from_pretrained("me/ours", cache_dir=tmp_path / "cache")
        assert visiontok.from_pretrained("me/ours", cache_dir=tmp_path / "cache").config.codes == 4


class TestOffline:
    def test_what_is_cached_loads_without_the_hub(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours"))
        visiontok.from_pretrained("me/ours")
        seen = len(hub.requests)
        assert visiontok.from_pretrained("me/ours", local_files_only=True).config.codes == 4
        assert len(hub.requests) == seen

    def test_what_is_cached_loads_when_the_hub_is_down(self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours"))
        visiontok.from_pretrained("me/ours")
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        assert visiontok.from_pretrained("me/ours").config.codes == 4

    def test_not_cached(self, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(HubError, match=r"config\.json of me/ours.*local_files_only"):
            visiontok.from_pretrained("me/ours", local_files_only=True)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(HubError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
            visiontok.from_pretrained("me/ours")

    def test_the_environment_counts_as_it_is_now(self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours"))
        hub.repo("me/other", our_files(tmp_path / "other"))
        visiontok.from_pretrained("me/ours")
        seen = len(hub.requests)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # long after the client was imported
        assert visiontok.from_pretrained("me/ours").config.codes == 4
        with pytest.raises(HubError, match=r"me/other.*HF_HUB_OFFLINE"):
            visiontok.from_pretrained("me/other")
        with pytest.raises(HubError, match=r"me/new.*HF_HUB_OFFLINE"):
            push_folder(tmp_path / "ours", "me/new")
        assert len(hub.requests) == seen

    def test_a_cache_that_cannot_be_written_is_named(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours"))
        (tmp_path / "file").write_text("")
        with pytest.raises(HubError, match=rf"{tmp_path}/file.*HF_HOME"):
            visiontok.from_pretrained("me/ours", cache_dir=tmp_path / "file" / "cache")

    def test_what_is_cached_loads_from_a_cache_that_is_only_read(self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.repo("me/ours", our_files(tmp_path / "ours"))
        visiontok.from_pretrained("me/ours")
        fetch = download.hf_hub_download

        def read_only(*arguments: Any, **options: Any) -> str:
            if not options["local_files_only"]:
                raise PermissionError(errno.EACCES, "Permission denied", "/cache/refs")
            return fetch(*arguments, **options)

        monkeypatch.setattr(download, "hf_hub_download", read_only)
        assert visiontok.from_pretrained("me/ours").config.codes == 4
        with pytest.raises(HubError, match=r"/cache/refs.*HF_HOME"):
            visiontok.from_pretrained("me/other")

    def test_the_cached_one_of_several_weight_files_is_found(self, hub: HubServer) -> None:
        files = authors_files()
        del files["model.safetensors"]
        hub.repo("authors/tiny-4", {**files, "pytorch_model.bin": pickled(reference_state_dict())})
        visiontok.from_pretrained("tiny-4")
        assert visiontok.from_pretrained("tiny-4", local_files_only=True).config.codes == 4


class TestNames:
    def test_close_matches(self) -> None:
        with pytest.raises(UnknownNameError, match="tiny-4"):
            visiontok.from_pretrained("tiny-44")

    def test_a_family_is_not_a_model(self) -> None:
        with pytest.raises(UnknownNameError, match=r"create\('tiny'.*tiny-4"):
            visiontok.from_pretrained("tiny")

    @pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all", Path("nowhere")])
    def test_a_folder_that_is_not_there(self, name: str | Path) -> None:
        with pytest.raises(CheckpointError, match="nowhere"):
            visiontok.from_pretrained(name)

    def test_a_file_instead_of_a_folder(self, tmp_path: Path) -> None:
        our_files(tmp_path / "ours")
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            visiontok.from_pretrained(tmp_path / "ours" / "model.safetensors")

    def test_a_registered_name_goes_before_a_folder(self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        our_files(tmp_path / "tiny-4", codes=9)
        our_files(tmp_path / "runs" / "tiny", codes=8)
        hub.repo("authors/tiny-4", authors_files())
        assert visiontok.from_pretrained("tiny-4").config.codes == 4
        assert visiontok.from_pretrained("./tiny-4").config.codes == 9
        assert visiontok.from_pretrained("runs/tiny").config.codes == 8

    def test_create(self) -> None:
        assert visiontok.create("tiny", codes=6).config.codes == 6
        assert visiontok.create("tiny-ema", note="new").config == tiny_family.TinyConfig(codes=4, width=3, note="new")
        with pytest.raises(ConfigError, match="depth"):
            visiontok.create("tiny", depth=3)
        with pytest.raises(ConfigError, match="'codes'"):
            visiontok.create("tiny-4")  # its registry entry leaves the size to the released file
        with pytest.raises(UnknownNameError, match="tiny-ema"):
            visiontok.create("tiny-em")

    def test_from_reference_resolves_references(self) -> None:
        state_dict = reference_state_dict(codes=4, width=4)
        assert visiontok.from_reference("tiny-reference", tiny_family.REFERENCE_CONFIG, state_dict).config.width == 4
