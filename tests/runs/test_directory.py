"""Output directories that are in use, full, read-only, or not a directory."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from plsc.runs import directory
from plsc.runs.directory import OutputError, RunLock, check_room, check_writable, replacing, write_text, writing
from tests.integration.runs import ROOT


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets the free space that the file system reports."""
    return lambda count: monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=count))


@pytest.mark.parametrize(
    "number, advice",
    [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"), (errno.EROFS, "make it writable")],
)
def test_message_of_a_failed_write(tmp_path, free, number, advice):
    free(3 * 2**20 // 2)
    with pytest.raises(OutputError) as caught, writing(tmp_path / "metrics.jsonl"):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == (
        f"{tmp_path}/metrics.jsonl cannot be written: {os.strerror(number)} (1.5 MiB free); "
        f"{advice}, or set Global.output_dir to another path. Earlier checkpoints are intact, and the same command "
        "resumes from them"
    )


def test_an_output_error_is_not_wrapped_again(tmp_path):
    with pytest.raises(OutputError) as caught, writing(tmp_path), writing(tmp_path / "inner"):
        raise OSError(errno.ENOSPC, "full")
    assert str(caught.value).startswith(f"{tmp_path}/inner cannot be written: full")


def test_a_file_instead_of_the_directory(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match=f"{path} cannot be an output directory: {tmp_path}/file is a file; set"):
            check_writable(path)
    check_writable(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()


def test_a_directory_without_write_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="cannot be written to: this user may not write there; make it writable, or"):
        check_writable(tmp_path / "run")


def test_free_space_for_checkpoints(tmp_path, free):
    free(100)
    assert check_room(tmp_path / "new", 25, 4) is None
    assert re.search(
        r"4 more checkpoints of 26 bytes .* 100 bytes are free; free some space", check_room(tmp_path, 26, 4)
    )
    with pytest.raises(
        OutputError, match="a checkpoint needs 2 GiB, but only 100 bytes are free; the run could not save"
    ):
        check_room(tmp_path, 2**31, 1)


HOLD = "import os, sys; from pathlib import Path; from plsc.runs.directory import RunLock\n"
HOLD += "lock = RunLock(Path(sys.argv[1])); lock.acquire(); os.write(1, b'held\\n'); sys.stdin.read()"


def hold(directory, script=HOLD):
    """Start another process that holds the lock of a directory."""
    command = [sys.executable, "-c", script, str(directory)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_directory_has_one_run_at_a_time(tmp_path):
    other = hold(tmp_path)
    lock = RunLock(tmp_path)
    message = (
        rf"{tmp_path} is in use by another run \(process {other.pid} on \S+ since 20\d\d-\S+ \S+\), and two runs would"
    )
    with pytest.raises(OutputError, match=message):
        lock.acquire()
    other.kill()
    other.wait()
    other.stdin.close(), other.stdout.close()
    lock.acquire()
    lock.acquire()
    assert json.loads((tmp_path / directory.LOCK).read_text(encoding="utf-8"))["pid"] == os.getpid()
    lock.release()
    hold(tmp_path).communicate("")  # and now it is free


def test_one_process_cannot_lock_a_directory_twice(tmp_path):
    lock, second = RunLock(tmp_path / "run"), RunLock(tmp_path / "elsewhere" / ".." / "run")
    (tmp_path / "elsewhere").mkdir()
    lock.acquire()
    with pytest.raises(OutputError, match=r"in use by another run \(this process\)"):
        second.acquire()
    lock.release()
    second.acquire()
    second.release()


def test_a_fork_does_not_hold_the_lock_of_a_killed_run(tmp_path):
    script = HOLD.replace("os.write", "os.fork(); os.write")  # both wait until their standard input ends
    process = hold(tmp_path, script)
    lock = RunLock(tmp_path)
    with pytest.raises(OutputError):
        lock.acquire()
    process.kill()
    process.wait()
    lock.acquire()
    lock.release()
    process.stdin.close(), process.stdout.close()


def test_no_lock_on_a_file_system_without_locks(tmp_path, monkeypatch):
    import fcntl

    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unknown)
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.release()


def test_a_file_is_replaced_when_it_is_complete(tmp_path):
    file = tmp_path / "report.html"
    file.write_text("old", encoding="utf-8")
    with replacing(file) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".html"
        temporary.write_text("new", encoding="utf-8")
        assert file.read_text(encoding="utf-8") == "old"
    assert file.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("old", encoding="utf-8")
    with pytest.raises(OSError, match="full"), replacing(file) as temporary:
        temporary.write_text("ha", encoding="utf-8")
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "half of it\udc80")
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_one_and_a_device_is_written_to(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "page.html").write_text("old", encoding="utf-8")
    link, device = tmp_path / "report.html", tmp_path / "null"
    link.symlink_to(tmp_path / "web" / "page.html")
    device.symlink_to("/dev/null")
    write_text(link, "new")
    write_text(device, "new")
    assert link.is_symlink() and (tmp_path / "web" / "page.html").read_text(encoding="utf-8") == "new"
    assert device.is_symlink() and device.resolve() == type(device)("/dev/null")
