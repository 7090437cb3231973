"""Demands of a config, independent of the device: sizes, operations, kept activations, steps."""

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import numpy as np
import paddle

from plsc import distributed
from plsc.config import registry
from plsc.config.run_config import RunConfig
from plsc.costs.memory import ByLayer
from plsc.costs.networks import TargetCost, UnknownCost, network_activations, network_flops, target_cost
from plsc.engine.plan import Plan
from plsc.engine.recompute import apply_recompute
from plsc.models.encoder import Encoder
from plsc.planning.dry_run import lazy_task, masked_patches, plan_of
from plsc.tasks.base import Task


@dataclass(frozen=True)
class Work:
    """Demands of a run. Counts are of values, not bytes; activations and operations are for one image.

    Attributes:
        trained: Values of trained parameters.
        frozen: Values of other parameters and of buffers.
        averaged: Values of moving averages of the weights.
        tokenizer: Values of the tokenizer's weights.
        optimizer: Values of the optimizer's state.
        activations: Values that each layer keeps for the backward pass.
        recomputed: Names of the layers that the config recomputes.
        recomputable: Names of the layers that can be recomputed.
        forward: Operations of each part in a forward pass.
        training: Operations of a training step, without recomputation and tokenizer.
        targets: Operations of the tokenizer.
        target_numbers: Values that the tokenizer holds at once.
        inputs: Values of the image and its second crop.
        batch: Images of a micro-batch.
        level: AMP level of the config.
        sharding: Sharding degree of the config.
        bucket: Bytes of gradients sent at once.
        overlap: True if they are sent during the backward pass.
        plan: Steps.
        notes: Assumptions.
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


def work_of(config: RunConfig, processes: int, images: Optional[int] = None) -> Work:
    """Count the demands of a config on a number of processes.

    Args:
        config: Config of the run.
        processes: Devices of the whole job.
        images: Size of the training set; counted by default.

    Raises:
        ValueError: If a component refuses its arguments, the costs of the model are unknown, the batch does not divide,
            or DistributedStrategy does not fit.
    """
    run = config.global_
    strategy = config.strategy
    loader = config.loader("Train")
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
    tokens, held, weights = _tokenizer(config, task, notes)
    return Work(
        trained=trained,
        frozen=frozen,
        averaged=0 if config.ema.decay is None else trained + frozen,
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
        level=config.amp.level,
        sharding=strategy.sharding_degree,
        bucket=strategy.bucket_mb * 2**20,
        overlap=strategy.overlap,
        plan=plan,
        notes=tuple(notes),
    )


def _tokenizer(config: RunConfig, task: Task, notes: List[str]) -> TargetCost:
    """Costs of the config's tokenizer for one image; zeros without one, and with a note if they are unknown."""
    node = config.get("Tokenizer")
    if node is None:
        return 0, 0, 0
    try:
        return target_cost(registry.TOKENIZERS.get(node["name"]), tuple(task.encoder.grid_size))
    except UnknownCost as error:
        notes.append(f"the tokenizer is not counted: {error}")
        return 0, 0, 0


def _inputs(task: Task, second: bool) -> int:
    """Values of an image, twice if a tokenizer has a second crop."""
    pixels = 3 * int(np.prod(task.encoder.image_size)) if isinstance(task.encoder, Encoder) else 0
    return pixels * (2 if second else 1)


def _size(tensor: paddle.Tensor) -> int:
    return int(np.prod(tensor.shape))
