"""Learning rate and weight decay over a run, as a figure."""

from pathlib import Path
from typing import List, Tuple

import paddle

from plsc import distributed, distribution
from plsc.config import registry
from plsc.config.run_config import RunConfig
from plsc.engine.parts import build_task
from plsc.planning.dry_run import plan_of
from plsc.runs.directory import replacing
from plsc.tasks.base import Task

Config = RunConfig
_POINTS = 400


def schedules(config: Config, task: Task) -> Tuple[List[float], List[float], List[float]]:
    """Epochs, learning rates and weight decays at some steps of the run that a config describes."""
    run = config.global_
    plan = plan_of(config, run, distributed.world_size(), [])
    schedule = registry.LR_SCHEDULERS.build(
        config["LRScheduler"],
        epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        global_batch_size=plan.global_batch_size,
    )
    with paddle.LazyGuard():
        optimizer = registry.OPTIMIZERS.build(config["Optimizer"], model=task)
    steps = range(0, plan.total_steps, max(1, plan.total_steps // _POINTS))
    decays = []
    for step in steps:
        optimizer.set_progress(step / plan.total_steps)
        decays.append(max(group.weight_decay for group in optimizer.groups))
    return [step / plan.steps_per_epoch for step in steps], [schedule(step) for step in steps], decays


def draw_schedules(config: Config, path: Path) -> None:
    """Draw the curves into a PNG file.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        command = distribution.install("quickstart")
        raise ImportError(f"curves need matplotlib: {command}, or leave schedules out") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    with paddle.LazyGuard():
        task = build_task(config, config.global_.seed)
    epochs, rates, decays = schedules(config, task)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.6))
    curves = (("learning rate", rates, "#0072b2"), ("weight decay", decays, "#d55e00"))
    for axis, (name, values, colour) in zip(axes, curves):
        axis.plot(epochs, values, color=colour, linewidth=2)
        facts = f"{values[0]:.3g} first, {max(values):.3g} at most, {values[-1]:.3g} last"
        axis.set(title=f"{name}: {facts}", xlabel="epoch")
        axis.set_ylim(bottom=0, top=1.08 * max(max(values), 1e-12))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    figure.suptitle(f"{config['LRScheduler']['name']}, {config['Optimizer']['name']}")
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)
