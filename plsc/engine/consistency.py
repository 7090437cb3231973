"""Checks before the first step: sections of a config fit each other, and all processes have the same inputs."""

import contextlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union

import numpy as np
import paddle

import plsc
from plsc import distributed
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.reader import Checkpoint
from plsc.config import plugins, settings
from plsc.config.tree import ConfigError, blame, to_plain
from plsc.data.fingerprint import fingerprint
from plsc.data.labels import class_count, is_unlabelled, known_labels
from plsc.data.pipeline import file_of
from plsc.distributed.source_digest import source_digests
from plsc.engine.interrupt import Interrupted
from plsc.errors import JobError
from plsc.evaluation.evaluate import Evaluator
from plsc.models.encoder import Encoder
from plsc.optim.schedules import Schedule
from plsc.tasks.base import Task

Config = Mapping[str, Any]
Source = TypeVar("Source", bound=Union[Path, Checkpoint])
INITIAL_WEIGHTS = "Init.checkpoint"


def check_training(config: Config, task: Task, loader: Any, evaluator: Optional[Evaluator]) -> List[str]:
    """Compare masks and classes with those of the network.

    Args:
        config: Checked by plsc.config.schema.
        task: The task with its networks.
        loader: Loader of the training images.
        evaluator: Evaluator of the task; None without an evaluation set.

    Returns:
        Notes about what may be a mistake.

    Raises:
        ConfigError: If sections contradict each other; names the place to change.
    """
    train = config["DataLoader"]["Train"]
    check_masks(config, task, loader.samples.mask_generator)
    _check_classes(train, task, loader.dataset)
    if evaluator is not None:
        check_evaluation(config, task, evaluator)
    found, outputs = class_count(loader.dataset), task.num_classes
    if found is not None and outputs is not None and found < outputs:
        return [f"the training set has {found} class{'es' * (found > 1)}, but the model has {_outputs(outputs)}"]
    return []


def check_evaluation(config: Config, task: Task, evaluator: Evaluator) -> None:
    """Compare the evaluation set and the metrics with the task.

    Raises:
        ConfigError: If there are metrics, but the task has no predictions, or more classes than the model has outputs.
    """
    section = config["DataLoader"]["Eval"]
    if evaluator.metrics and type(task).predict is Task.predict:
        raise blame(config.tree, f"Metric: the task {type(task).__name__} has no predictions; set Metric to null")
    _check_classes(section, task, evaluator.loader.dataset)
    for node, metric in zip(config.get("Metric") or (), evaluator.metrics):
        _check_num_classes(node, task, metric.num_classes)


def patch_grid(task: Task) -> Optional[Tuple[int, int]]:
    """Return rows and columns of the encoder's patches; None if it is not a plsc.models.encoder.Encoder."""
    return task.encoder.grid_size if isinstance(task.encoder, Encoder) else None


def check_masks(config: Config, task: Task, masks: Any) -> None:
    """Raise ConfigError if the grid of the masks differs from that of the encoder's patches.

    Args:
        config: Checked by plsc.config.schema.
        task: The task with its networks.
        masks: Mask generator; None: no masks.
    """
    wanted = patch_grid(task)
    if masks is None or wanted is None or tuple(masks.grid) == tuple(wanted):
        return
    raise blame(
        config["MaskGenerator"],
        f"grid is {_by(masks.grid)}, but the encoder divides its images into {_by(wanted)} patches; set it to "
        f"{list(wanted)}",
    )


def _by(pair: Any) -> str:
    return " x ".join(map(str, pair))


def classifies(task: Task) -> bool:
    """Return whether the labels are classes of the task."""
    return "label" in task.required_keys or task.num_classes is not None


def _check_classes(section: Config, task: Task, dataset: Any) -> None:
    found, outputs = class_count(dataset), task.num_classes
    if "label" in task.required_keys and is_unlabelled(dataset):
        raise blame(
            section["dataset"],
            "the images have no labels, but the task needs them; put every image into a sub-folder named after its "
            "class (with_classes: true names the first image outside of one), or use a list file with labels",
        )
    for node in section.get("batch_transforms") or ():
        _check_num_classes(node, task, node.get("num_classes"))
    _check_lowest_label(section, task, dataset)
    if found is not None and outputs is not None and found > outputs:
        raise blame(
            section["dataset"],
            f"the dataset has {found} classes, but the model has {_outputs(outputs)}; "
            f"{_start_of_labels(dataset)}set the num_classes of Model to {found}",
        )


def _outputs(count: int) -> str:
    return f"{count} output{'s' * (count > 1)}"


def _start_of_labels(dataset: Any) -> str:
    """Return advice about labels that seem to be counted from 1; empty if a label is 0."""
    labels = known_labels(dataset)
    if labels is None or labels.min() < 1:
        return ""
    least, greatest = int(labels.min()), int(labels.max())
    return f"its labels are {least} to {greatest}, but labels start at 0: subtract {least} from each, or "


def _check_lowest_label(section: Config, task: Task, dataset: Any) -> None:
    labels = known_labels(dataset)
    if not classifies(task) or labels is None or labels.min() >= 0:
        return
    place = int(np.argmin(labels))
    raise blame(
        section["dataset"],
        f"{file_of(dataset, place) or f'sample {place}'}: the label {int(labels[place])} is out of range; labels count "
        "from 0",
    )


def _check_num_classes(node: Any, task: Task, num_classes: Optional[int]) -> None:
    """Raise ConfigError if a component has another number of classes than the model; None: it has no such argument."""
    wanted = task.num_classes
    if num_classes is not None and wanted is not None and num_classes != wanted:
        raise blame(node, f"num_classes is {num_classes}, but the model has {_outputs(wanted)}; set it to {wanted}")


def check_monitor(config: Config, run: settings.Global, measured: Sequence[str]) -> None:
    """Raise ConfigError if the metric that decides `best` is not measured."""
    if run.monitor is not None and run.monitor not in measured:
        others = f", only {', '.join(measured)}" if measured else ": DataLoader.Eval is missing"
        text = f"monitor: {run.monitor} is not measured during the run{others}; change monitor, or set it to null"
        raise blame(config["Global"], text)


def agree_on_inputs(config: Config) -> None:
    """Compare the inputs of all processes of a job: config, versions, source files, and files that the config names.

    Raises:
        ValueError: In every process, if they differ; lists the differences by process.
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
    """Yield the key paths and values of a config."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        yield path, node
        return
    for key, value in items:
        yield from _leaves(value, f"{path}.{key}" if path else str(key))


def _described(value: str) -> str:
    """Return a value of the config, with the checksum of the file that it names."""
    try:
        path = Path(value).expanduser()
        return f"{value} ({checkpoint_files.identity(path)})" if path.is_file() else f"{value} (not a file)"
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: no such user
        return f"{value} ({error})"


def agree_on_data(**datasets: Any) -> None:
    """Compare the data sets of all processes: number of images, classes in their order, names and labels.

    Args:
        datasets: Data sets by their section of DataLoader; None is left out.

    Raises:
        ConfigError: In every process, if they differ; lists the differences by process.
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
        ConfigError: In every process, if they do not find the same checkpoint; lists what each process finds.
        ValueError: The error of `find`, if it is raised in every process.
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
    """Return notes about settings that are valid, but have no effect or are probably mistakes.

    Args:
        config: Checked by plsc.config.schema.
        run: Its section Global.
        plan: Length of the run.
        optimizer: A plsc.optim optimizer.
        schedule: Learning rate schedule; one that is not a plsc.optim.schedules.Schedule is not checked.
    """
    notes = [
        f"Optimizer.no_weight_decay: the pattern {pattern!r} matches no parameter" for pattern in optimizer.unmatched
    ]
    if isinstance(schedule, Schedule):
        notes += _doubtful_schedule(schedule, plan.epochs)
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
    return notes + _other_normalization(config)


def _doubtful_schedule(schedule: Schedule, epochs: float) -> Iterator[str]:
    if schedule.min_lr > schedule.base:
        yield (
            f"LRScheduler.min_lr is {schedule.min_lr:g}, above the learning rate of {schedule.base:g}: the rate rises"
        )
    late = [milestone for milestone in schedule.milestones if milestone >= epochs]
    if late:
        yield f"LRScheduler.milestones: {late} are not reached, the run has {epochs:g} epochs"


def _other_normalization(config: Config) -> List[str]:
    """Return a note if images are normalized differently in evaluation and in training."""
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
    """Turn errors of Paddle and Python in the first pass through networks and data into messages about the config.

    Args:
        what: Name of the pass, for the message.
        sections: Sections of the config that may not fit each other.
        still: Returns whether the pass is still the first one; later errors are raised unchanged.

    Raises:
        ValueError: In place of any other exception than those with a clear message.
    """
    try:
        yield
    except Exception as error:
        if not still() or _is_clear(error):
            raise
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        raise ValueError(f"{what} failed, so {sections} may not fit each other: {reason}") from error


def _is_clear(error: Exception) -> bool:
    """Return whether a message is from plsc: Paddle's messages begin with the kind of error in brackets."""
    ours = isinstance(error, (ValueError, OSError, ImportError, FloatingPointError, Interrupted, MemoryError, JobError))
    return ours and not str(error).startswith("(")
