"""Loader of batches as Paddle tensors, read by this process or by worker processes with equal results."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import sys
import traceback
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np
import paddle

from plsc.data.bad_images import UNREADABLE, BadImages, decode, encode, substitutes
from plsc.data.pipeline import Arrays, Sample, SampleDataset, Transform, collate, file_of
from plsc.data.sampler import EpochBatchSampler, Position
from plsc.data.workers import SHARED_MEMORY, Watch, Whereabouts, safe_fork
from plsc.nn.utils import tensor_of
from plsc.signals import SIGNALS
from plsc.text import lines, printable

_FAILURE = "failure"  # key of the error message of a batch that failed
_BAD = "bad images"  # key of the unreadable images of a batch
_ENOUGH_SHARED_MEMORY = 2**30  # a recipe's batch has 12 MB, and each of tens of workers holds two


class DataLoader:
    """Iterates over the micro-batches of one process, from `set_position` to the end of that epoch.

    Args:
        dataset: `dataset[index]` is a dict with `image` (PIL, RGB), `path`, and optionally `label`.
        transforms: Sample transforms, `(sample, rng) -> sample`.
        mask_generator: `(rng) -> bool (H, W)`, True = masked.
        batch_size: Samples per micro-batch and process.
        num_workers: Number of worker processes that read; 0: read in this process.
        shuffle: Use a new order every epoch.
        drop_last: Leave out the samples at the end of an epoch that do not fill a global batch.
        seed: Seed of order, transforms and masks.
        rank: Rank of this process.
        world_size: Number of training processes.
        accumulate: Micro-batches per optimizer step.
        prefetch: Batches that each worker prepares ahead.
        use_shared_memory: Pass batches from workers through /dev/shm; false: through pipes. By default /dev/shm if it
            has enough room: containers often have only 64 MB, and a worker that fills it ends with a bus error.
        timeout: Seconds that a worker may spend on one sample.
        bad_images: Policy for unreadable images; by default they are errors.
        check_label: Called with each label; raises ValueError if it is out of range.

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
        timeout: float = 120,
        bad_images: Optional[BadImages] = None,
        check_label: Optional[Callable[[Any], None]] = None,
    ) -> None:
        for name, value, least in (("num_workers", num_workers, 0), ("prefetch", prefetch, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.dataset = dataset
        self.samples = SampleDataset(dataset, transforms, mask_generator, seed, check_label)
        self.sampler = EpochBatchSampler(
            len(dataset), batch_size, accumulate, rank, world_size, shuffle, seed, drop_last
        )
        self.num_workers = num_workers
        self.prefetch = prefetch
        self.use_shared_memory = _has_shared_memory() if use_shared_memory is None else use_shared_memory
        self.timeout = timeout
        self.bad_images = bad_images or BadImages()
        self.bad_images.dataset = dataset

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
        """Set the epoch and the optimizer step in it at which the next iteration starts."""
        self.sampler.set_position(epoch, step)

    def first(self, count: int) -> Dict[str, paddle.Tensor]:
        """Return the first readable samples as one batch, read by this process; bad images are not counted.

        Raises:
            ValueError: As in iteration; or if too many images are bad, or all of them.
        """
        batches = _Batches(self.samples, self.bad_images)
        found: Dict[int, str] = {}
        samples: List[Sample] = []
        for index in range(len(self.dataset)):
            sample = batches.read((0, index), found)
            samples += [] if sample is None else [sample]
            if len(samples) == count:
                break
            self.bad_images.check(found)
        if not samples:
            raise self.bad_images.none_left(found)
        return _tensors(collate(samples))

    def __len__(self) -> int:
        """Micro-batches in a whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Dict[str, paddle.Tensor]]:
        """Yield dicts of tensors, as in `plsc.data.pipeline`; a dict is empty if all its images were left out.

        Raises:
            ValueError: If a file cannot be read or does not fit the transforms; the message names the file.
            RuntimeError: If a transform fails in another way; the message has the worker's traceback.
            ChildProcessError: If a worker has died or exceeds the timeout; the message names the file.
        """
        if self.num_workers == 0:
            batches = _Batches(self.samples, self.bad_images)
            for positions in self.sampler:
                yield self._checked(_tensors(batches.make(positions)))
            return
        for batch in self._from_workers():
            yield self._checked(batch)

    def _checked(self, batch: Dict[str, paddle.Tensor]) -> Dict[str, paddle.Tensor]:
        """Raise or record the failures in a batch, and return the batch without them."""
        if _FAILURE in batch:
            raise _error(bytes(batch[_FAILURE].numpy()).decode())
        if _BAD in batch:
            self.bad_images.note(decode(batch.pop(_BAD).numpy()))
        return batch

    def _from_workers(self) -> Iterator[Dict[str, paddle.Tensor]]:
        source, whereabouts = _OneByOne(self.sampler), Whereabouts(self.num_workers)
        with safe_fork(SIGNALS):
            reader = iter(self._reader(_Batches(self.samples, self.bad_images, whereabouts), source))
        watch = Watch(reader, whereabouts, self.timeout, self._name)
        close = functools.partial(_close, reader, source, watch)
        atexit.register(close)  # in case the process ends in the middle of an epoch
        try:
            yield from _watched(watch)
            source.stopped = True
        finally:
            close()
            atexit.unregister(close)

    def _name(self, index: int) -> str:
        return printable(file_of(self.dataset, index) or f"sample {index}")

    def _reader(self, batches: "_Batches", source: "_OneByOne") -> paddle.io.DataLoader:
        return paddle.io.DataLoader(
            batches,
            batch_sampler=source,
            collate_fn=_only,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch,
            use_shared_memory=self.use_shared_memory,
            use_buffer_reader=True,  # on a GPU, batches are copied from pinned memory while the previous step computes
            worker_init_fn=_quiet_worker,
        )


class _Batches(paddle.io.Dataset):
    """Dataset of batches by sample positions; errors are returned as batches, as Paddle would hang or hide them."""

    def __init__(self, samples: SampleDataset, bad: BadImages, whereabouts: Optional[Whereabouts] = None) -> None:
        self.samples = samples
        self.bad = bad
        self.whereabouts = whereabouts

    def __len__(self) -> int:
        return len(self.samples)

    def make(self, positions: Sequence[Position]) -> Arrays:
        """Return the samples at positions as a batch, with an entry for unreadable images."""
        found: Dict[int, str] = {}
        samples = [self.read(position, found) for position in positions]
        batch = collate([sample for sample in samples if sample is not None]) if any(samples) else {}
        return {**batch, **({_BAD: encode(found)} if found else {})}

    def read(self, position: Position, found: Dict[int, str]) -> Optional[Sample]:
        """Return a sample; if its image is bad, that of a substitute, or None if bad images are left out."""
        epoch, index = position
        others = () if self.bad.leave_out else substitutes(self.samples.seed, epoch, index, len(self.samples))
        for source in (index, *others):
            if self.whereabouts is not None:
                self.whereabouts.enter(source)
            try:
                return self.samples.read(position, source)
            except UNREADABLE as error:
                if self.bad.action == "stop":
                    raise self.bad.explained(error) from error
                found[source] = lines(error)
        if self.bad.leave_out:
            return None
        raise ValueError(
            "an image and all its substitutes cannot be read; repair or remove them:\n  " + "\n  ".join(found.values())
        )

    def __getitem__(self, positions: Sequence[Position]) -> Arrays:
        arrays = self._made(positions)
        assert self.whereabouts is not None
        self.whereabouts.leave()
        return arrays

    def _made(self, positions: Sequence[Position]) -> Arrays:
        try:
            return self.make(positions)
        except (ValueError, OSError) as error:
            text = f"{ValueError.__name__}:{error}"
        except Exception as error:  # noqa: BLE001 - carried to the main process, where it is raised
            text = f"{RuntimeError.__name__}:{error}\n\nin a worker process:\n{traceback.format_exc()}"
        return {_FAILURE: np.frombuffer(lines(text).encode(), dtype=np.uint8)}


class _OneByOne(paddle.io.BatchSampler):
    """Batch sampler that requests a whole batch as one item, until it is `stopped`."""

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
    return {key: tensor_of(value) for key, value in arrays.items()}


def _has_shared_memory() -> bool:
    return SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free >= _ENOUGH_SHARED_MEMORY


def _only(items: Sequence[Arrays]) -> Arrays:
    return items[0]


def _watched(watch: Watch) -> Iterator[Dict[str, paddle.Tensor]]:
    """Yield the batches of a reader; raise ChildProcessError if a worker fails."""
    while True:
        try:
            batch = watch.next()
        except Exception as error:  # noqa: BLE001 - raised by the watch or by Paddle
            watch.give_up(f"the loader's workers failed: {error}")
            batch = None
        if watch.failure is not None:
            raise ChildProcessError(watch.failure)
        if batch is None:
            return
        yield batch


def _close(reader: Any, source: _OneByOne, watch: Watch) -> None:
    """End the workers. Pending batches are read first; they would stay in /dev/shm even after this process ends.

    Deleting the reader is not enough: its thread keeps the reader and the workers alive.
    """
    if not source.stopped:
        source.stopped = True
        with contextlib.suppress(Exception):
            for _ in reader:
                pass
    watch.end()
    reader._try_shutdown_all()
    watch.clear_up()


def _error(text: str) -> Exception:
    kind, message = text.split(":", 1)
    return (ValueError if kind == ValueError.__name__ else RuntimeError)(message)


def _quiet_worker(worker_id: int) -> None:
    """Set up a worker: one thread, and signals that stop the job, such as Ctrl-C, are left to the main process."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked by safe_fork
    os.setpgid(0, 0)
    os.environ["OMP_NUM_THREADS"] = "1"
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)
