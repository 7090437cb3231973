"""Speed of the data: images per second of one core, time by transform, and speed of the configured loader."""

import contextlib
import math
import statistics
import sys
import time
from typing import Any, Dict, Iterator, List

import numpy as np

from plsc.benchmark.clock import StageClock, shares
from plsc.benchmark.inputs import Subject, positions
from plsc.config import registry
from plsc.data.batch_transforms import IMAGENET_MEAN, IMAGENET_STD
from plsc.data.pipeline import SampleDataset, collate
from plsc.data.transforms import map_images

READ, REST = "read and decode", "arrays, masks, batches"
RUNS = 5  # number of measurements, of which the median is reported
SMALL_BATCH = 16  # does not change the loader's speed, but shortens the time until it is steady
LEAST = 2  # batches
_SCALE = np.float32(1 / 255)
_MEAN, _STD = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)


def measure_data(subject: Subject, seconds: float) -> Dict[str, Any]:
    """Measure reading of the training set as in a run.

    Args:
        subject: From `inputs.runnable`.
        seconds: Approximate time of each of four measurements.

    Returns:
        Plain data: rates in images per second, seconds per image by transform and their fractions.
    """
    with _one_thread():
        result = {**_one_core(subject, seconds), **_by_transform(subject, seconds)}
    return {**result, **_loader_rate(subject, seconds, result["images_per_second_per_core"])}


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Limit OpenCV to one core, as in the loader's workers."""
    cv2 = sys.modules.get("cv2")
    threads = cv2.getNumThreads() if cv2 is not None else 0
    if cv2 is not None:
        cv2.setNumThreads(0)
    try:
        yield
    finally:
        if cv2 is not None:
            cv2.setNumThreads(threads)


def _one_core(subject: Subject, seconds: float) -> Dict[str, Any]:
    """Measure images per second of processor time and of wall-clock time, and those of the plain pipeline.

    The two times differ if the disk is slow or other processes run. The plain pipeline is measured alternately, so that
    slow seconds of a shared machine affect both.
    """
    own, plain = _Reading(subject.samples()), _Reading(_plain(subject))
    for _ in range(RUNS):
        own.read(seconds / RUNS)
        plain.read(seconds / RUNS)
    rate, plain_rate = statistics.median(own.by_cpu), statistics.median(plain.by_cpu)
    return {
        "images": own.images,
        "images_per_second_per_core": rate,
        "images_per_second_by_the_clock": statistics.median(own.by_clock),
        "plain_images_per_second_per_core": plain_rate,
        "times_plain": rate / plain_rate,
    }


class _Reading:
    """Rates at which samples are read and collated, one for each call of `read`."""

    def __init__(self, samples: SampleDataset) -> None:
        self.samples = samples
        self.order = positions(len(samples))
        self.images = 0
        self.by_cpu: List[float] = []
        self.by_clock: List[float] = []
        samples[next(self.order)]  # tables and imports that only the first image needs

    def read(self, seconds: float) -> None:
        """Read and collate samples for this time, and append the rates."""
        batch, cpu, start = [], time.process_time(), time.perf_counter()
        while not batch or time.perf_counter() - start < seconds:
            batch.append(self.samples[next(self.order)])
            if len(batch) % SMALL_BATCH == 0:
                collate(batch[-SMALL_BATCH:])
        self.by_cpu.append(len(batch) / max(time.process_time() - cpu, 1e-9))
        self.by_clock.append(len(batch) / (time.perf_counter() - start))
        self.images += len(batch)


def _plain(subject: Subject) -> SampleDataset:
    """Return the samples of a config prepared as in PLSC: read by Pillow, each image normalized in numpy."""
    node, dataset = subject.config["DataLoader"]["Train"]["dataset"], subject.dataset
    if node.get("decoder") == "fast":
        dataset = registry.DATASETS.build({**node, "decoder": "pillow"})
    return SampleDataset(dataset, [*subject.transforms, _normalised], subject.masks)


def _normalised(sample: Dict[str, Any], rng: np.random.Generator) -> Dict[str, Any]:
    """Convert images to normalized float32 (3, H, W); a transform of samples."""
    return map_images(sample, lambda image: ((np.asarray(image) * _SCALE - _MEAN) / _STD).transpose(2, 0, 1))


class _Timed:
    """A dataset that counts reading as a stage."""

    def __init__(self, dataset: Any, clock: StageClock) -> None:
        self.dataset = dataset
        self.clock = clock

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        with self.clock.measuring(READ):
            return self.dataset[index]


def _by_transform(subject: Subject, seconds: float) -> Dict[str, Any]:
    clock = StageClock()
    names = _distinct([type(transform).__name__ for transform in subject.transforms])
    timed = [clock.wrap(transform, name) for transform, name in zip(subject.transforms, names)]
    samples = SampleDataset(_Timed(subject.dataset, clock), timed, subject.masks)
    order = positions(len(samples))
    samples[next(order)]
    clock.seconds.clear()
    start, read = time.perf_counter(), 0
    while not read or time.perf_counter() - start < seconds:
        with clock.measuring(REST):
            collate([samples[next(order)] for _ in range(SMALL_BATCH)])
        read += SMALL_BATCH
    per_image = {name: clock.seconds[name] / read for name in (READ, *names, REST)}
    return {"transform_seconds_per_image": per_image, "transform_shares": shares(per_image)}


def _distinct(names: List[str]) -> List[str]:
    """Append a number to repeated names."""
    return [f"{name} {names[:i].count(name) + 1}" if names[:i].count(name) else name for i, name in enumerate(names)]


def _loader_rate(subject: Subject, seconds: float, expected: float) -> Dict[str, Any]:
    """Measure the images per second of the loader alone, with the config's workers, after it is steady."""
    size, workers = min(subject.loader.batch_size, SMALL_BATCH), subject.loader.num_workers
    ahead = workers * subject.loader.prefetch + 1  # batches that are prepared in advance
    most = ahead + max(LEAST, math.ceil(seconds * expected * max(1, workers) / size))
    reader = subject.reader(most, size)
    start, count = 0.0, 0
    batches = iter(reader)
    for number, _ in enumerate(batches, start=1):
        if number == ahead:
            start = time.perf_counter()
        elif number > ahead:
            count += 1
            elapsed = time.perf_counter() - start
            if count >= LEAST and elapsed > seconds:
                break
    batches.close()
    rate = count * size / elapsed
    return {"num_workers": workers, "loader_images": count * size, "loader_images_per_second": rate}
