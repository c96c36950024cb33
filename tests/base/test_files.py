import errno
import multiprocessing
import os
import socket
from pathlib import Path

import pytest

from visiontok.base.errors import FolderInUseError
from visiontok.base.files import TEMPORARY, check_regular, check_writable, clear_stale, contents, read_text, remove_folder, replacing
from visiontok.base.locks import exclusive

fork = multiprocessing.get_context("fork")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "a.json"
    with replacing(path) as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("1")
        assert contents(path.parent) == []
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(f"2{1 / 0}")
    assert path.read_text() == "1"
    assert os.listdir(path.parent) == ["a.json"]


def test_an_error_while_writing_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"a\.json") as caught, replacing(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def _write_until_told(path, ready, go):
    with replacing(path) as temporary:
        temporary.write_text("whole")
        ready.set()
        go.wait(30)


def test_stale_temporaries_are_removed_and_live_ones_stay(tmp_path):
    ready, go = fork.Event(), fork.Event()
    writer = fork.Process(target=_write_until_told, args=(tmp_path / "live.txt", ready, go))
    writer.start()
    assert ready.wait(30)
    (tmp_path / f"{TEMPORARY}0123.txt").write_text("half")
    clear_stale(tmp_path)
    assert len(os.listdir(tmp_path)) == 1
    go.set()
    writer.join(30)
    assert (writer.exitcode, (tmp_path / "live.txt").read_text()) == (0, "whole")


def test_a_removed_folder_loses_its_name_first(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("shutil.rmtree", lambda path: None)  # killed in between
    remove_folder(tmp_path / "folder")
    assert contents(tmp_path) == []


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder", "missing"])
def test_only_files_that_end_are_read(tmp_path, kind, monkeypatch):
    path, opened = tmp_path / "input", None
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        opened = socket.socket(socket.AF_UNIX)
        monkeypatch.chdir(tmp_path)  # the addresses of sockets are short
        opened.bind("input")
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(OSError, match=str(path)):
        check_regular(path)
    if opened:
        opened.close()


def test_files_beyond_the_limit_are_not_read(tmp_path):
    (tmp_path / "a").write_text("12345")
    assert read_text(tmp_path / "a", max_bytes=5) == "12345"
    with pytest.raises(OSError, match="5 bytes; at most 4"):
        read_text(tmp_path / "a", max_bytes=4)


def test_an_output_that_cannot_be_written_is_known_before_the_work(tmp_path):
    check_writable(tmp_path / "new" / "folder" / "file.json")
    check_writable(tmp_path)
    (tmp_path / "file").write_text("1")
    check_writable(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(NotADirectoryError, match="inner"):
        check_writable(tmp_path / "file" / "inner")
    with pytest.raises(OSError, match="/proc/new"):
        check_writable("/proc/new")


def _hold(folder, ready, go):
    with exclusive(folder):
        ready.set()
        go.wait(30)


def test_a_second_writer_is_told_who_the_first_is_and_a_dead_one_never_blocks(tmp_path):
    ready, go = fork.Event(), fork.Event()
    holder = fork.Process(target=_hold, args=(tmp_path / "run", ready, go))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(FolderInUseError, match=rf"{tmp_path}/run.*process {holder.pid} on"), exclusive(tmp_path / "run"):
        pass
    holder.kill()
    holder.join()
    with exclusive(tmp_path / "run"), exclusive(tmp_path / "run", "samples.npz"):
        assert contents(tmp_path / "run") == []
    with exclusive(tmp_path / "run"):
        pass


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    for write in (lambda: check_writable(tmp_path, file=True), lambda: replacing(tmp_path).__enter__(), lambda: replacing(".").__enter__()):
        with pytest.raises(IsADirectoryError):
            write()
    check_writable(tmp_path / "a.npz", file=True)
