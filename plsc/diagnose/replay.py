"""Replay of a step whose gradients were not finite, from its dump."""

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import paddle

from plsc.checkpoint.weights import assign
from plsc.config import registry
from plsc.config.run_config import RunConfig
from plsc.engine.nonfinite import FACTS, WEIGHTS, diagnose
from plsc.engine.parts import build_list, build_task
from plsc.engine.step import TrainStep
from plsc.nn.precision import Precision

Config = RunConfig


def read_dump(folder: Path, rank: int) -> Tuple[Dict[str, Any], List[Dict[str, paddle.Tensor]]]:
    """Read the facts and micro-batches of one process from a dump.

    Raises:
        ValueError: If the folder is not a dump, or has none of this process.
    """
    mine = folder / f"rank_{rank}"
    if not (mine / FACTS).is_file():
        found = ", ".join(sorted(path.name for path in folder.glob("rank_*")))
        raise ValueError(f"{folder} has no dump of process {rank}{f'; it has {found}' if found else ''}")
    facts = json.loads((mine / FACTS).read_text(encoding="utf-8"))
    batches = []
    for number in range(len(list(mine.glob("batch_*.npz")))):
        with np.load(mine / f"batch_{number}.npz", allow_pickle=False) as arrays:
            batches.append({key: paddle.to_tensor(arrays[key]) for key in arrays.files})
    return facts, batches


def replay(config: Config, folder: Path, rank: int) -> str:
    """Repeat the step of a dump on this machine.

    Args:
        config: The config of the dump, checked by plsc.config.schema.
        folder: The dump, `output_dir/nonfinite/step_00001234`.
        rank: Process whose part of the batch is used.

    Returns:
        The findings in the run and now, as text.

    Raises:
        ValueError: If the folder is not a dump, or has none of this process.
    """
    from safetensors.numpy import load_file

    facts, batches = read_dump(folder, rank)
    task = build_task(config, facts["seed"])
    weights = load_file(folder / WEIGHTS)
    for name, value in task.state_dict().items():
        assign(value, weights[name])
    optimizer = registry.OPTIMIZERS.build(config["Optimizer"], model=task)
    precision = Precision(config.amp)
    precision.prepare(task, optimizer)
    transforms = build_list(registry.BATCH_TRANSFORMS, config["DataLoader"]["Train"].get("batch_transforms"))
    step = TrainStep(
        task,
        optimizer,
        lambda _: 0.0,  # the weights are not updated
        transforms,
        precision,
        total_steps=facts["step"] + 1,
        seed=facts["seed"],
        step=facts["step"],
        rank=facts["rank"],
    )
    task.train()
    found = diagnose(step, batches)
    shown = ", ".join(f"{name} {value:.6g}" for name, value in found["metrics"].items())
    files = "\n  ".join(facts["files"]) or "(none)"
    return (
        f"step {facts['step'] + 1}, process {facts['rank']} of {facts['world_size']}, {len(batches)} micro-batch(es)\n"
        f"then: {facts['where']}\nnow:  {found['where']}\nmetrics now: {shown}\nfiles:\n  {files}"
    )
