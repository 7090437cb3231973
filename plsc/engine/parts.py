"""Components of a run, built from the sections of a config."""

from functools import partial
from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional, Sequence, Set, Tuple

import paddle

from plsc import distributed
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint import transfer
from plsc.config import registry, settings
from plsc.config.schema import TASK_ARGUMENTS, read_settings
from plsc.config.tree import blame, blamed_on
from plsc.data import bad_images
from plsc.data.classes import check_labels, match_classes
from plsc.data.loader import DataLoader
from plsc.data.summary import summary
from plsc.engine import consistency
from plsc.engine.plan import accumulation
from plsc.evaluation.evaluate import Evaluator
from plsc.nn.precision import Precision
from plsc.runs.log import RunLog
from plsc.tasks.base import Task

Config = Mapping[str, Any]
Known = Tuple[Optional[Sequence[str]], str]  # names of the model's classes, None if unknown, and who knows them


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
            consistency.agree_on_checkpoint(consistency.INITIAL_WEIGHTS, partial(_source, init.checkpoint))
            report = transfer.initialise(task, init, classes)
        task.on_weights_loaded(report.loaded)
        log.say(str(report))


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


def bad_image_policy(
    config: Config, split: str, say: Callable[[str], None] = bad_images.tell, leave_out: bool = True
) -> bad_images.BadImages:
    """What becomes of images that cannot be read, as `DataLoader.<split>.loader` says."""
    loader: settings.Loader = read_settings(config, f"DataLoader.{split}.loader")
    section = f"DataLoader.{split}.loader"
    return bad_images.BadImages(section, loader.on_bad_image, loader.max_bad_images, leave_out, say)


def _label_check(task: Optional[Task], source: str) -> Optional[Callable[[Any], None]]:
    """A function that refuses labels which `task` cannot have; None if it takes none."""
    if task is None or not consistency.classifies(task):
        return None
    return partial(check_labels, count=getattr(task, "num_classes", None), source=source)


def evaluation_set(config: Config, task: Task, known: Known, say: Callable[[str], None], split: str = "Eval") -> Any:
    """The dataset of `DataLoader.<split>`; for a task that classifies, its labels count the known classes.

    Args:
        config: Checked by plsc.config.schema.
        task: What is evaluated.
        known: Names of the model's classes, and who knows them.
        say: Takes notes about classes, see plsc.data.classes.
        split: Which section.

    Raises:
        ConfigError: If the dataset has classes that are not known.
    """
    node = config["DataLoader"][split]["dataset"]
    dataset = registry.DATASETS.build(node)
    if not consistency.classifies(task):
        return dataset
    with blamed_on(node):
        return match_classes(dataset, *known, say)


def _source(checkpoint: str) -> Path:
    """The file or the checkpoint directory that Init reads."""
    path = Path(checkpoint)
    return path if path.is_file() and path.name not in checkpoint_files.POINTERS else checkpoint_files.resolve(path)
