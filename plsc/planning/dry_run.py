"""Facts of a run without running it: parameters, cost, batch, learning rate, steps.

Networks are built without memory, and a missing data set, tokenizer or checkpoint is reported in a note instead of
ending the report.
"""

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import paddle

from plsc import distributed
from plsc.config import registry, settings
from plsc.config.run_config import RunConfig
from plsc.costs.networks import UnknownCost, network_flops
from plsc.engine import consistency
from plsc.engine.parts import build_task
from plsc.engine.plan import Plan, accumulation, make_plan
from plsc.tasks.base import Batch, Task
from plsc.tokenizers.base import Target

# Images of well-known training sets, for machines that do not have them.
KNOWN_SIZES = {"ImageNet": 1_281_167, "CIFAR10": 50_000, "CIFAR100": 50_000}


class _Missing(Target):
    """Stand-in for a tokenizer whose files are missing."""

    kind = "ids"

    def __call__(self, batch: Batch) -> paddle.Tensor:
        """Raise ValueError; a dry run computes no targets."""
        raise ValueError("the files of the tokenizer are missing")


def dry_run(config: RunConfig) -> str:
    """List the facts of a run as text, one per line.

    Args:
        config: Config of the run.

    Raises:
        ValueError: If a component refuses its arguments or sections contradict each other.
    """
    run = config.global_
    notes: List[str] = []
    task = lazy_task(config, run.seed, notes)
    plan = plan_of(config, run, distributed.world_size(), notes)
    masked, patches = masked_patches(config, task)
    facts = {"parameters": _parameters(task), **_cost(task, masked)}
    if masked:
        facts["tokens"] = f"{patches - masked} visible, {masked} masked of {patches}"
    facts.update(_schedule(config, run, plan, task, notes))
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {value}" for name, value in facts.items()]
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def lazy_task(config: RunConfig, seed: int, notes: List[str]) -> Task:
    """Build the task with networks that have shapes and no memory; missing files are appended to `notes`."""
    tokenizer = _tokenizer(config, notes)
    with paddle.LazyGuard():
        return build_task(config, seed, tokenizer)


def _tokenizer(config: RunConfig, notes: List[str]) -> Optional[Any]:
    """Build the config's tokenizer, or its stand-in if files are missing; None if it has no tokenizer."""
    if config.get("Tokenizer") is None:
        return None
    try:
        return registry.TOKENIZERS.build(config["Tokenizer"])
    except (ValueError, OSError) as error:
        notes.append(f"tokenizer not built: {error}")
        return _Missing()


def plan_of(
    config: RunConfig, run: settings.Global, processes: int, notes: List[str], images: Optional[int] = None
) -> Plan:
    """Compute steps and batch of the run on a number of processes; `images` is the size of the training set."""
    section = config["DataLoader"]["Train"]
    loader = config.loader("Train")
    accumulate = accumulation(run, loader, processes)
    batch = loader.batch_size * processes * accumulate
    if images is None:
        images = _images(section["dataset"], batch, notes)
    steps = images // batch if loader.drop_last else -(-images // batch)
    if not steps:
        raise ValueError(f"the training set has {images} images, fewer than the global batch of {batch}")
    return make_plan(run, steps, accumulate, batch)


def _images(dataset: Mapping[str, Any], batch: int, notes: List[str]) -> int:
    try:
        return len(registry.DATASETS.build(dataset))
    except (ValueError, OSError) as error:
        images = KNOWN_SIZES.get(dataset["name"], batch)
        source = "its known size" if dataset["name"] in KNOWN_SIZES else "one step an epoch"
        notes.append(f"training set not found, so {source} is assumed ({images:,} images): {error}")
        return images


def _parameters(task: Task) -> str:
    trained = sum(_size(p) for p in task.parameters() if not p.stop_gradient)
    frozen = sum(_size(p) for p in task.parameters() if p.stop_gradient)
    buffers = sum(_size(b) for b in task.buffers())
    return f"{trained:,} trained, {frozen:,} frozen, {buffers:,} in buffers"


def _size(tensor: paddle.Tensor) -> int:
    return int(np.prod(tensor.shape))


def masked_patches(config: RunConfig, task: Task) -> Tuple[int, int]:
    """Number of masked patches and of all patches; 0, 0 without masks.

    Raises:
        ConfigError: If the masks do not fit the patches of the task's encoder.
    """
    if config.get("MaskGenerator") is None:
        return 0, 0
    masks = registry.MASK_GENERATORS.build(config["MaskGenerator"])
    consistency.check_masks(config, task, masks)
    return masks.num_masked, int(np.prod(masks.grid))


def _cost(task: Task, masked: int) -> Dict[str, str]:
    """Operations per image by part; empty if the costs of the model are unknown."""
    try:
        parts = network_flops(task.model, masked)
    except UnknownCost:
        return {}
    forward = sum(operations for operations, _ in parts.values())
    training = sum(operations * (3 if trained else 1) for operations, trained in parts.values())
    detail = ", ".join(f"{name} {operations / 1e9:.3g}" for name, (operations, _) in parts.items())
    return {"GFLOPs per image": f"{forward / 1e9:.4g} forward ({detail}), {training / 1e9:.4g} in a training step"}


def _schedule(config: RunConfig, run: settings.Global, plan: Plan, task: Task, notes: List[str]) -> Dict[str, str]:
    schedule = registry.LR_SCHEDULERS.build(
        config["LRScheduler"],
        epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        global_batch_size=plan.global_batch_size,
    )
    rates = [schedule(step) for step in range(0, plan.total_steps, max(1, plan.total_steps // 500))]
    scaled = config["LRScheduler"].get("scale", "absolute") == "per_256"
    given = config["LRScheduler"]["learning_rate"]
    rule = f"{given:g} x {plan.global_batch_size} / 256" if scaled else f"{given:g}, not scaled with the batch"
    loader = config.loader("Train")
    at_once = loader.batch_size * distributed.world_size()
    if run.global_batch_size is None and plan.accumulate == 1 and not scaled:
        notes.append("more devices make the batch larger; Global.global_batch_size keeps it and the learning rate fits")
    return {
        "effective batch": f"{plan.global_batch_size} images = {loader.batch_size} a device x "
        f"{distributed.world_size()} process(es) x {plan.global_batch_size // at_once} micro-batch(es)",
        "learning rate": f"{max(rates):.4g} at its highest ({rule}), {rates[0]:.4g} first, "
        f"{schedule(plan.total_steps - 1):.4g} last",
        "steps": f"{plan.stop_step:,} ({plan.epochs:.4g} epochs of {plan.steps_per_epoch:,} steps)",
        **_groups(config, task),
    }


def _groups(config: RunConfig, task: Task) -> Dict[str, str]:
    """The optimizer's parameter groups."""
    with paddle.LazyGuard():
        optimizer = registry.OPTIMIZERS.build(config["Optimizer"], model=task)
    return {
        f"group {g.name}": f"{len(g.parameters)} tensors, decay {g.weight_decay:.4g}, learning rate x {g.lr_scale:.4g}"
        for g in optimizer.groups
    }
