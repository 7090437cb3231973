"""What a config asks for, whatever it runs on: sizes, operations, kept activations, steps."""

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import paddle

from plsc import distributed
from plsc.config import registry, settings
from plsc.config.schema import read_settings
from plsc.costs.memory import ByLayer
from plsc.costs.networks import network_activations, network_flops, target_cost
from plsc.engine.plan import Plan
from plsc.engine.recompute import apply_recompute
from plsc.models.encoder import Encoder
from plsc.planning.dry_run import lazy_task, masked_patches, plan_of
from plsc.tasks.base import Task

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Work:
    """A run's demands. Counts are of numbers, not bytes; activations and operations are of one image.

    Attributes:
        trained: Numbers that are trained.
        frozen: Those in other parameters and in buffers.
        averaged: Those in moving averages of the weights.
        tokenizer: Those of the tokenizer.
        optimizer: Those of the optimizer's state.
        activations: What each layer keeps.
        recomputed: Names of the layers that the config recomputes.
        recomputable: Names of those that could be.
        forward: Operations of each part in a forward pass.
        training: Operations of a training step, without recomputation and tokenizer.
        targets: Operations of the tokenizer.
        target_numbers: What the tokenizer holds at once.
        inputs: Numbers of the image and its second crop.
        batch: Images of a micro-batch.
        level: AMP level of the config.
        sharding: Its sharding degree.
        bucket: Bytes of gradients sent at once.
        overlap: Whether they are sent while the backward pass goes on.
        plan: Steps.
        notes: What was assumed.
    """

    trained: int
    frozen: int
    averaged: int
    tokenizer: int
    optimizer: int
    activations: ByLayer
    recomputed: Tuple[str, ...]
    recomputable: Tuple[str, ...]
    forward: Dict[str, int]
    training: int
    targets: int
    target_numbers: int
    inputs: int
    batch: int
    level: str
    sharding: int
    bucket: int
    overlap: bool
    plan: Plan
    notes: Tuple[str, ...]


def work_of(config: Config, processes: int, images: Optional[int] = None) -> Work:
    """Reads what a config asks for when it runs on so many processes.

    Args:
        config: Checked by plsc.config.schema.
        processes: Devices of the whole job.
        images: Of the training set; counted if not given.

    Raises:
        ValueError: If a component refuses its arguments, the costs of the model are unknown, the batch does not divide,
            or DistributedStrategy does not fit.
    """
    run: settings.Global = read_settings(config, "Global")
    strategy: settings.DistributedStrategy = read_settings(config, "DistributedStrategy")
    loader: settings.Loader = read_settings(config, "DataLoader.Train.loader")
    if strategy.sharding_degree > processes or processes % strategy.sharding_degree:
        raise ValueError(
            f"DistributedStrategy.sharding_degree: {strategy.sharding_degree} does not divide the {processes} devices"
        )
    if processes > 1:
        distributed.check_overlap(strategy)
    notes: List[str] = []
    task = lazy_task(config, run.seed, notes)
    plan = plan_of(config, run, processes, notes, images)
    masked, _ = masked_patches(config, task)
    flops, activations = network_flops(task.model, masked), network_activations(task.model, masked)
    recomputed = apply_recompute(task, strategy.recompute)
    with paddle.LazyGuard():
        optimizer = registry.OPTIMIZERS.build(config["Optimizer"], model=task)
    trained = sum(_size(p) for p in task.parameters() if not p.stop_gradient)
    frozen = sum(_size(p) for p in task.parameters() if p.stop_gradient) + sum(_size(b) for b in task.buffers())
    tokens, held, weights = _tokenizer(config, task)
    ema: settings.EMA = read_settings(config, "EMA")
    return Work(
        trained=trained,
        frozen=frozen,
        averaged=0 if ema.decay is None else trained + frozen,
        tokenizer=weights,
        optimizer=optimizer.state_numbers(),
        activations=activations,
        recomputed=tuple(name[len("model.") :] for name in recomputed),
        recomputable=tuple(name for name, kept in activations.items() if kept.inputs.count),
        forward={part: operations for part, (operations, _) in flops.items()},
        training=sum(operations * (3 if learns else 1) for operations, learns in flops.values()),
        targets=tokens,
        target_numbers=held,
        inputs=_inputs(task, bool(config.get("Tokenizer"))),
        batch=loader.batch_size,
        level=read_settings(config, "AMP").level,
        sharding=strategy.sharding_degree,
        bucket=strategy.bucket_mb * 2**20,
        overlap=strategy.overlap,
        plan=plan,
        notes=tuple(notes),
    )


def _tokenizer(config: Config, task: Task) -> Tuple[int, int, int]:
    """Operations for an image, numbers held at once, and weights; zeros for one that costs next to nothing."""
    node = config.get("Tokenizer")
    return target_cost(registry.TOKENIZERS.get(node["name"]), tuple(task.encoder.grid_size)) if node else (0, 0, 0)


def _inputs(task: Task, second: bool) -> int:
    """Numbers of an image, twice if a tokenizer has its own crop."""
    pixels = 3 * int(np.prod(task.encoder.image_size)) if isinstance(task.encoder, Encoder) else 0
    return pixels * (2 if second else 1)


def _size(tensor: paddle.Tensor) -> int:
    return int(np.prod(tensor.shape))
