"""Frozen features of the encoder that a config describes, handed to the protocols of `plsc.evaluation`."""

from typing import Any, Dict, Mapping, Sequence

from plsc import registry
from plsc.data.loader import DataLoader
from plsc.engine.build import build_list, build_task, initialise
from plsc.engine.logging import RunLog
from plsc.engine.run import set_device
from plsc.evaluation.features import Features, extract
from plsc.evaluation.frozen import Settings, evaluate_frozen
from plsc.schema import read_settings
from plsc.tasks.base import Task
from plsc.yaml_tree import ConfigError

Config = Mapping[str, Any]


def evaluate_config(
    config: Config, protocols: Sequence[str], settings: Settings, test: bool = True
) -> Dict[str, Any]:
    """Classifies by frozen features of `Model.encoder`, with the weights that `Init` names.

    Args:
        config: Checked by plsc.schema; `DataLoader.Train` and `DataLoader.Eval` have labels. Training images are read
            once, in order, with the transforms of `DataLoader.Eval`: without augmentation.
        protocols: See plsc.evaluation.frozen.
        settings: Likewise.
        test: Whether to test on `DataLoader.Eval`; else accuracies are of the validation part only.

    Raises:
        ConfigError: If the config has no evaluation set.
        ValueError: If the images have no labels, or are too few.
    """
    if config["DataLoader"].get("Eval") is None:
        raise ConfigError("DataLoader.Eval: the config has no evaluation set; give one with -o DataLoader.Eval=...")
    run = read_settings(config, "Global")
    set_device(run.device)
    task = build_task(config, run.seed)
    log = RunLog(main=True, progress="none")
    initialise(task, config, log)
    tokens = "attentive" in protocols
    train = features_of(config, "Train", task, tokens)
    return evaluate_frozen(train, features_of(config, "Eval", task, tokens) if test else None, protocols, settings)


def features_of(config: Config, split: str, task: Task, with_tokens: bool = False) -> Features:
    """Features of `DataLoader.<split>`'s images, as an evaluation sees them."""
    section = config["DataLoader"]["Eval"]
    loader = read_settings(config, "DataLoader.Eval.loader")
    reader = DataLoader(
        registry.DATASETS.build(config["DataLoader"][split]["dataset"]),
        build_list(registry.TRANSFORMS, section.get("transforms")),
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        shuffle=False,
        drop_last=False,
    )
    transforms = build_list(registry.BATCH_TRANSFORMS, section.get("batch_transforms"))
    return extract(task.encoder, reader, transforms, with_tokens)
