"""Evaluation of the frozen encoder of a config or a checkpoint by the protocols of `plsc.evaluation`."""

from functools import partial
from typing import Any, Dict, Sequence

from plsc.config import registry
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigError, blamed_on
from plsc.data.bad_images import tell
from plsc.data.classes import check_labels, class_names, match_classes
from plsc.data.loader import DataLoader
from plsc.engine.parts import bad_image_policy, build_list, initialise
from plsc.evaluation.frozen.features import Features, extract
from plsc.evaluation.frozen.protocols import DEFAULTS, NEED_TOKENS, Settings, evaluate_frozen
from plsc.inference.restore import Restored, fresh_task
from plsc.runs.log import RunLog
from plsc.tasks.base import Task

Config = RunConfig


def evaluate_config(config: Config, protocols: Sequence[str], settings: Settings, test: bool = True) -> Dict[str, Any]:
    """Classify by frozen features of the config's encoder, with the weights that `Init` names.

    Args:
        config: Checked by plsc.config.schema; see `evaluate_task`.
        protocols: See plsc.evaluation.frozen.protocols.
        settings: Likewise.
        test: Test on `DataLoader.Eval`; otherwise accuracies are those of the validation part.

    Raises:
        ConfigError: If the config has no evaluation set, or it has classes that the training images do not have.
        ValueError: If the images have no labels, or are too few.
    """
    task = fresh_task(config)
    initialise(task, config, RunLog(main=True, progress="none"))
    return evaluate_task(config, task, protocols, settings, test)


def evaluate_restored(
    restored: Restored, protocols: Sequence[str], settings: Settings = DEFAULTS, test: bool = True
) -> Dict[str, Any]:
    """Classify by frozen features of a checkpoint's encoder; arguments, result and errors as in `evaluate_config`."""
    return evaluate_task(restored.config, restored.task, protocols, settings, test)


def evaluate_random(
    config: Config, protocols: Sequence[str], settings: Settings = DEFAULTS, test: bool = True
) -> Dict[str, Any]:
    """Classify by features of the encoder with random initial weights, as a baseline; see `evaluate_config`."""
    return evaluate_task(config, fresh_task(config), protocols, settings, test)


def evaluate_task(
    config: Config, task: Task, protocols: Sequence[str], settings: Settings, test: bool = True
) -> Dict[str, Any]:
    """Classify by frozen features of `task.encoder`, which is not changed.

    Args:
        config: `DataLoader.Train` and `DataLoader.Eval` have labels. Training images are read once, in order, with
            the transforms of `DataLoader.Eval`: without augmentation.
        task: With its weights.
        protocols: See plsc.evaluation.frozen.protocols.
        settings: Likewise.
        test: Test on `DataLoader.Eval`.

    Returns:
        As `plsc.evaluation.frozen.protocols.evaluate_frozen`.
    """
    if config["DataLoader"].get("Eval") is None:
        raise ConfigError(
            "DataLoader.Eval: the config has no evaluation set; give one with -o DataLoader.Eval=..., or for a "
            "checkpoint with --data-config FILE, a config whose DataLoader has labelled images"
        )
    tokens = any(name in NEED_TOKENS for name in protocols)
    nodes = {split: config["DataLoader"][split]["dataset"] for split in ("Train", "Eval")}
    training = registry.DATASETS.build(nodes["Train"])
    testing = registry.DATASETS.build(nodes["Eval"]) if test else None
    if testing is not None:
        with blamed_on(nodes["Eval"]):
            testing = match_classes(testing, class_names(training), "DataLoader.Train", tell)
    train = features_of(config, "Train", training, task, tokens)
    tested = None if testing is None else features_of(config, "Eval", testing, task, tokens)
    return evaluate_frozen(train, tested, protocols, settings)


def features_of(config: Config, split: str, dataset: Any, task: Task, with_tokens: bool = False) -> Features:
    """Features of a dataset's images, as an evaluation sees them; bad images as the loader of `split` says."""
    section = config["DataLoader"]["Eval"]
    loader = config.loader("Eval")
    reader = DataLoader(
        dataset,
        build_list(registry.TRANSFORMS, section.get("transforms")),
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        shuffle=False,
        drop_last=False,
        bad_images=bad_image_policy(config, split),
        check_label=partial(check_labels, count=None, source="DataLoader"),
    )
    transforms = build_list(registry.BATCH_TRANSFORMS, section.get("batch_transforms"))
    return extract(task.encoder, reader, transforms, with_tokens)
