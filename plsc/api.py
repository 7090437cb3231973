"""plsc from Python: a trained network in one line, a training in another."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence, Union

import yaml

from plsc import runtime
from plsc.config import files as config_files
from plsc.config import plugins
from plsc.config.overrides import apply_override
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigMap, parse, to_plain

if TYPE_CHECKING:
    from plsc.inference.predictor import Predictor
    from plsc.runs.reader import Run


def load(checkpoint: Union[str, Path], ema: bool = False, overrides: Sequence[str] = ()) -> "Predictor":
    """A trained network, ready to be used.

        model = plsc.load("output/quickstart/finetune")
        features = model.features("digit.png")              # float32 (64,)
        model.predict(["a.png", "b.png"], topk=3)

    Args:
        checkpoint: A run's output directory, its `checkpoints/best`, or a step's directory.
        ema: Take the moving average of the weights.
        overrides: Changes of the run's config, such as `Global.device=cpu`.

    Returns:
        A `plsc.inference.predictor.Predictor`.

    Raises:
        CheckpointError: If there is no whole checkpoint.
        ConfigError: If the overrides do not fit, or there is no moving average.
    """
    _set_up()
    from plsc.inference.predictor import load_predictor

    return load_predictor(checkpoint, ema, overrides)


def train(config: Union[str, Path, Mapping[str, Any]], overrides: Sequence[str] = ()) -> "Run":
    """Trains to the end, as `tools/train.py` does; the same call goes on with a run that was interrupted.

        run = plsc.train("configs/quickstart/scratch.yaml", ["Global.epochs=2"])
        epochs, accuracy = run.series("eval", "top1")
        model = plsc.load(run.path)

    Args:
        config: A YAML file, or a mapping with the same content.
        overrides: `key=value`, as after `-o`.

    Returns:
        The finished run, a `plsc.runs.reader.Run`: its metrics, config and output directory.

    Raises:
        ConfigError: With every problem of the config.
        KeyboardInterrupt: If it was asked to stop; everything is saved then.
    """
    chosen = _set_up()
    tree = _tree(config, overrides)
    plugins.load(tree)
    checked = RunConfig.checked(tree)
    from plsc.engine.run import train as run_to_the_end
    from plsc.report.write import RunReport
    from plsc.runs.reader import read_run

    if run_to_the_end(checked, chosen, RunReport()):
        raise KeyboardInterrupt("stopped; everything is saved, the same call goes on from there")
    return read_run(Path(checked.global_.output_dir))


def _set_up() -> Mapping[str, str]:
    chosen = runtime.setup()
    runtime.import_paddle()
    return chosen


def _tree(config: Union[str, Path, Mapping[str, Any]], overrides: Sequence[str]) -> ConfigMap:
    if isinstance(config, (str, Path)):
        return config_files.load(config, overrides)
    tree = parse(yaml.safe_dump(to_plain(config), sort_keys=False), "the mapping given to plsc.train")
    for text in overrides:
        apply_override(tree, text)
    return tree
