"""Equal names, lost members and damaged labels: each is a sample of its own or a skip with a reason, and the rest is read."""

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_images import encoded, image

from visiontok.base.errors import DataError, VisiontokError
from visiontok.data import EvalLoader, Source, open_source
from visiontok.data.folder import FolderConfig
from visiontok.signals import ImagePreprocessing

_LARGEST = 2**63 - 1


def write_tar(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """A shard of files, given as bytes, and hard links, given as the name that they lead to; names may repeat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.LNKTYPE, data
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def keys(source: Source) -> list[str]:
    return [source.key(index) for index in range(len(source))]


def labels(source: Source) -> list[int | None]:
    return [source.read(index).label for index in range(len(source))]


def read_all(source: Source) -> tuple[list[str], EvalLoader]:
    loader = EvalLoader(source, preprocessing=ImagePreprocessing(size=8), batch_size=4)
    return [key for batch in loader for key in batch.keys], loader


def set_size(shard: Path, position: int, size: int) -> None:
    """Change the size in the header of a member, in the base-256 form of GNU tar, which also holds negative and huge numbers."""
    with tarfile.open(shard) as archive:
        offset = archive.getmembers()[position].offset
    data = bytearray(shard.read_bytes())
    field = (b"\xff" if size < 0 else b"\x80") + (size % 2**88).to_bytes(11, "big")
    data[offset + 124 : offset + 136] = field
    data[offset + 148 : offset + 156] = b" " * 8
    data[offset + 148 : offset + 156] = b"%06o\0 " % sum(data[offset : offset + 512])
    shard.write_bytes(data)


# --- equal names ---------------------------------------------------------------------------------------------------------------------------------


def test_shards_of_one_name_in_two_folders_have_keys_of_their_own(tmp_path: Path) -> None:
    for folder in "ab":
        write_tar(tmp_path / folder / "000.tar", ("x.png", encoded(0)), ("bad.png", b"junk"), ("alone.txt", b"?"))
    write_tar(tmp_path / "b" / "001.tar", ("x.png", encoded(0)))
    source = open_source(f"webdataset:{tmp_path}/*/*.tar")
    assert keys(source) == ["a/000/x", "a/000/bad", "b/000/x", "b/000/bad", "001/x"]
    assert source.read(2).key == "b/000/x"
    used, loader = read_all(source)
    assert used == ["a/000/x", "b/000/x", "001/x"]
    assert len(loader.report) == 4
    assert {skip.key for skip in loader.report.kept} == {"a/000/bad", "b/000/bad", "a/000/alone", "b/000/alone"}


def test_damaged_shards_of_one_name_count_one_by_one(tmp_path: Path) -> None:
    write_tar(tmp_path / "a" / "0.tar", ("x.png", encoded(0)))
    for folder in "bc":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.tar").write_bytes(b"junk" * 200)
    source = open_source(f"webdataset:{tmp_path}/*/0.tar")
    assert [skip.key for skip in source.skipped] == ["b/0.tar", "c/0.tar"]
    assert len(read_all(source)[1].report) == 2


def test_keys_do_not_depend_on_where_the_shards_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root in ("here", "there"):
        for folder in "ab":
            write_tar(tmp_path / root / folder / "0.tar", ("x.png", encoded(0)))
    first, second = (open_source(f"webdataset:{tmp_path}/{root}/*/0.tar") for root in ("here", "there"))
    monkeypatch.chdir(tmp_path / "here")
    assert keys(first) == keys(second) == keys(open_source("webdataset:*/0.tar"))
    assert first.identity == second.identity


def test_a_folder_inside_of_a_shard_is_not_taken_for_the_folder_of_another(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", ("0/x.png", encoded(0)))
    for folder in "ab":
        write_tar(tmp_path / folder / "0.tar", ("x.png", encoded(0)))
    source = open_source(f"webdataset:{tmp_path}/**/*.tar")
    assert len(source) == len(set(keys(source))) == 3


def test_parquet_files_of_one_name_have_keys_of_their_own(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        pq.write_table(pa.table({"image": [encoded(0)]}), tmp_path / folder / "0.parquet")
    assert keys(open_source(f"parquet:{tmp_path}/*/0.parquet")) == ["a/0/0", "b/0/0"]


# --- members of tar shards -----------------------------------------------------------------------------------------------------------------------


def test_a_second_member_of_one_name_is_skipped_and_named(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", ("a.png", encoded(0)), ("a.cls", b"1"), ("a.png", encoded(1)), ("a.cls", b"2"))
    source = open_source(str(shard))
    assert keys(source) == ["s/a"]
    assert np.array_equal(source.read(0).image, image(0))
    assert labels(source) == [1]
    assert len(source.skipped) == len({skip.key for skip in source.skipped}) == 2
    assert "a.png" in source.skipped[0].reason
    assert "a.cls" in source.skipped[1].reason


def test_hard_links_are_read_as_the_member_that_they_lead_to(tmp_path: Path) -> None:
    members = [("a.png", encoded(0)), ("a.cls", b"1"), ("b.png", "a.png"), ("b.cls", b"2"), ("c.png", "b.png"), ("c.cls", "a.cls")]
    source = open_source(str(write_tar(tmp_path / "s.tar", *members, ("d.png", "gone.png"))))
    assert keys(source) == ["s/a", "s/b", "s/c"]
    assert labels(source) == [1, 2, 1]
    for index in range(3):
        assert np.array_equal(source.read(index).image, image(0))
    (skip,) = source.skipped
    assert "d.png" in skip.key
    assert "gone.png" in skip.reason


def test_members_of_one_sample_that_lie_apart_stay_together(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", ("a.png", encoded(0)), ("b.png", encoded(1)), ("b.cls", b"2"), ("a.cls", b"1"), ("a.txt", b"one"))
    source = open_source(str(shard))
    assert labels(source) == [1, 2]
    assert source.read(0).caption == "one"
    assert not source.skipped


def test_whatever_is_no_sample_is_named(tmp_path: Path) -> None:
    members = [("good.png", encoded(0)), ("good.seg.png", b"x"), ("README", b"x"), (".hidden.png", encoded(0)), ("x.1.png", encoded(0))]
    shard = write_tar(tmp_path / "s.tar", *members, ("x.2.png", encoded(1)), ("clip.mp4", b"x"))
    with tarfile.open(shard, "a") as archive:
        for name, kind in (("link.png", tarfile.SYMTYPE), ("pipe.png", tarfile.FIFOTYPE), ("folder.png", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "good.png" if kind == tarfile.SYMTYPE else ""
            archive.addfile(info)
    source = open_source(str(shard))
    assert keys(source) == ["s/good"]
    reasons = [skip.reason for skip in source.skipped]
    for name in ("README", ".hidden.png", "x.1.png", "x.2.png", "clip", "link.png", "pipe.png"):
        assert sum(f"{shard}:{name} " in reason for reason in reasons) == 1, name
    assert len(reasons) == 7


@pytest.mark.parametrize("size", [-1, -512, -(2**40), 2**62, 2**63, 2**64, 2**80])
def test_a_member_of_impossible_size_ends_its_shard_only(tmp_path: Path, size: int) -> None:
    set_size(write_tar(tmp_path / "0.tar", *((f"{seed}.png", encoded(seed)) for seed in range(4))), 2, size)
    write_tar(tmp_path / "1.tar", ("a.png", encoded(0)))
    source = open_source(f"webdataset:{tmp_path}")
    used, loader = read_all(source)
    assert used == ["0/0", "0/1", "1/a"]
    assert "0.tar" in {skip.key for skip in loader.report.kept}


def test_a_member_whose_name_is_not_utf_8_is_skipped(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", ("a.png", encoded(0)), ("b\udcff.png", encoded(1)), ("c.png", encoded(2)))
    source = open_source(str(shard))
    assert keys(source) == ["s/a", "s/c"]
    assert source.identity
    (skip,) = source.skipped
    assert "UTF-8" in skip.reason
    assert f"{skip.key} {skip.reason}".encode()


# --- labels and names ----------------------------------------------------------------------------------------------------------------------------


def test_labels_follow_one_rule_in_every_reader(tmp_path: Path) -> None:
    values = [0, _LARGEST, -1, -(2**70), _LARGEST + 1, 2**64, 10**30]
    right = [0, _LARGEST, None, None]
    by_cls = [member for n, value in enumerate(values) for member in ((f"{n}.png", encoded(0)), (f"{n}.cls", str(value).encode()))]
    by_json = [member for n, value in enumerate(values) for member in ((f"{n}.png", encoded(0)), (f"{n}.json", json.dumps({"cls": value}).encode()))]
    for source in (open_source(str(write_tar(tmp_path / f"{name}.tar", *part))) for name, part in (("cls", by_cls), ("json", by_json))):
        assert [source.read(index).label for index in range(4)] == right
        for index in range(4, 7):
            with pytest.raises(DataError, match="label"):
                source.read(index)
        used, loader = read_all(source)
        assert (len(used), len(loader.report)) == (4, 3)


def test_unsigned_labels_of_parquet_and_numpy_beyond_int64_are_skipped(tmp_path: Path) -> None:
    unsigned = np.array([3, 2**63], dtype=np.uint64)
    pq.write_table(pa.table({"image": [encoded(0)] * 2, "label": pa.array(unsigned)}), tmp_path / "x.parquet")
    np.savez(tmp_path / "x.npz", signals=np.zeros((2, 3, 8, 8), np.float32), labels=unsigned)
    for name in ("x.parquet", "arrays:image:x.npz"):
        source = open_source(name.replace("x.", f"{tmp_path}/x."))
        assert source.read(0).label == 3
        with pytest.raises(DataError, match="label"):
            source.read(1)


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        ("cls", b"9" * 5000),
        ("cls", b"1.5"),
        ("cls", b"\xff"),
        ("cls", b""),
        ("json", b"[" * 200_000),
        ("json", b'{"a":' * 200_000),
        ("json", b'{"label": ' + b"9" * 5000 + b"}"),
        ("json", b'{"label": "\xff"}'),
    ],
)
def test_a_damaged_companion_is_one_skipped_sample(tmp_path: Path, suffix: str, data: bytes) -> None:
    shard = write_tar(tmp_path / "s.tar", ("a.png", encoded(0)), (f"a.{suffix}", data), ("b.png", encoded(1)))
    used, loader = read_all(open_source(str(shard)))
    assert used == ["s/b"]
    assert [skip.key for skip in loader.report.kept] == ["s/a"]
    assert len(loader.report.kept[0].reason) < 1000


def test_half_characters_in_a_json_caption_are_replaced(tmp_path: Path) -> None:
    source = open_source(str(write_tar(tmp_path / "s.tar", ("a.png", encoded(0)), ("a.json", b'{"caption": "a\\ud800b"}'))))
    assert source.read(0).caption == "a?b"


def test_files_whose_names_are_not_utf_8_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(encoded(0))
    try:
        with open(os.fsencode(tmp_path) + b"/bad\xff.png", "wb") as stream:
            stream.write(encoded(1))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    source = open_source(FolderConfig(path=str(tmp_path)))
    assert keys(source) == ["good.png"]
    assert source.identity
    (skip,) = source.skipped
    assert "UTF-8" in skip.reason
    assert skip.key.encode()


def test_files_of_a_folder_that_are_no_images_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.heic", "notes.txt", ".hidden.txt", "sub/c.doc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(0))
    source = open_source(FolderConfig(path=str(tmp_path)))
    assert keys(source) == ["a.png"]
    assert [skip.key for skip in source.skipped] == ["b.heic", "notes.txt", "sub/c.doc"]
    assert len(read_all(source)[1].report) == 3
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"3 other files.*b\.heic"):
        open_source(FolderConfig(path=str(tmp_path)))


def test_a_link_to_itself_is_one_skipped_sample(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.png").write_bytes(encoded(0))
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder.png").symlink_to(tmp_path / "good")
    used, loader = read_all(open_source(FolderConfig(path=str(tmp_path))))
    assert used == ["folder.png/a.png", "good/a.png"]
    assert [skip.key for skip in loader.report.kept] == ["loop.png"]


def test_compressed_shards_of_a_folder_are_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.TAR", ("a.png", encoded(0)))
    for name in ("1.tar.gz", "2.tgz"):
        with tarfile.open(tmp_path / name, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo("a.png"))
    source = open_source(f"webdataset:{tmp_path}")
    assert keys(source) == ["0/a"]
    assert len(source.skipped) == 2
    assert all(name in skip.reason for name, skip in zip(("1.tar.gz", "2.tgz"), source.skipped, strict=True))


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    images = pa.array([encoded(0)])
    for name in ("image", "label"):
        columns = {"image": images, "label": pa.array([1])}
        arrays, names = [*columns.values(), columns[name]], [*columns, name]
        pq.write_table(pa.Table.from_arrays(arrays, names=names), tmp_path / "x.parquet")
        with pytest.raises(DataError, match=f"2 columns called '{name}'"):
            open_source(f"{tmp_path}/x.parquet")


def test_an_archive_with_two_arrays_of_one_name_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", signals=np.zeros((1, 3, 8, 8), np.float32))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("signals.npy", archive.read("signals.npy"))
    with pytest.raises(DataError, match=r"signals\.npy"):
        open_source(f"arrays:image:{tmp_path}/x.npz")


@pytest.mark.parametrize(
    "name", ["x" * 5000, "a\0b", "~no-such-user/x", "webdataset:{0.." + "9" * 5000 + "}.tar", "parquet:[", "folder:" + "x" * 5000]
)
def test_names_that_are_no_paths_are_refused(name: str) -> None:
    with pytest.raises(VisiontokError):
        open_source(name)
