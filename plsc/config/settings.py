"""The sections of a config that describe the run itself: plain values, checked like a component's arguments.

Every field is a YAML key; the comment beside it is its documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Literal, Optional

from plsc.runtime import MOST_THREADS


def at_least(least: float, default: Any) -> Any:
    """A field whose value plsc.config.schema refuses if it is smaller than `least`; null is left to the type."""
    return field(default=default, metadata={"at_least": least})


def between(least: float, most: float, default: Any) -> Any:
    """A field whose value plsc.config.schema refuses if it is smaller than `least` or larger than `most`."""
    return field(default=default, metadata={"at_least": least, "at_most": most})


@dataclass
class Global:
    """The run: how long, where to, how often to log, evaluate and save."""

    output_dir: str = "output"  # everything the run writes goes here
    epochs: Optional[float] = None  # length of the run and of the schedules; or give `steps`
    steps: Optional[int] = at_least(1, None)  # length in optimizer steps instead of epochs
    max_train_step: Optional[int] = at_least(1, None)  # stop after this many steps; the schedules stay as they are
    seed: int = at_least(0, 0)  # of everything random
    device: Literal["auto", "cpu", "gpu"] = "auto"  # auto: the GPU if this build of Paddle sees one
    accumulate_steps: int = at_least(1, 1)  # micro-batches per optimizer step
    global_batch_size: Optional[int] = at_least(1, None)  # images per optimizer step; sets accumulate_steps
    log_every_steps: int = at_least(1, 20)  # steps between two lines of metrics.jsonl, VisualDL and a plain terminal
    eval_every_epochs: Optional[int] = at_least(1, 1)  # null: only at the end
    save_every_epochs: Optional[int] = at_least(1, 1)  # null: only at the end
    save_every_steps: Optional[int] = at_least(1, None)  # besides `save_every_epochs`
    keep_last: int = at_least(1, 3)  # checkpoints kept besides `best`
    monitor: Optional[str] = None  # evaluation metric that decides `best`, such as top1
    monitor_mode: Literal["max", "min"] = "max"  # whether the best is the highest or the lowest
    resume: Optional[str] = "auto"  # auto: continue from output_dir if it has a checkpoint; a path; or null
    on_nonfinite: Literal["stop", "skip", "rewind"] = "stop"  # gradients that are not finite; docs/distributed.md
    nonfinite_limit: int = at_least(1, 10)  # steps that skip or rewind may leave out before the run stops
    check_sync_every: Optional[int] = at_least(1, None)  # steps between comparisons of all processes' parameters
    deterministic: bool = False  # on a GPU: the same numbers every time, slower; docs/configuration.md
    num_threads: Optional[int] = between(1, MOST_THREADS, None)  # CPU threads; null: one per core
    progress: Literal["auto", "bar", "lines", "none"] = "auto"  # auto: a bar on a terminal, lines elsewhere
    report: bool = False  # write report.html into output_dir at the end; docs/reports.md
    profile: Optional[Dict[str, int]] = None  # {start: 10, stop: 20}: trace these steps into output_dir/profile

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give the length of the run as either epochs or steps, and set the other to null")
        if self.epochs is not None and self.epochs <= 0:
            raise ValueError(f"epochs must be more than 0, got {self.epochs}")
        if self.profile is not None:
            _check_profile(self.profile)


def _check_profile(steps: Dict[str, int]) -> None:
    if set(steps) != {"start", "stop"} or not 0 <= steps["start"] < steps["stop"]:
        raise ValueError(
            f"profile needs two numbers of optimizer steps, start from 0 on and a later stop, as in "
            f"{{start: 10, stop: 20}}, got {dict(steps)}"
        )


@dataclass
class Init:
    """Where initial weights come from, and which of them are taken."""

    checkpoint: Optional[str] = None  # a run directory, a checkpoint or a published file; null: random
    take: Optional[str] = "encoder"  # the part of the checkpoint: `encoder`, another prefix of its names; null: all
    into: Optional[str] = None  # the part of the task it goes to; null: the one that `take` names
    allow_missing: List[str] = field(default_factory=list)  # patterns of names that may stay as initialised
    allow_unexpected: List[str] = field(default_factory=list)  # patterns of names that may be left in the file
    grid: Optional[List[int]] = None  # rows and columns of the file's patches; null: as the file says, or a square

    def __post_init__(self) -> None:
        if self.grid is not None and (len(self.grid) != 2 or min(self.grid) < 1):
            raise ValueError(f"grid must be two positive numbers, rows and columns, got {self.grid}")


@dataclass
class AMP:
    """Mixed precision; on a device without it the run says so once and goes on in float32."""

    level: Literal["O0", "O1", "O2"] = "O0"  # O1: products in 16 bits; O2: parameters too, with float32 masters
    dtype: Literal["auto", "float16", "bfloat16"] = "auto"  # auto: bfloat16 if the device has it
    init_loss_scaling: float = 65536.0  # of float16; halved when gradients overflow, doubled after `growth_steps`
    growth_steps: int = at_least(1, 2000)  # steps without an overflow before the scale is doubled

    def __post_init__(self) -> None:
        if self.init_loss_scaling < 1:
            raise ValueError(f"init_loss_scaling must be at least 1, got {self.init_loss_scaling}")


@dataclass
class EMA:
    """An exponential moving average of the weights, evaluated and saved beside them."""

    decay: Optional[float] = None  # null: none
    warmup: bool = False  # use min(decay, (1 + step) / (10 + step))

    def __post_init__(self) -> None:
        if self.decay is not None and not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")


@dataclass
class DistributedStrategy:
    """How a job on several devices divides work and memory; a single process runs the same config alone."""

    data_parallel: bool = True  # false: an error if processes would be copies of each other
    sharding_degree: int = at_least(1, 1)  # processes that share the optimizer's state (ZeRO stage 1); 1: none
    recompute: List[str] = field(default_factory=list)  # patterns of layers, such as "encoder.blocks.*"
    sync_batch_norm: bool = True  # statistics of batch normalisation over all processes
    bucket_mb: int = at_least(1, 128)  # gradients in one message
    overlap: bool = False  # gradients are sent while the backward pass goes on; not with recompute
    timeout: int = at_least(1, 60)  # seconds until processes that do not find each other give up
    collective_timeout: int = at_least(1, 3600)  # seconds the processes wait for one that is busy or stopped


@dataclass
class Loader:
    """How a dataset becomes batches."""

    batch_size: int = field(metadata={"at_least": 1})  # images per micro-batch and device
    num_workers: int = between(0, 1024, 0)  # processes that read and transform images; 0: the training process itself
    shuffle: bool = True  # a new order in every epoch; never in evaluation
    drop_last: bool = True  # leave out what fills no global batch; never in evaluation
    prefetch: int = between(1, 1024, 2)  # batches each worker prepares ahead
    timeout: int = at_least(1, 120)  # seconds a worker may spend on one image before the run stops
    on_bad_image: Literal["stop", "skip"] = "stop"  # an image that cannot be read; docs/data.md
    max_bad_images: int = at_least(1, 100)  # different images that may be skipped before the run stops
