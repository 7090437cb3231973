"""Output directories that are full, read-only, in use or not a directory: one error, no loss, and runs continue."""

import os
import shutil

import numpy as np
import pytest

from plsc.checkpoint.reader import Checkpoint
from plsc.runs.directory import OutputError, RunLock
from plsc.runs.log import RunLog
from tests.faults.scenes import arguments, arrays, assert_same, disk, lines, size_of  # noqa: F401 - a fixture
from tests.runs.test_directory import hold

GOES_ON = "Earlier checkpoints are intact, and the same command resumes from them"


def test_a_full_disk(tmp_path, toy_runs, cli, disk, tally):  # noqa: F811
    more = ["Global.epochs=6", "Global.keep_last=6"]
    assert cli(*arguments(toy_runs.images, tmp_path / "whole", *more))[0] == 0
    one = size_of(Checkpoint.open(tmp_path / "whole").path)
    disk.remount(f"size={4 * one}")
    command = arguments(toy_runs.images, disk.path / "run", *more)
    code, _, error = cli(*command)
    assert code == 2
    assert (
        f"{disk.path}/run: the run needs space for 8 more checkpoints of " in error
        and "free some space, or the run stops" in error
    )
    assert "/run/" in error and "No space left on device (" in error and " free); free some space, or" in error
    assert GOES_ON in error and "Traceback" not in error
    assert 0 < Checkpoint.open(disk.path / "run").state["step"] < 18
    assert arrays(disk.path / "run")
    disk.remount("size=64m")
    assert cli(*command)[0] == 0
    assert_same(disk.path / "run", tmp_path / "whole")
    tally.add("faults survived", 1)


def test_no_room_for_a_single_checkpoint(toy_runs, cli, disk):  # noqa: F811
    disk.remount("size=64k")
    code, _, error = cli(*arguments(toy_runs.images, disk.path / "run"))
    assert code == 2
    assert "64 KiB are free; the run could not save; free some space, or set Global.output_dir to another" in error
    assert not (disk.path / "run").exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "train.log", "report.html"])
def test_a_file_that_does_not_fit(tmp_path, toy_runs, cli, name, tally):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to("/dev/full")
    command = arguments(toy_runs.images, tmp_path / "run", "Global.report=true")
    code, _, error = cli(*command)
    assert code == 2
    assert f"error: {tmp_path}/run/{name} cannot be written: No space left on device (" in error and GOES_ON in error
    (tmp_path / "run" / name).unlink()
    assert cli(*command)[0] == 0
    assert (tmp_path / "run" / name).is_file()
    assert Checkpoint.open(tmp_path / "run").state["step"] == 6
    tally.add("faults survived", 1)


def test_a_read_only_disk(toy_runs, cli, disk, tally):  # noqa: F811
    command = arguments(toy_runs.images, disk.path / "run", "Global.max_train_step=3")
    assert cli(*command)[0] == 0
    disk.remount("ro")
    for output in ("run", "new"):
        code, _, error = cli(*arguments(toy_runs.images, disk.path / output))
        assert code == 2
        assert "cannot be written to: its file system is read-only; make it writable, or set Global.output_dir" in error
    assert cli("report", str(disk.path / "run"), "--out", "report.html", "--images", "0")[0] == 0
    disk.remount("rw")
    assert cli(*arguments(toy_runs.images, disk.path / "run"))[0] == 0
    tally.add("faults survived", 1)


def test_a_file_at_the_output_path(tmp_path, toy_runs, cli):
    (tmp_path / "run").write_text("mine", encoding="utf-8")
    code, _, error = cli(*arguments(toy_runs.images, tmp_path / "run"))
    assert code == 2
    assert f"{tmp_path}/run cannot be an output directory: {tmp_path}/run is a file; set Global.output_dir" in error
    assert (tmp_path / "run").read_text(encoding="utf-8") == "mine"


def test_a_directory_in_use_by_another_run(tmp_path, toy_runs, cli, tally):
    command = arguments(toy_runs.images, tmp_path / "run", "Global.max_train_step=3")
    assert cli(*command)[0] == 0
    before = lines(tmp_path / "run")
    other = hold(tmp_path / "run")
    code, _, error = cli(*arguments(toy_runs.images, tmp_path / "run"))
    assert code == 2
    assert f"{tmp_path}/run is in use by another run (process {other.pid} on {os.uname().nodename} since 2" in error
    assert lines(tmp_path / "run") == before
    assert cli("eval", "--checkpoint", str(tmp_path / "run"))[0] == 0
    assert cli("report", str(tmp_path / "run"), "--out", "report.html", "--images", "0")[0] == 0
    other.communicate("")
    assert cli(*arguments(toy_runs.images, tmp_path / "run"))[0] == 0
    lock = RunLock(tmp_path / "run")
    lock.acquire()  # a finished run releases its lock
    lock.release()
    tally.add("faults survived", 1)


def test_an_incomplete_line_is_removed(tmp_path, toy_runs, cli):
    command = arguments(toy_runs.images, tmp_path / "run")
    assert cli(*command, "Global.max_train_step=3")[0] == 0
    with open(tmp_path / "run" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 4, "ep')
    assert cli(*command)[0] == 0
    assert cli(*arguments(toy_runs.images, tmp_path / "whole"))[0] == 0
    kept = [line for line in lines(tmp_path / "run") if '"step": 3' not in line]
    assert kept == [line for line in lines(tmp_path / "whole") if '"step": 3' not in line]


def test_a_figure_that_does_not_fit_is_removed(disk, tally):  # noqa: F811
    log = RunLog(progress="none")
    log.open(disk.path / "run")
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    try:
        log.pictures(1, {"noise": noise})
        with open(disk.path / "fill", "wb", buffering=0) as fill:
            while shutil.disk_usage(disk.path).free:
                fill.write(bytes(2**16))
            fill.truncate(fill.tell() - 20_000)  # a part of the next one fits
        with pytest.raises(OutputError, match="step_00000002.png cannot be written: No space left on device"):
            log.pictures(2, {"noise": noise})
    finally:
        log.close()
    assert [path.name for path in (disk.path / "run" / "pictures").iterdir()] == ["step_00000001.png"]
    tally.add("faults survived", 1)


def test_a_partial_figure_of_an_older_version_does_not_stop_a_report(tmp_path, toy_runs, cli, tally):
    shutil.copytree(toy_runs.pixels, tmp_path / "run")
    picture = sorted((tmp_path / "run" / "pictures").iterdir())[-1]
    picture.write_bytes(picture.read_bytes()[:200])
    code, out, _ = cli("report", tmp_path / "run", "--images", "0")
    note = f"pictures/{picture.name} is damaged and was skipped"
    assert code == 0 and note in out
    assert note in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    tally.add("faults survived", 1)
