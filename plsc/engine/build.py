"""Assembly of a trainer from a checked config. Read this first: it is the whole assembly, in order.

task -> initial weights -> loaders -> optimizer and schedule -> division of work -> callbacks -> trainer ->
resumed state.
No method is mentioned here: components come from the registries.
"""

from functools import partial
from pathlib import Path
from typing import Any, List, Optional, Tuple

from plsc import distributed
from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.reader import Checkpoint, check_newest, check_pointers, find_newest
from plsc.config import registry, settings
from plsc.config.run_config import RunConfig
from plsc.config.tree import blamed_on, dump
from plsc.data.classes import class_names
from plsc.engine import consistency
from plsc.engine.callback import Callback
from plsc.engine.callbacks.checkpoints import Checkpoints
from plsc.engine.callbacks.evaluation import Evaluation
from plsc.engine.callbacks.profiler import Profile
from plsc.engine.callbacks.progress import ProgressLog
from plsc.engine.callbacks.weights import SyncCheck, WeightAverage
from plsc.engine.nonfinite import NonFinitePolicy
from plsc.engine.parts import build_evaluation, build_list, build_loader, build_task, initialise
from plsc.engine.plan import make_plan
from plsc.engine.recompute import apply_recompute
from plsc.engine.step import TrainStep
from plsc.engine.trainer import Trainer
from plsc.evaluation.evaluate import Evaluator
from plsc.nn.batch_norm import FeatureBatchNorm
from plsc.nn.precision import Precision
from plsc.optim.ema import WeightEMA
from plsc.runs.log import RunLog
from plsc.tasks.base import Task


def build_trainer(config: RunConfig, log: RunLog) -> Trainer:
    """Assemble a training run.

    Args:
        config: Config of the run.
        log: Takes notes about the assembly, and everything that the run prints.

    Raises:
        ConfigError: If sections contradict each other.
    """
    run = config.global_
    task = build_task(config, run.seed)
    loader = build_loader(config, "Train", log.say, task=task)
    classes = class_names(loader.dataset)
    initialise(task, config, log, classes)
    precision = Precision(config.amp, log.say)
    known = (classes, "DataLoader.Train")
    evaluator = build_evaluation(config, task, precision, log.say, known) if config.evaluates else None
    consistency.agree_on_data(Train=loader.dataset, Eval=None if evaluator is None else evaluator.loader.dataset)
    for note in consistency.check_training(config, task, loader, evaluator):
        log.say(f"note: {note}")
    plan = make_plan(run, loader.steps_per_epoch, loader.accumulate, loader.global_batch_size)
    optimizer = registry.OPTIMIZERS.build(config["Optimizer"], model=task)
    schedule = registry.LR_SCHEDULERS.build(
        config["LRScheduler"],
        epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        global_batch_size=plan.global_batch_size,
    )
    for note in consistency.doubtful_settings(config, run, plan, optimizer, schedule):
        log.say(f"note: {note}")
    with blamed_on(config.get("DistributedStrategy") or config.tree):
        divide_work(task, optimizer, precision, config.strategy)
    callbacks, checkpoints = build_callbacks(config, task, evaluator)
    directory = Path(run.output_dir) / "nonfinite"
    train_step = TrainStep(
        task,
        optimizer,
        schedule,
        build_list(registry.BATCH_TRANSFORMS, config.nodes("DataLoader.Train.batch_transforms")),
        precision,
        plan.total_steps,
        run.seed,
        NonFinitePolicy(run.on_nonfinite, run.nonfinite_limit, directory, dump(config), log, loader.dataset),
    )
    trainer = Trainer(train_step, loader, plan, callbacks, log, checkpoints.save_now, checkpoints.rewind)
    resume(config, trainer, checkpoints, log)
    return trainer


def divide_work(task: Task, optimizer: Any, precision: Precision, strategy: settings.DistributedStrategy) -> None:
    """Prepare task and optimizer for several processes, sharding and recomputation; results stay the same."""
    for layer in task.sublayers():
        if isinstance(layer, FeatureBatchNorm):
            layer.over_processes = strategy.sync_batch_norm
    apply_recompute(task, strategy.recompute)
    distributed.broadcast_parameters(task)
    precision.prepare(task, optimizer)
    if distributed.shards_optimizer():
        optimizer.shard()


def build_callbacks(
    config: RunConfig, task: Task, evaluator: Optional[Evaluator]
) -> Tuple[List[Callback], Checkpoints]:
    """Build the callbacks of the run, in the order in which they are called; checkpoints come last."""
    run, average = config.global_, config.ema
    ema = WeightEMA(task, average.decay, average.warmup) if average.decay is not None else None
    callbacks: List[Callback] = []
    if run.profile is not None and distributed.is_main():
        callbacks.append(Profile(Path(run.output_dir) / "profile", **run.profile))  # first: not to trace the others
    if ema is not None:
        callbacks.append(WeightAverage(ema))
    if run.check_sync_every is not None:
        callbacks.append(SyncCheck(run.check_sync_every))
    callbacks.append(ProgressLog(run.log_every_steps))
    if evaluator is not None:
        callbacks.append(Evaluation(evaluator, run.eval_every_epochs, ema, evaluator.loader.dataset))
    callbacks += build_list(registry.CALLBACKS, config.nodes("Callbacks"))
    checkpoints = Checkpoints(
        Path(run.output_dir) / "checkpoints",
        dump(config),
        run.save_every_epochs,
        run.save_every_steps,
        run.keep_last,
        run.monitor,
        run.monitor_mode,
        ema,
    )
    return [*callbacks, checkpoints], checkpoints


def resume(config: RunConfig, trainer: Trainer, checkpoints: Checkpoints, log: RunLog) -> None:
    """Continue from the checkpoint that `Global.resume` names; without one the run begins."""
    run = config.global_
    if run.resume is None:
        return
    with blamed_on(config["Global"]):
        saved = consistency.agree_on_checkpoint("Global.resume", partial(_wanted, run.resume, checkpoints.directory))
    if saved is None:
        return
    with blamed_on(config["Global"]):
        notes = checkpoints.restore(trainer, saved)
    log.say("\n  ".join([f"resumed from {saved} at step {trainer.step}", *notes]))


def _wanted(resume_from: str, directory: Path) -> Optional[Checkpoint]:
    return _newest(directory) if resume_from == "auto" else Checkpoint.open(resume_from)


def _newest(directory: Path) -> Optional[Checkpoint]:
    """Open the newest whole checkpoint of a run; None if the run has no checkpoints.

    Raises:
        ValueError: If it has checkpoints and none is whole, as a new run would overwrite them.
    """
    found = find_newest(directory)
    if found is None:
        try:
            check_newest(directory)
            check_pointers(directory)
        except CheckpointError as error:
            raise ValueError(
                f"no checkpoint in {directory} can be resumed: {error}; set output_dir to another folder, or resume "
                "to null to begin again in this one"
            ) from error
    return found
