"""Images and sound in folders, tar shards and Parquet files."""

import io
import json
import os
import pickle
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from bad_images import BAD, encoded, image

from visiontok.base.errors import DataError, SignalError
from visiontok.data import Source, open_source
from visiontok.data import parquet as parquet_module
from visiontok.data.parquet import ParquetConfig
from visiontok.signals.audio_reading import Sound


def assert_image(source: Source, index: int, seed: int) -> None:
    assert np.array_equal(source.read(index).signal, image(seed))


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, count: int, *, first: int = 0, row_group_size: int = 2, **columns: list) -> Path:
    rows = [{"bytes": encoded(seed), "path": f"{seed}.png"} for seed in range(first, first + count)]
    pq.write_table(pa.table({"image": rows, **columns}), path, row_group_size=row_group_size)
    return path


# --- folders -------------------------------------------------------------------------------------------------------------------------------------


def test_a_flat_folder_has_no_labels_and_a_fixed_order(tmp_path: Path) -> None:
    for seed, name in enumerate(["b.png", "a.PNG", "c.webp", "notes.txt", ".hidden.png"]):
        kind = "BMP" if name.endswith("webp") else "PNG"
        (tmp_path / name).write_bytes(encoded(seed, kind))
    source = open_source(f"folder:{tmp_path}")
    assert [source.key(index) for index in range(len(source))] == ["a.PNG", "b.png", "c.webp"]
    assert source.class_names is None
    assert source.read(0).label is None
    assert_image(source, 0, seed=1)
    assert_image(source, 2, seed=2)  # the content decides, not the suffix


def test_class_folders_give_labels(tmp_path: Path) -> None:
    for seed, name in enumerate(["dog/1.png", "cat/2.png", "cat/old/3.png", "emu/4.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(seed))
    (tmp_path / "zoo").mkdir()
    source = open_source(f"folder:{tmp_path}")
    assert source.class_names == ("cat", "dog", "emu"), "a folder without images is no class"
    assert [(source.read(index).key, source.read(index).label) for index in range(4)] == [
        ("cat/2.png", 0),
        ("cat/old/3.png", 0),
        ("dog/1.png", 1),
        ("emu/4.png", 2),
    ]
    (tmp_path / "stray.png").write_bytes(encoded())
    assert open_source(f"folder:{tmp_path}").class_names is None


def test_a_folders_identity_is_that_of_its_files_wherever_they_lie(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (first / "a.png").write_bytes(encoded(0))
    shutil.copytree(first, second)
    identity = open_source(f"folder:{first}").identity
    assert open_source(f"folder:{second}").identity == identity
    (second / "b.png").write_bytes(encoded(1))
    assert open_source(f"folder:{second}").identity != identity


def test_links_are_followed_but_never_in_circles(tmp_path: Path) -> None:
    store, data = tmp_path / "store", tmp_path / "data"
    store.mkdir()
    data.mkdir()
    (store / "a.png").write_bytes(encoded())
    os.symlink(store, data / "linked")
    os.symlink(data, data / "circle")
    os.symlink(tmp_path / "gone.png", data / "linked-file.png")
    source = open_source(f"folder:{data}")
    assert [source.key(index) for index in range(len(source))] == ["linked-file.png", "linked/a.png"]
    assert source.identity
    with pytest.raises(SignalError, match=r"no file .*linked-file\.png"):
        source.read(0)


def test_bad_files_in_a_folder_are_named_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(encoded(5))
    for name, data in BAD.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    source = open_source(f"folder:{tmp_path}")
    assert len(source) == 4
    for index in range(4):
        if source.key(index) == "good.png":
            assert_image(source, index, seed=5)
        else:
            with pytest.raises(SignalError, match=source.key(index)):
                source.read(index)


def test_a_missing_or_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        open_source(f"folder:{tmp_path / 'gone'}")
    with pytest.raises(DataError, match="holds no image"):
        open_source(f"folder:{tmp_path}")


# --- tar shards ----------------------------------------------------------------------------------------------------------------------------------


def test_shards_with_companions_in_random_access(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "s-00.tar",
        {
            "a.png": encoded(0),
            "a.cls": b"7\n",
            "a.txt": "ein Bär".encode(),
            "dir/b.jpg": encoded(1),
            "dir/b.json": b'{"label": 3, "caption": "two"}',
        },
    )
    write_tar(tmp_path / "s-01.tar", {"a.WebP": encoded(2), "a.json": b'{"cls": null, "text": "three"}', "b.seg.png": b"x", "b.jpeg": encoded(3)})
    source = open_source(f"webdataset:{tmp_path}/s-{{00..01}}.tar")
    assert [source.key(index) for index in range(len(source))] == ["s-00/a", "s-00/dir/b", "s-01/a", "s-01/b"]
    for index in (3, 1, 0, 2):
        assert_image(source, index, seed=index)
    assert [source.read(index).label for index in range(4)] == [7, 3, None, None]
    assert [source.read(index).caption for index in range(4)] == ["ein Bär", "two", "three", None]
    assert not source.skipped
    for path in (str(tmp_path), f"{tmp_path}/*.tar", f"{tmp_path}/s-0{{0..1}}.tar"):
        assert open_source(f"webdataset:{path}").identity == source.identity
    assert open_source(f"webdataset:{tmp_path}/s-00.tar").identity != source.identity


def test_bad_samples_of_a_shard_are_named_one_by_one(tmp_path: Path) -> None:
    members = {f"{name}.png": data for name, data in BAD.items()}
    members |= {"label.png": encoded(0), "label.cls": b"cat", "meta.png": encoded(0), "meta.json": b"{", "list.png": encoded(0), "list.json": b"[1]"}
    members |= {"alone.cls": b"1", "twice.png": encoded(0), "twice.jpg": encoded(0), "good.png": encoded(5)}
    shard = write_tar(tmp_path / "s.tar", members)
    source = open_source(str(shard))
    assert {skip.key for skip in source.skipped} == {"s/alone", "s/twice"}
    assert "no image" in source.skipped[0].reason
    assert len(source) == 7
    for index in range(6):
        with pytest.raises((SignalError, DataError)) as caught:
            source.read(index)
        assert f"{shard}:{source.key(index).removeprefix('s/')}." in str(caught.value)
    assert_image(source, 6, seed=5)


def test_a_truncated_shard_gives_what_is_whole_and_reports_the_rest(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", {f"{seed}.png": encoded(seed) for seed in range(4)})
    whole = shard.read_bytes()
    with tarfile.open(shard) as archive:
        members = archive.getmembers()
    for cut, samples, readable in [(members[3].offset_data + 100, 4, 3), (members[3].offset + 100, 3, 3), (members[3].offset, 3, 3)]:
        shard.write_bytes(whole[:cut])
        source = open_source(str(shard))
        assert len(source) == samples
        assert_image(source, readable - 1, seed=readable - 1)
        assert [skip.key for skip in source.skipped] == ["s.tar"]
        assert str(shard) in source.skipped[0].reason
        if samples > readable:
            with pytest.raises(DataError, match=r"3\.png is truncated"):
                source.read(3)


def test_damage_in_the_middle_of_a_shard_is_not_taken_for_its_end(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", {f"{seed}.png": encoded(seed) for seed in range(4)})
    with tarfile.open(shard) as archive:
        offset = archive.getmembers()[2].offset
    data = bytearray(shard.read_bytes())
    data[offset : offset + 100] = bytes(range(100))
    shard.write_bytes(data)
    source = open_source(str(shard))
    assert len(source) == 2
    assert f"at byte {offset}" in source.skipped[0].reason


def test_a_shard_that_is_none_is_reported_and_others_are_used(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"a.png": encoded()})
    with tarfile.open(tmp_path / "1.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    (tmp_path / "2.tar").touch()
    source = open_source(f"webdataset:{tmp_path}")
    assert len(source) == 1
    assert [skip.key for skip in source.skipped] == ["1.tar", "2.tar"]
    with pytest.raises(DataError, match=r"2\.tar is not an uncompressed tar archive"):
        open_source(str(tmp_path / "2.tar"))


def test_members_never_touch_the_disk_whatever_their_names(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    shard = write_tar(inside / "s.tar", {"../../escape.png": encoded(0), "/absolute.png": encoded(1)})
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    source = open_source(str(shard))
    assert len(source) == 2
    assert_image(source, 0, seed=0)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside", "s.tar"]


def test_missing_shards_are_listed(tmp_path: Path) -> None:
    write_tar(tmp_path / "08.tar", {"a.png": encoded()})
    with pytest.raises(DataError, match=r"2 of the 3 files .*09\.tar, .*10\.tar"):
        open_source(f"webdataset:{tmp_path}/{{08..10}}.tar")
    with pytest.raises(DataError, match="more than 1000000"):
        open_source(f"webdataset:{tmp_path}/{{0..99999999}}.tar")
    for pattern in ("{5..3}.tar", "*.tgz"):
        with pytest.raises(DataError, match=r"matches no \.tar file"):
            open_source(f"webdataset:{tmp_path}/{pattern}")


# --- Parquet -------------------------------------------------------------------------------------------------------------------------------------


def test_parquet_rows_in_random_access_over_files_and_row_groups(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", 5, label=[0, 1, 2, 3, 4], text=list("vwxyz"))
    write_parquet(tmp_path / "b.parquet", 3, first=5, label=[5, -1, None], text=["p", None, "q"])
    source = open_source(f"parquet:{tmp_path}/*.parquet")
    assert len(source) == 8
    for index in (7, 0, 5, 4, 3):
        assert_image(source, index, seed=index)
    assert [source.read(index).label for index in range(8)] == [0, 1, 2, 3, 4, 5, None, None]
    assert [source.read(index).caption for index in (0, 5, 6)] == ["v", "p", None]
    assert [source.key(index) for index in (0, 4, 5)] == ["a/0", "a/4", "b/0"]
    assert open_source(f"parquet:{tmp_path}").identity == source.identity
    assert open_source(f"{tmp_path}/a.parquet").identity != source.identity


def test_what_datasets_writes_is_read_with_its_class_names(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [image(0), image(1), image(2)], "label": [1, 0, 1]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "d.parquet"))
    source = open_source(f"{tmp_path}/d.parquet")
    assert source.class_names == ("cat", "dog")
    assert [source.read(index).label for index in range(3)] == [1, 0, 1]
    assert_image(source, 2, seed=2)


def test_columns_can_be_named_and_plain_binary_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"img": [encoded(4)], "fine": [9], "words": ["hi"]}), path)
    source = open_source(ParquetConfig(path=str(path), image="img", label="fine", caption="words"))
    assert_image(source, 0, seed=4)
    assert (source.read(0).label, source.read(0).caption) == (9, "hi")
    with pytest.raises(DataError, match=r"no column called 'image'. Did you mean img"):
        open_source(str(path))
    with pytest.raises(DataError, match="expected whole numbers"):
        open_source(ParquetConfig(path=str(path), image="img", label="words"))
    with pytest.raises(DataError, match="expected binary"):
        open_source(ParquetConfig(path=str(path), image="words"))
    with pytest.raises(DataError, match="expected strings"):
        open_source(ParquetConfig(path=str(path), image="img", caption="fine"))


def test_bad_rows_of_a_parquet_file_are_named_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rows = [{"bytes": data, "path": None} for data in BAD.values()] + [
        {"bytes": None, "path": "/etc/passwd"},
        None,
        {"bytes": encoded(5), "path": None},
    ]
    pq.write_table(pa.table({"image": rows}), path)
    source = open_source(str(path))
    for index in range(5):
        with pytest.raises((SignalError, DataError), match=rf"x\.parquet row {index}"):
            source.read(index)
    assert_image(source, 5, seed=5)


def test_a_damaged_row_group_spoils_only_its_own_rows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", 4)
    offset = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[offset : offset + 30] = b"\xff" * 30
    path.write_bytes(data)
    source = open_source(str(path))
    for index in (0, 1):
        with pytest.raises(DataError, match=r"row group 0 of .*x\.parquet"):
            source.read(index)
    assert_image(source, 3, seed=3)


def test_files_that_are_no_parquet_or_do_not_match_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.parquet is not a readable Parquet file"):
        open_source(f"parquet:{tmp_path}")
    write_parquet(tmp_path / "a.parquet", 1)
    write_parquet(tmp_path / "b.parquet", 1, label=[1])
    with pytest.raises(DataError, match=r"b\.parquet has other columns"):
        open_source(f"parquet:{tmp_path}")
    (tmp_path / "b.parquet").unlink()
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="holds no row"):
        open_source(f"parquet:{tmp_path}")


def test_a_row_group_is_read_once_and_the_oldest_leaves_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    original = pq.ParquetFile.read_row_group

    def counting(self: pq.ParquetFile, number: int, **options: object) -> pa.Table:
        reads.append(number)
        return original(self, number, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    source = open_source(str(write_parquet(tmp_path / "x.parquet", 6)))
    for index in (0, 1, 2, 3, 0, 1):
        source.read(index)
    assert reads == [0, 1]
    monkeypatch.setattr(parquet_module, "_CACHED_BYTES", 1)
    for index in (4, 5, 0):
        source.read(index)
    assert reads == [0, 1, 2, 0]


def test_sources_can_be_sent_to_workers_and_read_by_threads(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_bytes(encoded(0))
    write_tar(tmp_path / "s.tar", {"a.png": encoded(0)})
    write_parquet(tmp_path / "x.parquet", 1)
    for name in (f"folder:{tmp_path}/p", f"{tmp_path}/s.tar", f"{tmp_path}/x.parquet"):
        source = open_source(name)
        source.read(0)
        copy = pickle.loads(pickle.dumps(source))
        assert copy.identity == source.identity
        with ThreadPoolExecutor(4) as pool:
            for sample in pool.map(copy.read, [0] * 8):
                assert np.array_equal(sample.signal, image(0))


def test_json_labels_must_be_whole_numbers(tmp_path: Path) -> None:
    values = [-0, None, 4, True, 2.5, 3.0, "3", [1]]
    members = {}
    for number, value in enumerate(values):
        members |= {f"{number}.png": encoded(), f"{number}.json": json.dumps({"label": value}).encode()}
    source = open_source(str(write_tar(tmp_path / "s.tar", members)))
    assert [source.read(index).label for index in range(3)] == [0, None, 4]
    for index in range(3, 8):
        with pytest.raises(DataError, match=rf"{index}\.json"):
            source.read(index)


def test_a_label_file_goes_before_the_label_of_a_json_file(tmp_path: Path) -> None:
    members = {"a.png": encoded(), "a.json": b'{"label": "cat", "cls": 3, "text": "one"}', "a.cls": b"7"}
    sample = open_source(str(write_tar(tmp_path / "s.tar", members))).read(0)
    assert (sample.label, sample.caption) == (7, "one")
    members = {"a.png": encoded(), "a.json": b'{"label": null, "cls": 3, "caption": null, "text": "one"}'}
    sample = open_source(str(write_tar(tmp_path / "t.tar", members))).read(0)
    assert (sample.label, sample.caption) == (3, "one")


# --- sound ---------------------------------------------------------------------------------------------------------------------------------------


def wave_file(seed: int, *, rate: int = 800, seconds: float = 0.5) -> bytes:
    """A wav file of noise."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(seed).uniform(-0.5, 0.5, (int(rate * seconds), 2)), rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def assert_sound(source: Source, index: int, seed: int) -> None:
    signal = source.read(index).signal
    assert isinstance(signal, Sound)
    assert signal.rate == 800
    expected = np.random.default_rng(seed).uniform(-0.5, 0.5, (400, 2)).T
    assert np.abs(signal.samples - expected).max() < 1e-6


def test_a_folder_of_sound(tmp_path: Path) -> None:
    for seed, name in enumerate(["cat/a.wav", "dog/b.WAV"]):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(wave_file(seed))
    (tmp_path / "dog" / "broken.flac").write_bytes(wave_file(2)[:100])
    source = open_source(str(tmp_path))
    assert source.modality == "audio"
    assert [source.key(index) for index in range(len(source))] == ["cat/a.wav", "dog/b.WAV", "dog/broken.flac"]
    assert source.class_names == ("cat", "dog")
    assert_sound(source, 0, seed=0)
    assert_sound(source, 1, seed=1)
    assert source.read(1).label == 1
    with pytest.raises(SignalError, match=r"broken\.flac"):
        source.read(2)


def test_of_images_and_sound_in_one_place_one_kind_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(0))
    (tmp_path / "b.wav").write_bytes(wave_file(1))
    shard = write_tar(tmp_path / "shards.tar", {"a.png": encoded(0), "a.wav": wave_file(1), "a.cls": b"4"})
    columns = {"audio": [{"bytes": wave_file(1), "path": None}]}
    table = tmp_path / "rows.parquet"
    write_parquet(table, 1, **columns)
    for place in (f"folder:{tmp_path}", f"webdataset:{shard}", f"parquet:{table}"):
        with pytest.raises(DataError, match=r"image.*audio"):
            open_source(place)
    for kind in ("folder", "webdataset"):
        path = tmp_path if kind == "folder" else shard
        assert_image(open_source(f"{kind}:image:{path}"), 0, seed=0)
        sound = open_source(f"{kind}:audio:{path}")
        assert (len(sound), sound.modality) == (1, "audio")
        assert_sound(sound, 0, seed=1)
    assert_image(open_source(ParquetConfig(path=str(table), image="image")), 0, seed=0)
    assert_sound(open_source(ParquetConfig(path=str(table), audio="audio")), 0, seed=1)
    with pytest.raises(DataError, match="the one that is meant"):
        open_source(ParquetConfig(path=str(table), audio="audio", image="image"))


def test_shards_of_sound(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "s.tar",
        {"a.wav": wave_file(0), "a.json": b'{"label": 3}', "b.wav": wave_file(1), "b.png": b"cover", "c.png": b"", "a.thumb.png": b""},
    )
    source = open_source(str(shard))
    assert [source.key(index) for index in range(len(source))] == ["s/a", "s/b"]
    assert source.read(0).label == 3
    assert_sound(source, 1, seed=1)
    assert [skip.key for skip in source.skipped] == ["s/c"]
    assert "no sound" in source.skipped[0].reason
    again = pickle.loads(pickle.dumps(source))
    assert_sound(again, 0, seed=0)


def test_a_parquet_file_of_sound(tmp_path: Path) -> None:
    rows = [{"bytes": wave_file(seed), "path": f"{seed}.wav"} for seed in range(3)]
    pq.write_table(pa.table({"audio": rows, "text": ["one", "two", "three"]}), tmp_path / "rows.parquet")
    source = open_source(str(tmp_path / "rows.parquet"))
    assert source.modality == "audio"
    assert_sound(source, 2, seed=2)
    assert source.read(1).caption == "two"
