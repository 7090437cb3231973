"""From a checked config to a trainer that is ready to run. Read this first: it is the whole assembly, in order.

task -> initial weights -> loaders -> optimizer and schedule -> division of work -> callbacks -> trainer ->
resumed state.
Nothing here knows a method: components come from the registries, what they need from each other from their signatures.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional, Sequence, Set, Tuple

import paddle

from plsc import distributed, registry, settings, storage
from plsc.checkpoint import store, transfer
from plsc.data import bad_images
from plsc.data.classes import check_labels, class_names, match_classes
from plsc.data.loader import DataLoader
from plsc.data.summary import summary
from plsc.engine import agreement
from plsc.engine.callbacks import Evaluation, ProgressLog, SyncCheck, WeightAverage
from plsc.engine.checkpointing import Checkpoints
from plsc.engine.evaluate import Evaluator
from plsc.engine.logging import RunLog
from plsc.engine.nonfinite import NonFinitePolicy
from plsc.engine.precision import Precision
from plsc.engine.profiling import Profile
from plsc.engine.recompute import apply_recompute
from plsc.engine.trainer import Callback, Plan, Trainer
from plsc.nn.batch_norm import FeatureBatchNorm
from plsc.optim.ema import WeightEMA
from plsc.schema import TASK_ARGUMENTS, read_settings
from plsc.tasks.base import Task
from plsc.yaml_tree import ConfigError, blame, blamed_on, dump

Config = Mapping[str, Any]
Known = Tuple[Optional[Sequence[str]], str]  # names of the model's classes, None if unknown, and who knows them


def build_trainer(config: Config, log: RunLog) -> Trainer:
    """Assembles a training run.

    Args:
        config: A tree that plsc.schema.check has accepted.
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
    agreement.agree_on_data(Train=loader.dataset, Eval=None if evaluator is None else evaluator.loader.dataset)
    for note in agreement.check_training(config, task, loader, evaluator):
        log.say(f"note: {note}")
    plan = make_plan(run, loader.steps_per_epoch, loader.accumulate, loader.global_batch_size)
    optimizer = registry.OPTIMIZERS.build(config["Optimizer"], model=task)
    schedule = registry.LR_SCHEDULERS.build(
        config["LRScheduler"],
        epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        global_batch_size=plan.global_batch_size,
    )
    for note in agreement.doubtful_settings(config, run, plan, optimizer, schedule):
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


def build_task(config: Config, seed: int, tokenizer: Optional[Any] = None) -> Task:
    """The task with its networks and losses, initialised from `seed`; `tokenizer` stands in for the config's."""
    paddle.seed(seed)
    kinds = {"Model": registry.MODELS, "Tokenizer": registry.TOKENIZERS, "Loss": registry.LOSSES}
    given = {} if tokenizer is None else {"Tokenizer": tokenizer}
    parts = {
        TASK_ARGUMENTS[section]: given.get(section) or kind.build(config[section])
        for section, kind in kinds.items()
        if config.get(section) is not None
    }
    return registry.TASKS.build(config["Task"], **parts)


def initialise(task: Task, config: Config, log: RunLog, classes: Optional[Sequence[str]] = None) -> None:
    """Takes weights from the checkpoint that the section Init names, and says what was taken and what was not.

    `classes` are the names of the run's classes, with which those of the checkpoint's head are matched.
    """
    init: settings.Init = read_settings(config, "Init")
    if init.checkpoint is not None:
        with blamed_on(config["Init"]):
            agreement.agree_on_checkpoint(agreement.INITIAL_WEIGHTS, partial(_source, init.checkpoint))
            report = transfer.initialise(task, init, classes)
        task.on_weights_loaded(report.loaded)
        log.say(str(report))


def _source(checkpoint: str) -> Path:
    """The file or the checkpoint directory that Init reads."""
    path = Path(checkpoint)
    return path if path.is_file() and path.name not in storage.POINTERS else storage.resolve(path)


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


def build_list(kind: registry.Registry, nodes: Optional[List[Any]]) -> List[Any]:
    """The components of a list of nodes; none for an absent section."""
    return [kind.build(node) for node in nodes or []]


def build_loader(
    config: Config,
    split: str,
    run: settings.Global,
    say: Callable[[str], None] = bad_images.tell,
    dataset: Optional[Any] = None,
    task: Optional[Task] = None,
) -> DataLoader:
    """The loader of `DataLoader.<split>`; its masks come from the section MaskGenerator, if there is one.

    `say` tells the number of images and classes, and each bad image that is skipped. Training takes others in their
    place, evaluation leaves them out. A `dataset` takes the place of the section's. Labels are compared with the
    classes of `task`, if it has some.
    """
    section = config["DataLoader"][split]
    loader: settings.Loader = read_settings(config, f"DataLoader.{split}.loader")
    masks = config.get("MaskGenerator")
    dataset = registry.DATASETS.build(section["dataset"]) if dataset is None else dataset
    say(f"DataLoader.{split}: {summary(dataset)}")
    parts = {
        "dataset": dataset,
        "transforms": build_list(registry.TRANSFORMS, section.get("transforms")),
        "mask_generator": registry.MASK_GENERATORS.build(masks) if masks is not None else None,
        "bad_images": bad_image_policy(config, split, say, leave_out=split != "Train"),
    }
    with blamed_on(section["loader"]):
        return DataLoader(
            **parts,
            batch_size=loader.batch_size,
            num_workers=loader.num_workers,
            prefetch=loader.prefetch,
            shuffle=loader.shuffle and split == "Train",
            drop_last=loader.drop_last and split == "Train",
            seed=run.seed,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            accumulate=accumulation(run, loader, distributed.world_size()) if split == "Train" else 1,
            timeout=loader.timeout,
            check_label=_label_check(task, f"DataLoader.{split}.dataset"),
        )


def bad_image_policy(
    config: Config, split: str, say: Callable[[str], None] = bad_images.tell, leave_out: bool = True
) -> bad_images.BadImages:
    """What becomes of images that cannot be read, as `DataLoader.<split>.loader` says."""
    loader: settings.Loader = read_settings(config, f"DataLoader.{split}.loader")
    section = f"DataLoader.{split}.loader"
    return bad_images.BadImages(section, loader.on_bad_image, loader.max_bad_images, leave_out, say)


def _label_check(task: Optional[Task], source: str) -> Optional[Callable[[Any], None]]:
    """A function that refuses labels which `task` cannot have; None if it takes none."""
    if task is None or not agreement.classifies(task):
        return None
    return partial(check_labels, count=getattr(task, "num_classes", None), source=source)


def evaluation_set(config: Config, task: Task, known: Known, say: Callable[[str], None], split: str = "Eval") -> Any:
    """The dataset of `DataLoader.<split>`; for a task that classifies, its labels count the known classes.

    Args:
        config: Checked by plsc.schema.
        task: What is evaluated.
        known: Names of the model's classes, and who knows them.
        say: Takes notes about classes, see plsc.data.classes.
        split: Which section.

    Raises:
        ConfigError: If the dataset has classes that are not known.
    """
    node = config["DataLoader"][split]["dataset"]
    dataset = registry.DATASETS.build(node)
    if not agreement.classifies(task):
        return dataset
    with blamed_on(node):
        return match_classes(dataset, *known, say)


def accumulation(run: settings.Global, loader: settings.Loader, processes: int) -> int:
    """Micro-batches per optimizer step: `accumulate_steps`, or what makes up `global_batch_size`.

    Raises:
        ConfigError: If the global batch is no multiple of what the devices take at once.
    """
    if run.global_batch_size is None:
        return run.accumulate_steps
    at_once = loader.batch_size * processes
    if run.global_batch_size % at_once:
        raise ConfigError(
            f"Global.global_batch_size: {run.global_batch_size} is no multiple of {at_once} "
            f"({loader.batch_size} images x {processes} processes); "
            "change it or DataLoader.Train.loader.batch_size"
        )
    return run.global_batch_size // at_once


def make_plan(run: settings.Global, steps_per_epoch: int, accumulate: int, global_batch_size: int) -> Plan:
    """How many steps the run takes."""
    total = run.steps or math.ceil(run.epochs * steps_per_epoch)
    stop = min(total, run.max_train_step or total)
    return Plan(steps_per_epoch, total, stop, accumulate, global_batch_size, run.steps is not None)


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


def build_evaluation(
    config: Config,
    run: settings.Global,
    task: Task,
    precision: Precision,
    say: Callable[[str], None] = bad_images.tell,
    known: Known = (None, "the checkpoint"),
) -> Evaluator:
    """What evaluates the task on `DataLoader.Eval`; `say` tells of images that are left out.

    `known` are the names of the model's classes and who knows them, see `evaluation_set`.
    """
    return Evaluator(
        task,
        build_loader(config, "Eval", run, say, evaluation_set(config, task, known, say), task),
        build_list(registry.BATCH_TRANSFORMS, config["DataLoader"]["Eval"].get("batch_transforms")),
        build_metrics(config, task),
        precision,
    )


def build_metrics(config: Config, task: Task) -> List[Any]:
    """The metrics of the section Metric, for a task."""
    metrics = build_list(registry.METRICS, config.get("Metric"))
    taken: Set[str] = set()
    for node, metric in zip(config.get("Metric") or (), metrics):
        repeated = taken & set(getattr(metric, "names", ()))
        if repeated:
            text = f"{min(repeated)} is measured by a metric before it, one value would overwrite the other; remove one"
            raise blame(node, text)
        taken.update(getattr(metric, "names", ()))
    for metric in metrics:
        if hasattr(metric, "bind"):  # one from elsewhere need not be a subclass of Metric
            metric.bind(task)
    return metrics


def resume(config: Config, trainer: Trainer, checkpoints: Checkpoints, run: settings.Global, log: RunLog) -> None:
    """Continues from the checkpoint that `Global.resume` means, if there is one."""
    if run.resume is None:
        return
    with blamed_on(config["Global"]):
        path = agreement.agree_on_checkpoint("Global.resume", partial(_wanted, run.resume, checkpoints.directory))
    if path is None:
        return
    with blamed_on(config["Global"]):
        notes = checkpoints.restore(trainer, path)
    log.say("\n  ".join([f"resumed from {path} at step {trainer.step}", *notes]))


def _wanted(resume_from: str, directory: Path) -> Optional[Path]:
    return _newest(directory) if resume_from == "auto" else store.resolve(resume_from)


def _newest(directory: Path) -> Optional[Path]:
    """The newest whole checkpoint of a run; None if it has none, whole or not, so that nothing is written over."""
    found = storage.find_latest_whole(directory)
    if found is None:
        try:
            storage.check_newest(directory)
            storage.check_pointers(directory)
        except storage.CheckpointError as error:
            raise ValueError(
                f"no checkpoint in {directory} can be resumed: {error}; set output_dir to another folder, or resume "
                "to null to begin again in this one"
            ) from error
    return found
