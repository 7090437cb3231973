import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from plsc.data.folder import ImageFolder
from plsc.data.loader import DataLoader
from plsc.data.transforms import RandomHorizontalFlip, TwoSizeCrop
from tests.data.toys import Images, Mask, write_images

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="worker processes need Linux in Paddle")


def loader(dataset=None, **options):
    transforms = [RandomHorizontalFlip(), TwoSizeCrop(8, 4)]
    return DataLoader(dataset or Images(22), transforms, Mask(), **{"batch_size": 4, "seed": 1, **options})


def read(given, epoch=0, step=0):
    given.set_position(epoch, step)
    return [{key: value.numpy() for key, value in batch.items()} for batch in list(given)]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
            assert one[key].dtype == other[key].dtype


def children():
    """Running child processes of this process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.append(status.parent.name)
    return found


def test_a_batch_of_tensors():
    batch = next(iter(loader()))
    shapes = {key: (list(value.shape), str(value.dtype).rsplit(".", 1)[-1]) for key, value in batch.items()}
    assert shapes == {
        "image": ([4, 3, 8, 8], "uint8"),
        "target_image": ([4, 3, 4, 4], "uint8"),
        "label": ([4], "int64"),
        "index": ([4], "int64"),
        "mask": ([4, 16], "bool"),
        "visible_index": ([4, 10], "int64"),
        "masked_index": ([4, 6], "int64"),
    }
    assert isinstance(batch["image"], paddle.Tensor)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shared", [True, False])
def test_results_do_not_depend_on_workers(workers, shared):
    reading = loader(num_workers=workers, use_shared_memory=shared)
    for epoch, step in ((0, 0), (1, 0), (1, 3)):
        assert_same(read(reading, epoch, step), read(loader(), epoch, step))


def test_small_shared_memory_is_not_used(monkeypatch):
    for free, expected in ((2**26, False), (2**34, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        assert loader().use_shared_memory == expected
        assert loader(use_shared_memory=True).use_shared_memory
    monkeypatch.setattr("plsc.data.loader.SHARED_MEMORY", Path("/nowhere"))
    assert not loader().use_shared_memory


def test_continues_in_the_middle_of_an_epoch():
    assert_same(read(loader(), 2, 3), read(loader(), 2)[3:])


def test_stays_at_its_position():
    reading = loader(shuffle=False, drop_last=False)
    assert_same([{k: v.numpy() for k, v in b.items()} for b in reading], read(reading))


@pytest.mark.parametrize(("batch_size", "accumulate", "world_size"), [(4, 2, 1), (4, 1, 2), (2, 2, 2)])
def test_global_batches_do_not_depend_on_their_division(batch_size, accumulate, world_size):
    whole = read(loader(batch_size=8))
    parts = [
        read(loader(batch_size=batch_size, accumulate=accumulate, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for step, expected in enumerate(whole):
        micro = [parts[rank][step * accumulate + a] for a in range(accumulate) for rank in range(world_size)]
        assert_same([{key: np.concatenate([part[key] for part in micro]) for key in expected}], [expected])


def test_lengths():
    reading = loader(batch_size=2, accumulate=3)
    assert len(reading) == len(read(reading)) == 9
    assert (reading.steps_per_epoch, reading.accumulate, reading.global_batch_size) == (3, 3, 6)


def test_every_sample_once_in_evaluation():
    batches = read(loader(shuffle=False, drop_last=False, num_workers=1))
    assert np.concatenate([batch["index"] for batch in batches]).tolist() == list(range(22))
    assert len(batches[-1]["index"]) == 2


def shared_memory(workers):
    return [path.name for pid in workers for path in Path("/dev/shm").glob(f"paddle_{pid}_*")]


def test_no_worker_outlives_its_epoch():
    reading = loader(num_workers=2)
    for epoch in range(3):
        read(reading, epoch)
        assert children() == []


@pytest.mark.parametrize("taken", range(5))
def test_leaving_an_epoch_early_ends_workers_and_frees_memory(taken):
    reading = loader(Images(64), num_workers=2, use_shared_memory=True)
    batches = iter(reading)
    for _ in range(taken + 1):
        next(batches)
    workers = children()
    assert len(workers) == 2
    batches.close()
    assert children() == []
    assert shared_memory(workers) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_is_named(tmp_path, workers):
    root = write_images(tmp_path, [f"a/{number}.png" for number in range(8)])
    (tmp_path / "a" / "5.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"a/5.png: is not an image of a known format, or is damaged"):
        read(loader(ImageFolder(root), num_workers=workers))
    assert children() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_file_is_named(tmp_path, workers):
    root = write_images(tmp_path, [f"a/{number}.png" for number in range(8)])
    dataset = ImageFolder(root)
    (tmp_path / "a" / "5.png").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match="a/5.png: there is no such file"):
        read(loader(dataset, num_workers=workers))


def test_a_bug_in_a_worker_comes_with_its_traceback():
    class Broken(Images):
        def __getitem__(self, index):
            return {}[f"bug {index}"]

    with pytest.raises(RuntimeError, match=r"bug \d+[\s\S]*in a worker process:\n[\s\S]*in __getitem__"):
        read(loader(Broken(), num_workers=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"prefetch": 0}, "prefetch must be at least 1, got 0"),
        ({"batch_size": 50}, "22 samples, fewer than one global batch of 50"),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        loader(**options)


def run(script, **options):
    """Start a process in a new process group that runs `script` with a loader of 2 workers, and read its marks."""
    head = "import os, signal, sys, time\nfrom tests.data.test_loader import loader, Images\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", head + textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        **options,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_group_reach_the_main_process_only(number):
    process = run(
        f"""
        asked = []
        signal.signal({int(number)}, lambda *_: asked.append(True))
        batches = iter(loader(Images(200), num_workers=2))
        next(batches)
        print("ready", flush=True)
        while not asked:
            time.sleep(0.05)
        print("read", 1 + sum(1 for _ in batches), flush=True)
        """
    )
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert out == "read 50\n", err
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_as_soon_as_a_worker_exists_does_not_end_it(number):
    process = run(
        f"""
        os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), {int(number)}))
        print("read", sum(1 for _ in loader(Images(200), num_workers=2)), flush=True)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        print("blocked", len(blocked), flush=True)
        """
    )
    out, err = process.communicate(timeout=60)
    assert out == "read 50\nblocked 0\n", err


def test_a_process_may_end_in_the_middle_of_an_epoch():
    process = run(
        """
        import multiprocessing
        batches = iter(loader(Images(200), num_workers=2))
        next(batches)
        print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
        """
    )
    out, err = process.communicate(timeout=60)
    assert (len(out.split()), process.returncode) == (2, 0), err
    assert "Traceback" not in err
    assert shared_memory(out.split()) == []
