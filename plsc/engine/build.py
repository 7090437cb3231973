"""From a checked config to a trainer that is ready to run. Read this first: it is the whole assembly, in order.

task -> initial weights -> loaders -> optimizer and schedule -> division of work -> callbacks -> trainer ->
resumed state.
Nothing here knows a method: components come from the registries, what they need from each other from their signatures.
"""

from functools import partial
from pathlib import Path
from typing import Any, List, Mapping, Optional, Tuple

from plsc import distributed
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint import weights as checkpoint_weights
from plsc.config import registry, settings
from plsc.config.schema import read_settings
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
from plsc.engine.trainer import Trainer
from plsc.evaluation.evaluate import Evaluator
from plsc.nn.batch_norm import FeatureBatchNorm
from plsc.nn.precision import Precision
from plsc.optim.ema import WeightEMA
from plsc.runs.log import RunLog
from plsc.tasks.base import Task

Config = Mapping[str, Any]


def build_trainer(config: Config, log: RunLog) -> Trainer:
    """Assembles a training run.

    Args:
        config: A tree that plsc.config.schema.check has accepted.
        log: The run's voice.

    Raises:
        ConfigError: If sections contradict each other.
    """
    run: settings.Global = read_settings(config, "Global")
    task = build_task(config, run.seed)
    loader = build_loader(config, "Train", run, log.say, task=task)
    classes = class_names(loader.dataset)
    initialise(task, config, log, classes)
    precision = Precision(read_settings(config, "AMP"), log.say)
    evaluates = config["DataLoader"].get("Eval") is not None
    known = (classes, "DataLoader.Train")
    evaluator = build_evaluation(config, run, task, precision, log.say, known) if evaluates else None
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
    with blamed_on(config.get("DistributedStrategy") or config):
        divide_work(task, optimizer, precision, read_settings(config, "DistributedStrategy"))
    callbacks, checkpoints = build_callbacks(config, run, task, evaluator)
    trainer = Trainer(
        task,
        optimizer,
        schedule,
        loader,
        build_list(registry.BATCH_TRANSFORMS, config["DataLoader"]["Train"].get("batch_transforms")),
        precision,
        plan,
        callbacks,
        log,
        seed=run.seed,
        save=checkpoints.save_now,
        rewind=checkpoints.rewind,
        nonfinite=NonFinitePolicy(
            run.on_nonfinite, run.nonfinite_limit, Path(run.output_dir) / "nonfinite", dump(config)
        ),
    )
    resume(config, trainer, checkpoints, run, log)
    return trainer


def divide_work(task: Task, optimizer: Any, precision: Precision, strategy: settings.DistributedStrategy) -> None:
    """Prepares task and optimizer for the processes and the memory there are; the numbers stay the same."""
    for layer in task.sublayers():
        if isinstance(layer, FeatureBatchNorm):
            layer.over_processes = strategy.sync_batch_norm
    apply_recompute(task, strategy.recompute)
    distributed.broadcast_parameters(task)
    precision.prepare(task, optimizer)
    if distributed.shards_optimizer():
        optimizer.shard()


def build_callbacks(
    config: Config, run: settings.Global, task: Task, evaluator: Optional[Evaluator]
) -> Tuple[List[Callback], Checkpoints]:
    """The observers of the run, in the order in which they are called; checkpoints come last."""
    average: settings.EMA = read_settings(config, "EMA")
    ema = WeightEMA(task, average.decay, average.warmup) if average.decay is not None else None
    callbacks: List[Callback] = []
    if run.profile is not None and distributed.is_main():
        callbacks.append(Profile(Path(run.output_dir) / "profile", **run.profile))  # first: others are not training
    if ema is not None:
        callbacks.append(WeightAverage(ema))
    if run.check_sync_every is not None:
        callbacks.append(SyncCheck(run.check_sync_every))
    callbacks.append(ProgressLog(run.log_every_steps))
    if evaluator is not None:
        callbacks.append(Evaluation(evaluator, run.eval_every_epochs, ema))
    callbacks += build_list(registry.CALLBACKS, config.get("Callbacks"))
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


def resume(config: Config, trainer: Trainer, checkpoints: Checkpoints, run: settings.Global, log: RunLog) -> None:
    """Continues from the checkpoint that `Global.resume` means, if there is one."""
    if run.resume is None:
        return
    with blamed_on(config["Global"]):
        path = consistency.agree_on_checkpoint("Global.resume", partial(_wanted, run.resume, checkpoints.directory))
    if path is None:
        return
    with blamed_on(config["Global"]):
        notes = checkpoints.restore(trainer, path)
    log.say("\n  ".join([f"resumed from {path} at step {trainer.step}", *notes]))


def _wanted(resume_from: str, directory: Path) -> Optional[Path]:
    return _newest(directory) if resume_from == "auto" else checkpoint_weights.resolve(resume_from)


def _newest(directory: Path) -> Optional[Path]:
    """The newest whole checkpoint of a run; None if it has none, whole or not, so that nothing is written over."""
    found = checkpoint_files.find_latest_whole(directory)
    if found is None:
        try:
            checkpoint_files.check_newest(directory)
            checkpoint_files.check_pointers(directory)
        except checkpoint_files.CheckpointError as error:
            raise ValueError(
                f"no checkpoint in {directory} can be resumed: {error}; set output_dir to another folder, or resume "
                "to null to begin again in this one"
            ) from error
    return found
