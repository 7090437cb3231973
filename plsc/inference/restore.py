"""Restore the task of a finished or running training from its checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence, Union

from plsc.checkpoint.files import CONFIG
from plsc.checkpoint.model_config import grid_of_encoder
from plsc.checkpoint.reader import Checkpoint
from plsc.checkpoint.weights import check_finite, restore_layer, weights_of
from plsc.config import files as config_files
from plsc.config import plugins, registry
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigError, ConfigMap
from plsc.engine.device import set_device
from plsc.engine.parts import build_task
from plsc.nn.utils import parameters_at_most, set_training
from plsc.tasks.base import Batch, Task
from plsc.tokenizers.base import Target


@dataclass(frozen=True)
class Restored:
    """A task with the weights of a checkpoint.

    Attributes:
        config: Resolved config of the run, with the overrides.
        task: With the checkpoint's weights, in inference mode; `task.encoder` is its encoder.
        path: Directory of the checkpoint.
        step: Optimizer steps that it was trained for.
        classes: Names of the classes that it was trained on, in the order of its outputs; None if unknown.
    """

    config: RunConfig
    task: Task
    path: Path
    step: int
    classes: Optional[List[str]] = None


def restore(checkpoint: Union[str, Path, Checkpoint], overrides: Sequence[str] = (), ema: bool = False) -> Restored:
    """Build the task of a checkpoint of any phase of training, and load its weights.

    Args:
        checkpoint: An opened checkpoint; or the path of a run's output directory, its `checkpoints` directory, `latest`
            or `best` in it, or a step.
        overrides: Changes of its config, in the syntax of `-o`.
        ema: Load the moving average of the weights.

    Raises:
        CheckpointError: If no checkpoint is whole, or the overrides describe another model; names are listed.
        ConfigError: If the overrides do not fit, or the checkpoint holds no moving average.
    """
    saved = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint.open(checkpoint)
    tree = read_config(saved.path, overrides)
    plugins.load(tree)
    return restore_task(RunConfig.checked(tree), saved, ema)


def read_config(path: Path, overrides: Sequence[str] = ()) -> ConfigMap:
    """Read the config that a checkpoint directory was trained with, with overrides; it is not checked.

    Raises:
        ConfigError: If the checkpoint has no config, or an override is malformed.
    """
    file = path / CONFIG
    if not file.is_file():
        raise ConfigError(f"{path} has no {CONFIG}, so its model is unknown")
    config = config_files.load(file, overrides)
    if not config:
        raise ConfigError(
            f"{path} was converted from a file that holds weights only, so its {CONFIG} is empty; evaluate it with "
            "`plsc eval -c CONFIG.yaml`, or start a run from it with Init.checkpoint"
        )
    return config


def restore_task(config: RunConfig, checkpoint: Checkpoint, ema: bool = False) -> Restored:
    """Build the task of a checked config and load the weights of a checkpoint; see `restore`."""
    weights = weights_of(checkpoint, ema)
    check_finite(weights, str(checkpoint))
    grid_of_encoder(checkpoint.config_text)  # raises if a size is invalid
    with parameters_at_most(sum(array.size for array in weights.values()), str(checkpoint)):
        task = fresh_task(config)
    restore_layer(task, checkpoint, weights)
    return Restored(config, task, checkpoint.path, checkpoint.step, checkpoint.classes)


def fresh_task(config: RunConfig) -> Task:
    """Build the task of a checked config with its initial weights, in inference mode, on the config's device.

    A tokenizer whose files are missing raises an error only when it is used.
    """
    set_device(config.global_.device)
    task = build_task(config, config.global_.seed, _tokenizer(config))
    set_training(task, False)
    return task


class _MissingTokenizer(Target):
    """Stand-in for a tokenizer whose files are missing; only computing targets needs them."""

    kind = "ids"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __call__(self, batch: Batch) -> Any:
        raise ValueError(f"the tokenizer of this checkpoint cannot be built, so there are no targets: {self.reason}")


def _tokenizer(config: RunConfig) -> Optional[Any]:
    """Build the config's tokenizer, or its stand-in; None if it has no tokenizer."""
    node = config.get("Tokenizer")
    if node is None:
        return None
    try:
        return registry.TOKENIZERS.build(node)
    except (ValueError, OSError) as error:
        return _MissingTokenizer(str(error))
