"""Config sections of plain values, such as `Global` and `AMP`, checked like the arguments of a component.

Every field is a YAML key; the comment beside it is its documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Literal, Optional

from plsc.runtime import MOST_THREADS


def at_least(least: float, default: Any) -> Any:
    """Return a field that plsc.config.schema rejects if its value is below `least`; the type decides about null."""
    return field(default=default, metadata={"at_least": least})


def between(least: float, most: float, default: Any) -> Any:
    """Return a field that plsc.config.schema rejects if its value is below `least` or above `most`."""
    return field(default=default, metadata={"at_least": least, "at_most": most})


@dataclass
class Global:
    """Settings of the run: length, output directory, and intervals of logging, evaluation and saving."""

    output_dir: str = "output"  # directory of all files that the run writes
    epochs: Optional[float] = None  # length of the run and of the schedules; or set `steps`
    steps: Optional[int] = at_least(1, None)  # length in optimizer steps instead of epochs
    max_train_step: Optional[int] = at_least(1, None)  # stop after this many steps; the schedules do not change
    seed: int = at_least(0, 0)  # seed of all random numbers
    device: Literal["auto", "cpu", "gpu"] = "auto"  # auto: the GPU if this build of Paddle sees one
    accumulate_steps: int = at_least(1, 1)  # micro-batches per optimizer step
    global_batch_size: Optional[int] = at_least(1, None)  # images per optimizer step; sets accumulate_steps
    log_every_steps: int = at_least(1, 20)  # steps between two lines of metrics.jsonl, VisualDL and a plain terminal
    eval_every_epochs: Optional[int] = at_least(1, 1)  # null: only at the end
    save_every_epochs: Optional[int] = at_least(1, 1)  # null: only at the end
    save_every_steps: Optional[int] = at_least(1, None)  # besides `save_every_epochs`
    keep_last: int = at_least(1, 3)  # checkpoints kept besides `best`
    monitor: Optional[str] = None  # evaluation metric that decides `best`, such as top1
    monitor_mode: Literal["max", "min"] = "max"  # max: the highest value is the best; min: the lowest
    resume: Optional[str] = "auto"  # auto: continue from output_dir if it has a checkpoint; a path; or null
    on_nonfinite: Literal["stop", "skip", "rewind"] = "stop"  # if gradients are not finite; docs/distributed.md
    nonfinite_limit: int = at_least(1, 10)  # steps that skip or rewind may omit before the run stops
    check_sync_every: Optional[int] = at_least(1, None)  # steps between comparisons of all processes' parameters
    deterministic: bool = False  # on a GPU: the same results in every run, slower; docs/configuration.md
    num_threads: Optional[int] = between(1, MOST_THREADS, None)  # CPU threads; null: one per core
    progress: Literal["auto", "bar", "lines", "none"] = "auto"  # auto: a bar on a terminal, lines elsewhere
    report: bool = False  # write report.html into output_dir at the end; docs/reports.md
    profile: Optional[Dict[str, int]] = None  # {start: 10, stop: 20}: trace these steps into output_dir/profile

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("set the length of the run by either epochs or steps, and set the other to null")
        if self.epochs is not None and self.epochs <= 0:
            raise ValueError(f"epochs must be more than 0, got {self.epochs}")
        if self.profile is not None:
            _check_profile(self.profile)


def _check_profile(steps: Dict[str, int]) -> None:
    if set(steps) != {"start", "stop"} or not 0 <= steps["start"] < steps["stop"]:
        raise ValueError(
            f"profile must have two optimizer steps, start >= 0 and stop > start, such as {{start: 10, stop: 20}}, "
            f"got {dict(steps)}"
        )


@dataclass
class Init:
    """Source of the initial weights, and the selection of weights to load."""

    checkpoint: Optional[str] = None  # a run directory, a checkpoint or a published file; null: random
    take: Optional[str] = "encoder"  # part of the checkpoint: `encoder`, another prefix of its names; null: all
    into: Optional[str] = None  # part of the task to load into; null: the same as `take`
    allow_missing: List[str] = field(default_factory=list)  # patterns of names that may stay as initialized
    allow_unexpected: List[str] = field(default_factory=list)  # patterns of names in the file that may remain unused
    grid: Optional[List[int]] = None  # rows and columns of the file's patches; null: from the file, or a square

    def __post_init__(self) -> None:
        if self.grid is not None and (len(self.grid) != 2 or min(self.grid) < 1):
            raise ValueError(f"grid must be two positive integers, rows and columns, got {self.grid}")


@dataclass
class AMP:
    """Mixed precision. On a device without support, the run logs this once and continues in float32."""

    level: Literal["O0", "O1", "O2"] = "O0"  # O1: matmuls in 16 bits; O2: also parameters, with float32 master weights
    dtype: Literal["auto", "float16", "bfloat16"] = "auto"  # auto: bfloat16 if the device has it
    init_loss_scaling: float = 65536.0  # for float16; halved when gradients overflow, doubled after `growth_steps`
    growth_steps: int = at_least(1, 2000)  # steps without an overflow before the scale is doubled

    def __post_init__(self) -> None:
        if self.init_loss_scaling < 1:
            raise ValueError(f"init_loss_scaling must be at least 1, got {self.init_loss_scaling}")


@dataclass
class EMA:
    """Exponential moving average of the weights, evaluated and saved in addition to them."""

    decay: Optional[float] = None  # null: no moving average
    warmup: bool = False  # use min(decay, (1 + step) / (10 + step))

    def __post_init__(self) -> None:
        if self.decay is not None and not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")


@dataclass
class DistributedStrategy:
    """Division of work and memory among several devices; a single process can run the same config."""

    data_parallel: bool = True  # false: an error if processes would hold copies of the model
    sharding_degree: int = at_least(1, 1)  # processes that share the optimizer's state (ZeRO stage 1); 1: no sharding
    recompute: List[str] = field(default_factory=list)  # patterns of layers, such as "encoder.blocks.*"
    sync_batch_norm: bool = True  # compute statistics of batch normalization over all processes
    bucket_mb: int = at_least(1, 128)  # size of one message of gradients, MiB
    overlap: bool = False  # send gradients during the backward pass; not with recompute
    timeout: int = at_least(1, 60)  # seconds to wait for all processes at the start
    collective_timeout: int = at_least(1, 3600)  # seconds to wait for a process that is busy or stopped


@dataclass
class Loader:
    """Settings of the data loader: batch size, workers, order, and handling of bad images."""

    batch_size: int = field(metadata={"at_least": 1})  # images per micro-batch and device
    num_workers: int = between(0, 1024, 0)  # processes that read and transform images; 0: the training process
    shuffle: bool = True  # a new order in every epoch; never in evaluation
    drop_last: bool = True  # omit the last images if they do not fill a global batch; never in evaluation
    prefetch: int = between(1, 1024, 2)  # batches each worker prepares ahead
    timeout: int = at_least(1, 120)  # seconds a worker may spend on one image before the run stops
    on_bad_image: Literal["stop", "skip"] = "stop"  # action for an image that cannot be read; docs/data.md
    max_bad_images: int = at_least(1, 100)  # different images that may be skipped before the run stops
