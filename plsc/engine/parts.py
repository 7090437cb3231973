"""Components of a run, built from the sections of a config."""

from functools import partial
from typing import Any, Callable, List, Optional, Sequence, Set, Tuple

import paddle

from plsc import distributed
from plsc.checkpoint import transfer
from plsc.checkpoint.formats import Source, open_source
from plsc.config import registry
from plsc.config.run_config import RunConfig
from plsc.config.schema import TASK_ARGUMENTS
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

Known = Tuple[Optional[Sequence[str]], str]  # names of the model's classes, None if unknown, and their source


def build_task(config: RunConfig, seed: int, tokenizer: Optional[Any] = None) -> Task:
    """Build the task with its networks and losses, initialized from `seed`.

    Args:
        config: Config of the run.
        seed: Of the initial weights.
        tokenizer: Replaces the tokenizer of the config.
    """
    paddle.seed(seed)
    kinds = {"Model": registry.MODELS, "Tokenizer": registry.TOKENIZERS, "Loss": registry.LOSSES}
    given = {} if tokenizer is None else {"Tokenizer": tokenizer}
    parts = {
        TASK_ARGUMENTS[section]: given.get(section) or kind.build(config[section])
        for section, kind in kinds.items()
        if config.get(section) is not None
    }
    return registry.TASKS.build(config["Task"], **parts)


def initialise(task: Task, config: RunConfig, log: RunLog, classes: Optional[Sequence[str]] = None) -> None:
    """Load weights from the checkpoint that the section Init names, and log which tensors were loaded.

    Args:
        task: Is filled; unchanged if Init names no checkpoint.
        config: Config of the run.
        log: Takes the report.
        classes: Names of the run's classes, which are matched with those of the checkpoint's head.
    """
    init = config.init
    if init.checkpoint is not None:
        with blamed_on(config["Init"]):
            find: Callable[[], Optional[Source]] = partial(open_source, init.checkpoint)
            source: Optional[Source] = consistency.agree_on_checkpoint(consistency.INITIAL_WEIGHTS, find)
            report = transfer.initialise(task, init, classes, source)
        task.on_weights_loaded(report.loaded)
        log.say(str(report))


def build_list(kind: registry.Registry, nodes: Optional[List[Any]]) -> List[Any]:
    """Build the components of a list of nodes; none if the section is missing."""
    return [kind.build(node) for node in nodes or []]


def build_loader(
    config: RunConfig,
    split: str,
    say: Callable[[str], None] = bad_images.tell,
    dataset: Optional[Any] = None,
    task: Optional[Task] = None,
) -> DataLoader:
    """Build the loader of `DataLoader.<split>`, with the masks of the section MaskGenerator if it is given.

    Bad images that are skipped are replaced by others in training, and left out in evaluation.

    Args:
        config: Config of the run.
        split: `Train` or `Eval`.
        say: Takes the number of images and classes, and a line for each bad image that is skipped.
        dataset: Replaces the dataset of the section.
        task: Labels are compared with its classes, if it has classes.
    """
    section = config["DataLoader"][split]
    loader = config.loader(split)
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
            seed=config.global_.seed,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            accumulate=accumulation(config.global_, loader, distributed.world_size()) if split == "Train" else 1,
            timeout=loader.timeout,
            check_label=_label_check(task, f"DataLoader.{split}.dataset"),
        )


def build_evaluation(
    config: RunConfig,
    task: Task,
    precision: Precision,
    say: Callable[[str], None] = bad_images.tell,
    known: Known = (None, "the checkpoint"),
) -> Evaluator:
    """Build the evaluation of a task on `DataLoader.Eval`.

    Args:
        config: Config of the run.
        task: The task to evaluate.
        precision: Precision of the forward pass.
        say: Takes a line for each image that is left out.
        known: Names of the model's classes and their source, see `evaluation_set`.
    """
    return Evaluator(
        task,
        build_loader(config, "Eval", say, evaluation_set(config, task, known, say), task),
        build_list(registry.BATCH_TRANSFORMS, config.nodes("DataLoader.Eval.batch_transforms")),
        build_metrics(config, task),
        precision,
    )


def build_metrics(config: RunConfig, task: Task) -> List[Any]:
    """Build the metrics of the section Metric for a task.

    Raises:
        ConfigError: If two of them have a name in common.
    """
    metrics = build_list(registry.METRICS, config.nodes("Metric"))
    taken: Set[str] = set()
    for node, metric in zip(config.nodes("Metric"), metrics):
        repeated = taken & set(metric.names)
        if repeated:
            text = f"{min(repeated)} is measured by a metric before it, one value would overwrite the other; remove one"
            raise blame(node, text)
        taken.update(metric.names)
    for metric in metrics:
        metric.bind(task)
    return metrics


def bad_image_policy(
    config: RunConfig, split: str, say: Callable[[str], None] = bad_images.tell, leave_out: bool = True
) -> bad_images.BadImages:
    """Return the policy for unreadable images that `DataLoader.<split>.loader` sets."""
    loader = config.loader(split)
    section = f"DataLoader.{split}.loader"
    return bad_images.BadImages(section, loader.on_bad_image, loader.max_bad_images, leave_out, say)


def _label_check(task: Optional[Task], source: str) -> Optional[Callable[[Any], None]]:
    """A function that refuses labels which `task` cannot have; None if it takes none."""
    if task is None or not consistency.classifies(task):
        return None
    return partial(check_labels, count=task.num_classes, source=source)


def evaluation_set(config: RunConfig, task: Task, known: Known, say: Callable[[str], None], split: str = "Eval") -> Any:
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
