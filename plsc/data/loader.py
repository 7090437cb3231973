"""Batches as Paddle tensors, read in this process or by worker processes, the same either way."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np
import paddle

from plsc.data.pipeline import Arrays, SampleDataset, Transform, collate
from plsc.data.sampler import EpochBatchSampler, Position

_FAILURE = "failure"  # key of a batch that could not be made
_SHARED_MEMORY = Path("/dev/shm")
_ENOUGH_SHARED_MEMORY = 2**30  # a recipe's batch has 12 MB, and there are two for each of tens of workers


class DataLoader:
    """Iterates over the micro-batches of one process, from `set_position` to the end of that epoch.

    Args:
        dataset: `dataset[index]` is a dict with `image` (PIL, RGB), `path`, and maybe `label`.
        transforms: Of samples, `(sample, rng) -> sample`.
        mask_generator: `(rng) -> bool (H, W)`, True = masked.
        batch_size: Samples per micro-batch and process.
        num_workers: Processes that read; 0: this one.
        shuffle: A new order every epoch.
        drop_last: Leaves out what fills no global batch.
        seed: Of order, transforms and masks.
        rank: This process.
        world_size: Number of processes that train.
        accumulate: Micro-batches per optimizer step.
        prefetch: Batches each worker prepares ahead.
        use_shared_memory: Workers hand batches over in /dev/shm; false: through pipes; not given: whichever fits, as
            containers often have 64 MB there, and a worker that finds it full dies of a bus error.

    Raises:
        ValueError: If a number is out of range or the dataset has less than one global batch.
    """

    def __init__(
        self,
        dataset: Any,
        transforms: Sequence[Transform] = (),
        mask_generator: Optional[Callable[[np.random.Generator], np.ndarray]] = None,
        batch_size: int = 1,
        num_workers: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        prefetch: int = 2,
        use_shared_memory: Optional[bool] = None,
    ) -> None:
        for name, value, least in (("num_workers", num_workers, 0), ("prefetch", prefetch, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.dataset = dataset
        self.samples = SampleDataset(dataset, transforms, mask_generator, seed)
        self.sampler = EpochBatchSampler(
            len(dataset), batch_size, accumulate, rank, world_size, shuffle, seed, drop_last
        )
        self.num_workers = num_workers
        self.prefetch = prefetch
        self.use_shared_memory = _has_shared_memory() if use_shared_memory is None else use_shared_memory

    @property
    def accumulate(self) -> int:
        """Micro-batches per optimizer step."""
        return self.sampler.accumulate

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer step over all processes."""
        return self.sampler.global_batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in a whole epoch."""
        return self.sampler.steps_per_epoch

    @property
    def batches_of_all(self) -> int:
        """Micro-batches that every process has."""
        return self.sampler.batches_of_all

    def set_position(self, epoch: int, step: int) -> None:
        """Chooses the epoch, and the optimizer step in it, at which the next iteration starts."""
        self.sampler.set_position(epoch, step)

    def first(self, count: int) -> Dict[str, paddle.Tensor]:
        """The first samples of the data set as one batch, read by this process.

        Raises:
            ValueError: As in iterating.
        """
        return _tensors(_Batches(self.samples).make([(0, index) for index in range(min(count, len(self.dataset)))]))

    def __len__(self) -> int:
        """Micro-batches in a whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Dict[str, paddle.Tensor]]:
        """Yields dicts of tensors, as described in `plsc.data.pipeline`.

        Raises:
            ValueError: If a file cannot be read or does not fit; the message names it.
            RuntimeError: If a transform fails in another way; with the worker's traceback.
        """
        batches = _Batches(self.samples)
        if self.num_workers == 0:
            for positions in self.sampler:
                yield _tensors(batches.make(positions))
            return
        yield from self._from_workers(batches)

    def _from_workers(self, batches: "_Batches") -> Iterator[Dict[str, paddle.Tensor]]:
        source = _OneByOne(self.sampler)
        reader = iter(self._reader(batches, source))
        close = functools.partial(_close, reader, source)
        atexit.register(close)  # for a process that ends in the middle of an epoch
        try:
            for batch in reader:
                if _FAILURE in batch:
                    raise _error(bytes(batch[_FAILURE].numpy()).decode())
                yield batch
            source.stopped = True
        finally:
            close()
            atexit.unregister(close)

    def _reader(self, batches: "_Batches", source: "_OneByOne") -> paddle.io.DataLoader:
        return paddle.io.DataLoader(
            batches,
            batch_sampler=source,
            collate_fn=_only,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch,
            use_shared_memory=self.use_shared_memory,
            worker_init_fn=_quiet_worker,
        )


class _Batches(paddle.io.Dataset):
    """Batches by the positions of their samples; a failure is a batch too, as Paddle would hang or hide it."""

    def __init__(self, samples: SampleDataset) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def make(self, positions: Sequence[Position]) -> Arrays:
        return collate([self.samples[position] for position in positions])

    def __getitem__(self, positions: Sequence[Position]) -> Arrays:
        try:
            return self.make(positions)
        except (ValueError, OSError) as error:
            text = f"{ValueError.__name__}:{error}"
        except Exception as error:  # noqa: BLE001 - carried to the main process, where it is raised
            text = f"{RuntimeError.__name__}:{error}\n\nin a worker process:\n{traceback.format_exc()}"
        return {_FAILURE: np.frombuffer(text.encode(), dtype=np.uint8)}


class _OneByOne(paddle.io.BatchSampler):
    """Makes Paddle ask the dataset for a whole batch at once, until it is `stopped`."""

    def __init__(self, sampler: EpochBatchSampler) -> None:
        self.batches = sampler
        self.stopped = False

    def __iter__(self) -> Iterator[List[List[Position]]]:
        for positions in self.batches:
            if self.stopped:
                return
            yield [positions]

    def __len__(self) -> int:
        return len(self.batches)


def _tensors(arrays: Arrays) -> Dict[str, paddle.Tensor]:
    return {key: paddle.to_tensor(value) for key, value in arrays.items()}


def _has_shared_memory() -> bool:
    return _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free >= _ENOUGH_SHARED_MEMORY


def _only(items: Sequence[Arrays]) -> Arrays:
    return items[0]


def _close(reader: Any, source: _OneByOne) -> None:
    """Ends the workers. What is on its way is taken first: it would stay in /dev/shm, even after this process.

    Dropping the reader would not do: its own thread keeps it alive, and the workers with it.
    """
    if not source.stopped:
        source.stopped = True
        with contextlib.suppress(Exception):
            for _ in reader:
                pass
    reader._try_shutdown_all()


def _error(text: str) -> Exception:
    kind, message = text.split(":", 1)
    return (ValueError if kind == ValueError.__name__ else RuntimeError)(message)


def _quiet_worker(worker_id: int) -> None:
    """One thread per worker; signals to the job's process group, such as Ctrl-C, reach the main process only."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.environ["OMP_NUM_THREADS"] = "1"
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)
