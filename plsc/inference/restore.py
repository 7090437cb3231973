"""A finished or running training back from its checkpoint: the task that its own config describes, with its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Union

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint import weights as checkpoint_weights
from plsc.checkpoint.formats import grid_of_encoder
from plsc.config import files as config_files
from plsc.config import plugins, registry, schema
from plsc.config.schema import read_settings
from plsc.config.tree import ConfigError
from plsc.engine.device import set_device
from plsc.engine.parts import build_task
from plsc.nn.utils import parameters_at_most, set_training
from plsc.tasks.base import Batch, Task
from plsc.tokenizers.base import Target

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Restored:
    """What `restore` gives.

    Attributes:
        config: The resolved config, with the overrides.
        task: With the checkpoint's weights, in inference mode; `task.encoder` is its encoder.
        path: The checkpoint's directory.
        step: Optimizer steps it was trained for.
        classes: Names of the classes that it was trained on, in the order of its outputs; None if unknown.
    """

    config: Config
    task: Task
    path: Path
    step: int
    classes: Optional[List[str]] = None


def restore(checkpoint: Union[str, Path], overrides: Sequence[str] = (), ema: bool = False) -> Restored:
    """Builds the task of a checkpoint, of whatever phase, and loads its weights.

    Args:
        checkpoint: A run's output directory, its `checkpoints` directory, `latest` or `best` in it, or a step.
        overrides: Changes of its config, as after `-o`.
        ema: Take the moving average of the weights.

    Raises:
        CheckpointError: If there is no whole checkpoint, or the overrides make it another model; names are listed.
        ConfigError: If the overrides do not fit, or the checkpoint holds no moving average.
    """
    path = checkpoint_files.resolve(checkpoint)
    config = read_config(path, overrides)
    plugins.load(config)
    schema.check(config)
    return restore_task(config, path, ema)


def read_config(path: Path, overrides: Sequence[str] = ()) -> Any:
    """The config that a checkpoint directory was trained with, with overrides, not yet checked.

    Raises:
        ConfigError: If the checkpoint has none, or an override is no such thing.
    """
    file = path / checkpoint_files.CONFIG
    if not file.is_file():
        raise ConfigError(f"{path}: holds no {checkpoint_files.CONFIG}, so what it is a checkpoint of is not known")
    config = config_files.load(file, overrides)
    if not config:
        raise ConfigError(
            f"{path} was converted from a file that holds weights only, so its {checkpoint_files.CONFIG} is empty; "
            "evaluate it with `plsc eval -c CONFIG.yaml`, or start a run from it with Init.checkpoint"
        )
    return config


def restore_task(config: Config, path: Path, ema: bool = False) -> Restored:
    """The task of a checked config with the weights of the checkpoint directory `path`; see `restore`."""
    saved = checkpoint_weights.load(path)
    if ema and not saved.ema:
        raise ConfigError(f"{path} holds no moving average of the weights; take its own (leave --ema out)")
    checkpoint_weights.check_finite(saved.ema if ema else saved.model, str(path))
    grid_of_encoder(saved.config_text)  # refuses sizes that are not sizes
    with parameters_at_most(sum(array.size for array in saved.model.values()), str(path)):
        task = fresh_task(config)
    checkpoint_weights.restore_layer(task, saved, ema)
    return Restored(config, task, path, int(saved.state["step"]), checkpoint_weights.saved_classes(saved.state))


def fresh_task(config: Config) -> Task:
    """The task of a checked config as it is before training, in inference mode, on the config's device.

    A tokenizer that cannot be built, as its files are not here, is an error only when it is used.
    """
    run = read_settings(config, "Global")
    set_device(run.device)
    task = build_task(config, run.seed, _tokenizer(config))
    set_training(task, False)
    return task


class _MissingTokenizer(Target):
    """Stands for a tokenizer whose files are not here; only what needs targets has to have it."""

    kind = "ids"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __call__(self, batch: Batch) -> Any:
        raise ValueError(f"the tokenizer of this checkpoint cannot be built, so there are no targets: {self.reason}")


def _tokenizer(config: Config) -> Optional[Any]:
    """The config's tokenizer, if it has one, or what stands for it."""
    node = config.get("Tokenizer")
    if node is None:
        return None
    try:
        return registry.TOKENIZERS.build(node)
    except (ValueError, OSError) as error:
        return _MissingTokenizer(str(error))
