"""Speed of the training step: images per second, arithmetic rate, memory, and time by stage."""

import math
import resource
import statistics
import sys
import time
from typing import Any, Callable, Dict, List, Optional

import paddle

from plsc.benchmark.clock import REST, StageClock, shares, synchronize
from plsc.benchmark.inputs import Subject, positions
from plsc.benchmark.stages import LOSS, MODEL, timed_stages
from plsc.config import registry, settings
from plsc.config.run_config import RunConfig
from plsc.costs.networks import UnknownCost, network_activations, network_flops
from plsc.data.pipeline import collate
from plsc.engine.parts import build_list, build_task
from plsc.engine.step import TrainStep
from plsc.nn.precision import Precision
from plsc.tasks.base import Batch

Config = RunConfig
PRODUCT = (1576, 768, 3072)  # rows, inner, columns: the first layer of an MLP over the tokens of eight images
WARM_UP = 2  # minimum number of untimed calls; further ones follow
STEADY = 0.97  # while a call takes less than this fraction of the previous one: memory is used for the first time
LEAST, MOST = 5, 50  # timed steps
PRODUCTS = 5  # measurements of the matmul among them
PRODUCT_CALLS = 10  # calls per measurement
EPOCH = 1000  # steps, for a run whose length is given in epochs
WAIT = "data wait"


def measure_step(subject: Subject, seconds: float) -> Dict[str, Any]:
    """Time optimizer steps of one micro-batch.

    Args:
        subject: From `inputs.runnable`.
        seconds: Approximate time of all timed steps; at least `LEAST` steps are timed.

    Returns:
        Plain data: rates, seconds, time by stage and its fractions, memory in MiB.
    """
    train_step = make_step(subject.config, subject.notes)
    batch = first_batch(subject)
    product = Product()
    timed = time_steps(lambda: train_step([batch]), seconds, beside=product.measure)
    memory = peak_memory()
    step, images = statistics.median(timed), batch["image"].shape[0]
    result = {
        "batch_size": images,
        "image_shape": list(batch["image"].shape[1:]),
        "seconds_per_step": step,
        "seconds_of_each_step": timed,
        "images_per_second": images / step,
        "parameters_trained": sum(p.size for p in train_step.parameters),
        **_arithmetic(train_step.task, subject, images / step, product.gflops()),
        **memory,
    }
    return {**result, **_stages(train_step, subject, batch, step, len(timed))}


def make_step(config: Config, notes: List[str]) -> TrainStep:
    """Build the training step of a config, with random weights; `notes` gets remarks about the precision."""
    run: settings.Global = config.global_
    task = build_task(config, run.seed)
    task.train()
    return TrainStep(
        task,
        registry.OPTIMIZERS.build(config["Optimizer"], model=task),
        lambda step: 1e-6,  # the rate does not change the time, and random weights stay finite
        build_list(registry.BATCH_TRANSFORMS, config.nodes("DataLoader.Train.batch_transforms")),
        Precision(config.amp, notes.append),
        total_steps=run.steps or math.ceil(EPOCH * (run.epochs or 1)),
        seed=run.seed,
    )


def first_batch(subject: Subject) -> Batch:
    """Return one batch as the loader yields it, read by this process."""
    samples = subject.samples()
    order = positions(len(samples))
    arrays = collate([samples[next(order)] for _ in range(subject.loader.batch_size)])
    return {key: paddle.to_tensor(value) for key, value in arrays.items()}


def time_steps(
    take: Callable[[], Any],
    seconds: float,
    least: int = LEAST,
    most: int = MOST,
    beside: Optional[Callable[[], None]] = None,
) -> List[float]:
    """Warm up until calls no longer get faster, then time calls; each call includes the wait for the device.

    Args:
        take: Function to time.
        seconds: Approximate time of all timed calls; the warm-up takes at most about twice as long.
        least: Minimum number of timed calls.
        most: Maximum number of timed calls.
        beside: Called `PRODUCTS` times between timed calls; its time is not included.

    Returns:
        The seconds of each call.
    """
    once = _warm_up(take, 2 * seconds)
    count = int(min(max(seconds / max(once, 1e-9), least), most))
    timed = []
    for number in range(count):
        timed.append(_timed(take))
        if beside is not None and number % max(1, count // PRODUCTS) == 0:
            beside()
    return timed


def _warm_up(take: Callable[[], Any], seconds: float) -> float:
    """Return the seconds of the last call."""
    calls = [_timed(take)]
    while sum(calls) < seconds and (len(calls) < WARM_UP or calls[-1] < STEADY * calls[-2]):
        calls.append(_timed(take))
    return calls[-1]


def _timed(take: Callable[[], Any]) -> float:
    synchronize()
    start = time.perf_counter()
    take()
    synchronize()
    return time.perf_counter() - start


class Product:
    """A float32 matmul that is timed between the steps, as a reference for their arithmetic rate.

    It is measured between the steps so that slow seconds of a shared machine affect both.
    """

    def __init__(self) -> None:
        rows, inner, columns = PRODUCT
        self._operands = paddle.rand([rows, inner]), paddle.rand([inner, columns])
        self._seconds: List[float] = []

    def measure(self) -> None:
        """Time some calls of the matmul."""
        paddle.matmul(*self._operands)
        self._seconds += [_timed(lambda: paddle.matmul(*self._operands)) for _ in range(PRODUCT_CALLS)]

    def gflops(self) -> float:
        """Return the median rate so far, in 1e9 operations per second."""
        rows, inner, columns = PRODUCT
        return 2 * rows * inner * columns / statistics.median(self._seconds) / 1e9


def step_flops(task: Any, masked: int) -> Optional[int]:
    """Return the operations of a training step on one image; None if they are unknown for this model.

    A trained part counts as three forward passes, any other part as one.
    """
    try:
        parts = network_flops(task.model, masked)
    except UnknownCost:
        return None
    return sum(operations * (3 if trained else 1) for operations, trained in parts.values())


def step_activations(task: Any, masked: int) -> Optional[int]:
    """Return the activation memory of one image in bytes, in float32; None if it is unknown for this model."""
    try:
        return 4 * sum(kept.saved.count for kept in network_activations(task.model, masked).values())
    except UnknownCost:
        return None


def _arithmetic(task: Any, subject: Subject, rate: float, product: float) -> Dict[str, Any]:
    flops = step_flops(task, subject.patches[0])
    return {
        "product_gflops": product,
        "gflop_per_image": None if flops is None else flops / 1e9,
        "gflops": None if flops is None else flops * rate / 1e9,
        "share_of_product": None if flops is None else flops * rate / 1e9 / product,
    }


def peak_memory() -> Dict[str, Optional[float]]:
    """Return the peak memory in MiB, of the process and of Paddle's tensors."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    if paddle.device.get_device().startswith("gpu"):
        allocated = paddle.device.cuda.max_memory_allocated()
    else:
        allocated = paddle.base.core.host_memory_stat_peak_value("Allocated", 0)
    return {"peak_resident_mib": resident, "peak_tensors_mib": allocated / 2**20}


def _stages(train_step: TrainStep, subject: Subject, batch: Batch, step: float, count: int) -> Dict[str, Any]:
    """Measure the seconds of each stage and their fractions in further steps, and the wait for the loader."""
    clock = StageClock()

    def take() -> None:
        with clock.measuring(REST):
            train_step([batch])

    steps = min(count, 10)
    with timed_stages(train_step, clock, lambda: train_step([batch])):
        take()
        clock.seconds.clear()
        for _ in range(steps):
            take()
    seconds = {name: value / steps for name, value in clock.seconds.items()}
    staged = sum(seconds.values())
    seconds = {WAIT: data_wait(subject, train_step, step), **_in_order(seconds)}
    return {"seconds_per_staged_step": staged, "stage_seconds": seconds, "stage_shares": shares(seconds)}


def _in_order(seconds: Dict[str, float]) -> Dict[str, float]:
    """Order the stages as in a step."""
    before, after = ("batch transforms", "targets"), (MODEL, LOSS, "backward", "gradient exchange", "gradient clip")
    ends = ("task before the update", "optimizer", "task after the update", REST)
    parts = [name for name in seconds if name not in (*before, *after, *ends)]
    return {name: seconds[name] for name in (*before, *parts, *after, *ends) if name in seconds}


def data_wait(subject: Subject, train_step: TrainStep, step: float) -> float:
    """Return the seconds that a step waits for the config's loader after the prefetched batches are used up.

    The loader reads while the step computes, so they compete for cores, as in a real run.
    """
    ahead = subject.loader.num_workers * subject.loader.prefetch if step < 1 else 0  # a slow step leaves time to refill
    waits, since = [], time.perf_counter()
    for batch in subject.reader(1 + ahead + LEAST, subject.loader.batch_size):
        waits.append(time.perf_counter() - since)
        train_step([batch])
        synchronize()
        since = time.perf_counter()
    return statistics.median(waits[1 + ahead :])
