"""Checks before the first step: sections of a config go together, and all processes of a job use the same things."""

import contextlib
import math
import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

import numpy as np
import paddle

import plsc
from plsc import distributed
from plsc.checkpoint import files as checkpoint_files
from plsc.config import plugins, settings
from plsc.config.tree import ConfigError, blame, to_plain
from plsc.data.fingerprint import fingerprint
from plsc.data.pipeline import file_of
from plsc.distributed.source_digest import source_digests
from plsc.engine.interrupt import Interrupted
from plsc.errors import JobError
from plsc.evaluation.evaluate import Evaluator
from plsc.tasks.base import Task

Config = Mapping[str, Any]
Source = TypeVar("Source", bound="os.PathLike[str]")  # a path or an opened checkpoint
INITIAL_WEIGHTS = "Init.checkpoint"


def check_training(config: Config, task: Task, loader: Any, evaluator: Optional[Evaluator]) -> List[str]:
    """Compares masks and classes with those of the network.

    Args:
        config: Checked by plsc.config.schema.
        task: With its networks.
        loader: Of the training images.
        evaluator: What evaluates, if there is an evaluation set.

    Returns:
        What is worth knowing, although it may be meant.

    Raises:
        ConfigError: If something contradicts something else; with the place to change.
    """
    train = config["DataLoader"]["Train"]
    check_masks(config, task, loader.samples.mask_generator)
    _check_classes(train, task, loader.dataset)
    if evaluator is not None:
        check_evaluation(config, task, evaluator)
    there, told_apart = _classes_of(loader.dataset), _told_apart(task)
    if there is not None and told_apart is not None and there < told_apart:
        return [f"the training set has {there} class{'es' * (there > 1)}, the model tells {told_apart} apart"]
    return []


def check_evaluation(config: Config, task: Task, evaluator: Evaluator) -> None:
    """Compares the evaluation set and the metrics with the task.

    Raises:
        ConfigError: If the task predicts nothing, or there are more classes than it tells apart.
    """
    section = config["DataLoader"]["Eval"]
    if evaluator.metrics and type(task).predict is Task.predict:
        raise blame(config, f"Metric: the task {type(task).__name__} predicts nothing; set Metric to null")
    _check_classes(section, task, evaluator.loader.dataset)
    for node, metric in zip(config.get("Metric") or (), evaluator.metrics):
        _check_width(node, task, metric)


def check_masks(config: Config, task: Task, masks: Any) -> None:
    """Raises ConfigError if masks are drawn on another grid than that of the encoder's patches."""
    grid, wanted = getattr(masks, "grid", None), getattr(task.encoder, "grid_size", None)
    if grid is None or wanted is None or tuple(grid) == tuple(wanted):
        return
    raise blame(
        config["MaskGenerator"],
        f"grid is {_by(grid)}, but the encoder cuts its images into {_by(wanted)} patches; set it to {list(wanted)}",
    )


def _by(pair: Any) -> str:
    return " x ".join(map(str, pair))


def classifies(task: Task) -> bool:
    """Whether labels are classes of the task, so that their numbers and names matter."""
    return "label" in task.required_keys or _told_apart(task) is not None


def _told_apart(task: Task) -> Optional[int]:
    """How many classes the task tells apart; None if it does not classify."""
    return getattr(task, "num_classes", None)


def _check_classes(section: Config, task: Task, dataset: Any) -> None:
    there, told_apart = _classes_of(dataset), _told_apart(task)
    if "label" in task.required_keys and getattr(dataset, "labels", dataset) is None:
        raise blame(
            section["dataset"],
            "its images have no labels, which the task needs; every image has to lie in a sub-folder, which is its "
            "class (with_classes: true names the first that does not), or a list file has to give labels",
        )
    for node in section.get("batch_transforms") or ():
        _check_width(node, task, node)
    _check_lowest_label(section, task, dataset)
    if there is not None and told_apart is not None and there > told_apart:
        raise blame(
            section["dataset"],
            f"it has {there} classes, but the model tells {told_apart} apart; "
            f"{_start_of_labels(dataset)}set the num_classes of Model to {there}",
        )


def _start_of_labels(dataset: Any) -> str:
    """Advice about labels that seem to be counted from 1; empty if there is a label 0."""
    labels = getattr(dataset, "labels", None)
    least = 0 if labels is None or not len(labels) else int(min(labels))
    if least < 1:
        return ""
    return f"its labels are {least} to {max(labels)}, but labels start at 0: subtract {least} from each, or "


def _check_lowest_label(section: Config, task: Task, dataset: Any) -> None:
    labels = getattr(dataset, "labels", None)
    if not classifies(task) or labels is None or not len(labels) or min(labels) >= 0:
        return
    place = int(np.argmin(labels))
    raise blame(
        section["dataset"],
        f"{file_of(dataset, place) or f'sample {place}'}: the label {int(labels[place])} is out of range; labels count "
        "from 0",
    )


def _check_width(node: Any, task: Task, component: Any) -> None:
    """A component that is told the number of classes must be told that of the model."""
    told_apart = _told_apart(task)
    own = component.get("num_classes") if isinstance(component, Mapping) else getattr(component, "num_classes", None)
    if own is not None and told_apart is not None and own != told_apart:
        raise blame(node, f"num_classes is {own}, but the model tells {told_apart} classes apart; set it to that")


def _classes_of(dataset: Any) -> Optional[int]:
    """One more than the largest label; None without labels, or if only reading the images would tell."""
    labels = getattr(dataset, "labels", None)
    if labels is not None and len(labels):
        return int(max(labels)) + 1
    classes = getattr(dataset, "classes", None)
    return None if classes is None else len(classes)


def check_monitor(config: Config, run: settings.Global, measured: Sequence[str]) -> None:
    """Raises ConfigError if the metric that decides `best` is none of those measured."""
    if run.monitor is not None and run.monitor not in measured:
        there_is = f", only {', '.join(measured)}" if measured else ": there is no DataLoader.Eval"
        text = f"monitor: nothing measures {run.monitor} during the run{there_is}; change monitor, or set it to null"
        raise blame(config["Global"], text)


def agree_on_inputs(config: Config) -> None:
    """Compares what all processes of a job start with: config, versions, source files, and files that the config names.

    Raises:
        ValueError: In every process, with what differs between which processes.
    """
    if distributed.world_size() == 1:
        return
    leaves = dict(_leaves(config, ""))
    versions = {"plsc": plsc.__version__, "paddle": paddle.__version__}
    distributed.check_agreement(
        {**versions, **{key: repr(value) for key, value in leaves.items()}},
        "the processes of this job were not started with the same config",
        "start every node with the same command and the same files",
    )
    distributed.check_agreement(
        {f"checksum of {name}": value for name, value in source_digests(plugins.modules(config)).items()},
        "the processes of this job do not run the same code",
        "install the same version of plsc and of the modules that `imports` names on every node",
    )
    distributed.check_agreement(
        {key: _described(value) for key, value in leaves.items() if isinstance(value, str) and key != INITIAL_WEIGHTS},
        "the processes of this job do not see the same files",
        "copy the same files to every node, or use a file system that all nodes see",
    )


def _leaves(node: Any, path: str) -> Iterator[Tuple[str, Any]]:
    """Key paths and values of a config."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        yield path, node
        return
    for key, value in items:
        yield from _leaves(value, f"{path}.{key}" if path else str(key))


def _described(value: str) -> str:
    """A value of the config, with the checksum of the file that it names, if it names one."""
    try:
        path = Path(value).expanduser()
        return f"{value} ({checkpoint_files.identity(path)})" if path.is_file() else f"{value} (not a file)"
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: no such user
        return f"{value} ({error})"


def agree_on_data(**datasets: Any) -> None:
    """Compares the data sets of all processes: number of images, classes in their order, names and labels.

    Args:
        datasets: By their section of DataLoader; None is left out.

    Raises:
        ConfigError: In every process, with what differs between which processes.
    """
    if distributed.world_size() == 1:
        return
    facts: Dict[str, str] = {}
    for split, dataset in datasets.items():
        if dataset is None:
            continue
        found, section = fingerprint(dataset), f"DataLoader.{split}.dataset"
        facts[f"{section}: images"] = str(found["samples"])
        facts[f"{section}: classes"] = "none" if found["classes"] is None else str(len(found["classes"]))
        facts.update({f"{section}: class {n}": name for n, name in enumerate(found["classes"] or ())})
        facts[f"{section}: digest of names and labels"] = found["digest"][:16]
    _agree(facts, "data", "copy the same data to every node, or use a file system that all nodes see")


def agree_on_checkpoint(key: str, find: Callable[[], Optional[Source]]) -> Optional[Source]:
    """Find a checkpoint, which must be the same one in every process.

    Args:
        key: Key of the config, for messages.
        find: Looks for the checkpoint; None without one. It may raise ValueError or OSError.

    Returns:
        What `find` returned.

    Raises:
        ConfigError: In every process, with what each of them sees, if they do not see the same checkpoint.
        ValueError: What `find` raised, if it did so in every process.
    """
    if distributed.world_size() == 1:
        return find()
    found, failure = None, None
    try:
        found = find()
        seen = "no checkpoint" if found is None else f"{found} ({checkpoint_files.identity(Path(found))})"
    except (ValueError, OSError) as error:
        failure, seen = error, f"an error ({error})"
    advice = "put it on a file system that all nodes see, or copy it to every node"
    _agree({key: seen}, "checkpoint", advice)
    if failure is not None:
        raise failure
    return found


def _agree(facts: Mapping[str, str], subject: str, advice: str) -> None:
    try:
        distributed.check_agreement(facts, f"the processes of this job do not see the same {subject}", advice)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def doubtful_settings(config: Config, run: settings.Global, plan: Any, optimizer: Any, schedule: Any) -> List[str]:
    """Settings that a run accepts, but that change nothing or are hardly meant, as sentences with their key paths.

    Args:
        config: Checked by plsc.config.schema.
        run: Its section Global.
        plan: The run's length.
        optimizer: Of plsc.optim.
        schedule: Likewise.
    """
    notes = [
        f"Optimizer.no_weight_decay: the pattern {pattern!r} matches no parameter"
        for pattern in getattr(optimizer, "unmatched", ())
    ]
    base, last = getattr(schedule, "base", math.inf), getattr(schedule, "min_lr", 0.0)
    if last > base:
        notes.append(f"LRScheduler.min_lr is {last:g}, above the learning rate of {base:g}: the rate rises")
    late = [milestone for milestone in getattr(schedule, "milestones", ()) if milestone >= plan.epochs]
    if late:
        notes.append(f"LRScheduler.milestones: {late} are not reached, the run has {plan.epochs:g} epochs")
    for key in ("save_every_steps", "check_sync_every", "max_train_step"):
        value, most = getattr(run, key), plan.total_steps if key == "max_train_step" else plan.stop_step
        if value is not None and value > most:
            notes.append(f"Global.{key} is {value}, but the run has {most} steps, so it has no effect")
    if run.profile is not None and run.profile["start"] >= plan.stop_step:
        notes.append(f"Global.profile starts at step {run.profile['start']}, but the run has {plan.stop_step} steps")
    if run.global_batch_size is not None and run.accumulate_steps not in (1, plan.accumulate):
        notes.append(
            f"Global.accumulate_steps is {run.accumulate_steps}, but global_batch_size makes it {plan.accumulate}"
        )
    for node, path in [(config["Global"], f"Global.{key}") for key in ("eval_every_epochs", "save_every_epochs")] + [
        (node, f"Callbacks.{index}.every_epochs") for index, node in enumerate(config.get("Callbacks") or ())
    ]:
        value = node.get(path.rsplit(".", 1)[-1])
        if isinstance(value, int) and value > plan.epochs:
            notes.append(f"{path} is {value}, but the run has {plan.epochs:g} epochs: it is done at the end only")
    return notes + _prepared_otherwise(config)


def _prepared_otherwise(config: Config) -> List[str]:
    """A note if images are normalised otherwise in evaluation than in training."""
    sections = [config["DataLoader"].get(split) for split in ("Train", "Eval")]
    if sections[1] is None:
        return []
    train, evaluation = (
        [to_plain(node) for node in section.get("batch_transforms") or () if node["name"] == "Normalize"]
        for section in sections
    )
    if train == evaluation:
        return []
    return [f"DataLoader.Eval.batch_transforms has {evaluation or 'no Normalize'}, DataLoader.Train {train or 'none'}"]


@contextlib.contextmanager
def first_time(what: str, sections: str, still: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Makes errors of the first pass through networks and data readable, as the cause is mostly a config.

    Args:
        what: What is tried.
        sections: Of the config, which may not fit each other.
        still: Whether it is still the first time; later errors pass as they are.

    Raises:
        ValueError: For whatever Paddle and Python say of tensors and arguments that do not fit.
    """
    try:
        yield
    except Exception as error:
        if not still() or _is_clear(error):
            raise
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        raise ValueError(f"{what} failed, so {sections} may not fit each other: {reason}") from error


def _is_clear(error: Exception) -> bool:
    """Whether a message is our own: Paddle's begin with the kind of error in brackets."""
    ours = isinstance(error, (ValueError, OSError, ImportError, FloatingPointError, Interrupted, MemoryError, JobError))
    return ours and not str(error).startswith("(")
