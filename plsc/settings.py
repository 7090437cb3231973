"""The sections of a config that describe the run itself: plain values, checked like a component's arguments.

Every field is a YAML key; the comment beside it is its documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Literal, Optional


@dataclass
class Global:
    """The run: how long, where to, how often to log, evaluate and save."""

    output_dir: str = "output"  # everything the run writes goes here
    epochs: Optional[float] = None  # length of the run and of the schedules; or give `steps`
    steps: Optional[int] = None  # length in optimizer steps instead of epochs
    max_train_step: Optional[int] = None  # stop after this many optimizer steps; the schedules stay as they are
    seed: int = 0
    device: Literal["auto", "cpu", "gpu"] = "auto"
    accumulate_steps: int = 1  # micro-batches per optimizer step
    global_batch_size: Optional[int] = None  # images per optimizer step over all devices; sets accumulate_steps
    log_every_steps: int = 20  # steps between two lines of metrics.jsonl, VisualDL and a plain terminal
    eval_every_epochs: Optional[int] = 1  # null: only at the end
    save_every_epochs: Optional[int] = 1  # null: only at the end
    save_every_steps: Optional[int] = None
    keep_last: int = 3  # checkpoints kept besides `best`
    monitor: Optional[str] = None  # evaluation metric that decides `best`, such as top1
    monitor_mode: Literal["max", "min"] = "max"
    resume: Optional[str] = "auto"  # auto: continue from output_dir if it has a checkpoint; a path; or null
    num_threads: Optional[int] = None  # CPU threads; null: one per core
    progress: Literal["auto", "bar", "lines", "none"] = "auto"  # auto: a bar on a terminal, lines elsewhere


@dataclass
class Init:
    """Where initial weights come from, and which of them are taken."""

    checkpoint: Optional[str] = None  # a run directory, a checkpoint or a published file; null: random
    take: str = "encoder"  # the part of the checkpoint: `encoder`, another prefix of its names, or "" for all
    into: str = "encoder"  # the part of the task it goes to
    allow_missing: List[str] = field(default_factory=list)  # patterns of names that may stay as initialised
    allow_unexpected: List[str] = field(default_factory=list)  # patterns of names that may be left in the file


@dataclass
class AMP:
    """Mixed precision; on a device without it the run says so once and goes on in float32."""

    level: Literal["O0", "O1", "O2"] = "O0"
    dtype: Literal["auto", "float16", "bfloat16"] = "auto"
    init_loss_scaling: float = 65536.0


@dataclass
class EMA:
    """An exponential moving average of the weights, evaluated and saved beside them."""

    decay: Optional[float] = None  # null: none
    warmup: bool = False  # use min(decay, (1 + step) / (10 + step))


@dataclass
class DistributedStrategy:
    """How a job on several devices divides the work."""

    data_parallel: bool = True


@dataclass
class Loader:
    """How a dataset becomes batches."""

    batch_size: int  # images per micro-batch and device
    num_workers: int = 0  # processes that read and transform images; 0: the training process itself
    shuffle: bool = True
    drop_last: bool = True
    prefetch: int = 2  # batches each worker prepares ahead
