"""The training step: images per second, share of the machine's arithmetic, memory, and where the time goes."""

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
from plsc.engine.plan import make_plan
from plsc.engine.trainer import Trainer
from plsc.nn.precision import Precision
from plsc.runs.log import RunLog
from plsc.tasks.base import Batch

Config = RunConfig
PRODUCT = (1576, 768, 3072)  # rows, inner, columns: a perceptron's first layer over the tokens of eight images
WARM_UP = 2  # untimed calls at least, and more for as long as
STEADY = 0.97  # one takes less than this share of the one before: memory is still being touched for the first time
LEAST, MOST = 5, 50  # timed steps
PRODUCTS = 5  # how often the product is measured among them
PRODUCT_CALLS = 10  # each time
WAIT = "data wait"


def measure_step(subject: Subject, seconds: float) -> Dict[str, Any]:
    """Times optimizer steps of one micro-batch.

    Args:
        subject: From `inputs.runnable`.
        seconds: About how long the timed steps may take; there are at least `LEAST` of them.

    Returns:
        Plain data: rates, seconds, shares by stage, memory in MiB.
    """
    trainer = make_trainer(subject.config, subject.notes)
    batch = first_batch(subject)
    product = Product()
    timed = time_steps(lambda: trainer.train_step([batch]), seconds, beside=product.measure)
    memory = peak_memory()
    step, images = statistics.median(timed), batch["image"].shape[0]
    result = {
        "batch_size": images,
        "image_shape": list(batch["image"].shape[1:]),
        "seconds_per_step": step,
        "seconds_of_each_step": timed,
        "images_per_second": images / step,
        "parameters_trained": sum(p.size for p in trainer.parameters),
        **_arithmetic(trainer, subject, images / step, product.gflops()),
        **memory,
    }
    return {**result, **_stages(trainer, subject, batch, step, len(timed))}


def make_trainer(config: Config, notes: List[str]) -> Trainer:
    """The config's trainer without a loader and without callbacks; its weights are random."""
    run: settings.Global = config.global_
    loader: settings.Loader = config.loader("Train")
    task = build_task(config, run.seed)
    plan = make_plan(run, max(1, run.steps or 1000), 1, loader.batch_size)
    section = config["DataLoader"]["Train"]
    trainer = Trainer(
        task,
        registry.OPTIMIZERS.build(config["Optimizer"], model=task),
        lambda step: 1e-6,  # the rate does not change the time, and random weights stay finite
        None,
        build_list(registry.BATCH_TRANSFORMS, section.get("batch_transforms")),
        Precision(config.amp, notes.append),
        plan,
        [],
        RunLog(main=False),
        seed=run.seed,
    )
    task.train()
    return trainer


def first_batch(subject: Subject) -> Batch:
    """One batch as the loader yields it, from this process."""
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
    """Warms up until calls take as long as the ones before, then times calls, each until the device is done.

    Args:
        take: What is timed.
        seconds: About how long the timed calls may take; the warm-up ends with the call that passes twice of it.
        least: Timed calls at least.
        most: And at most.
        beside: Called `PRODUCTS` times among the timed calls and not timed with them.

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
    """The seconds of the last call."""
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
    """A float32 matrix product that is timed among the steps: what their arithmetic is compared with.

    A machine that is shared has slow seconds and fast ones; so measured, both have their share of either.
    """

    def __init__(self) -> None:
        rows, inner, columns = PRODUCT
        self._operands = paddle.rand([rows, inner]), paddle.rand([inner, columns])
        self._seconds: List[float] = []

    def measure(self) -> None:
        """Times the product some more."""
        paddle.matmul(*self._operands)
        self._seconds += [_timed(lambda: paddle.matmul(*self._operands)) for _ in range(PRODUCT_CALLS)]

    def gflops(self) -> float:
        """Its median rate so far, in 1e9 operations a second."""
        rows, inner, columns = PRODUCT
        return 2 * rows * inner * columns / statistics.median(self._seconds) / 1e9


def step_flops(task: Any, masked: int) -> Optional[int]:
    """Operations of a training step on one image: three forward passes where there is a gradient, one elsewhere.

    None if the model does not count its operations.
    """
    try:
        parts = network_flops(task.model, masked)
    except UnknownCost:
        return None
    return sum(operations * (3 if trained else 1) for operations, trained in parts.values())


def step_activations(task: Any, masked: int) -> Optional[int]:
    """Bytes that a forward pass over one image keeps, in float32; None if the model does not count them."""
    try:
        return 4 * sum(kept.saved.count for kept in network_activations(task.model, masked).values())
    except UnknownCost:
        return None


def _arithmetic(trainer: Trainer, subject: Subject, rate: float, product: float) -> Dict[str, Any]:
    flops = step_flops(trainer.task, subject.patches[0])
    return {
        "product_gflops": product,
        "gflop_per_image": None if flops is None else flops / 1e9,
        "gflops": None if flops is None else flops * rate / 1e9,
        "share_of_product": None if flops is None else flops * rate / 1e9 / product,
    }


def peak_memory() -> Dict[str, Optional[float]]:
    """The most memory there was so far, in MiB: of the process, and of Paddle's tensors."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    if paddle.device.get_device().startswith("gpu"):
        allocated = paddle.device.cuda.max_memory_allocated()
    else:
        allocated = paddle.base.core.host_memory_stat_peak_value("Allocated", 0)
    return {"peak_resident_mib": resident, "peak_tensors_mib": allocated / 2**20}


def _stages(trainer: Trainer, subject: Subject, batch: Batch, step: float, count: int) -> Dict[str, Any]:
    """Seconds and shares by stage, from steps of their own, and the wait for the loader beside them."""
    clock = StageClock()

    def take() -> None:
        with clock.measuring(REST):
            trainer.train_step([batch])

    steps = min(count, 10)
    with timed_stages(trainer, clock, lambda: trainer.train_step([batch])):
        take()
        clock.seconds.clear()
        for _ in range(steps):
            take()
    seconds = {name: value / steps for name, value in clock.seconds.items()}
    staged = sum(seconds.values())
    seconds = {WAIT: data_wait(subject, trainer, step), **_in_order(seconds)}
    return {"seconds_per_staged_step": staged, "stage_seconds": seconds, "stage_shares": shares(seconds)}


def _in_order(seconds: Dict[str, float]) -> Dict[str, float]:
    """As a step goes: targets and transforms, the model's parts, the rest of it, the loss, what follows."""
    before, after = ("batch transforms", "targets"), (MODEL, LOSS, "backward", "gradient clip")
    ends = ("task before the update", "optimizer", "task after the update", REST)
    parts = [name for name in seconds if name not in (*before, *after, *ends)]
    return {name: seconds[name] for name in (*before, *parts, *after, *ends) if name in seconds}


def data_wait(subject: Subject, trainer: Trainer, step: float) -> float:
    """Seconds that a step waits for the config's loader, once what was prepared ahead is used up.

    Reading goes on while the step computes, so both slow each other down where cores are few, as in a real run.
    """
    ahead = subject.loader.num_workers * subject.loader.prefetch if step < 1 else 0  # a slow step leaves time to refill
    waits, since = [], time.perf_counter()
    for batch in subject.reader(1 + ahead + LEAST, subject.loader.batch_size):
        waits.append(time.perf_counter() - since)
        trainer.train_step([batch])
        synchronize()
        since = time.perf_counter()
    return statistics.median(waits[1 + ahead :])
