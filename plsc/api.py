"""Python interface: load a trained network, run a training.

Both functions run inside foreign programs. `load` and the methods of its Predictor leave the process unchanged.
`train` sets up the process for training and restores it at the end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Sequence, Union

import yaml

from plsc import distribution, runtime
from plsc.config import files as config_files
from plsc.config import plugins
from plsc.config.overrides import apply_override
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigMap, parse, to_plain

if TYPE_CHECKING:
    from plsc.inference.predictor import Predictor
    from plsc.runs.reader import Run


def load(checkpoint: Union[str, Path], ema: bool = False, overrides: Sequence[str] = ()) -> Predictor:
    """Load a trained network for inference.

        model = plsc.load("output/quickstart/finetune")
        features = model.features("digit.png")              # float32 (64,)
        model.predict(["a.png", "b.png"], topk=3)

    The program's environment variables, random generators, device, signal and fork handlers, memory allocator, warning
    filters and log handlers are the same before and after the call. Paddle uses one CPU thread unless
    OMP_NUM_THREADS is set before Paddle is imported.

    Args:
        checkpoint: A run's output directory, its `checkpoints/best`, or a step's directory.
        ema: Load the moving average of the weights.
        overrides: Changes of the run's config, such as `Global.device=cpu`.

    Returns:
        A `plsc.Predictor`.

    Raises:
        CheckpointError: If the checkpoint is missing or incomplete.
        ConfigError: If an override does not fit, or the checkpoint has no moving average.
        ImportError: If Paddle is missing, or another project's distribution `plsc` is installed.
    """
    distribution.check()
    with _process_kept():
        _import_paddle()
        from plsc.inference.predictor import load_predictor

        with _paddle_kept():
            return load_predictor(checkpoint, ema, overrides)


def train(config: Union[str, Path, Mapping[str, Any]], overrides: Sequence[str] = ()) -> Run:
    """Train to the end, as `plsc train` does; the same call resumes a run that was interrupted.

        run = plsc.train("configs/quickstart/scratch.yaml", ["Global.epochs=2"])
        epochs, accuracy = run.series("eval", "top1")
        model = plsc.load(run.path)

    During the call, the process is set up as by the command line: threads and allocator if Paddle was not imported
    before, signal handlers, device, Paddle's flags and random generators. All of it is restored at the end, except the
    number of Paddle's threads, flags of `Global.deterministic` that Paddle does not reveal, and a distributed job.

    Args:
        config: A YAML file, or a mapping with the same content.
        overrides: `key=value`, as after `-o`.

    Returns:
        The finished run: its metrics, config and output directory.

    Raises:
        ConfigError: With every problem of the config.
        ImportError: If Paddle is missing, or another project's distribution `plsc` is installed.
        KeyboardInterrupt: If the run was asked to stop; everything is saved then.
    """
    distribution.check()
    with _process_kept(), _set_up_for_a_call() as chosen:
        tree = _tree(config, overrides)
        plugins.load(tree)
        checked = RunConfig.checked(tree)
        from plsc.engine.run import train as run_to_the_end
        from plsc.report.write import RunReport
        from plsc.runs.reader import read_run

        with _paddle_kept():
            stopped = run_to_the_end(checked, chosen, RunReport())
    if stopped:
        raise KeyboardInterrupt("stopped; everything is saved, the same call resumes the run")
    return read_run(Path(checked.global_.output_dir))


def _tree(config: Union[str, Path, Mapping[str, Any]], overrides: Sequence[str]) -> ConfigMap:
    if isinstance(config, (str, Path)):
        return config_files.load(config, overrides)
    tree = parse(yaml.safe_dump(to_plain(config), sort_keys=False), "the mapping given to plsc.train")
    for text in overrides:
        apply_override(tree, text)
    return tree


@contextlib.contextmanager
def _set_up_for_a_call() -> Iterator[Mapping[str, str]]:
    """Set up the process and import Paddle; undo the set-up at the end of the block."""
    chosen = runtime.setup()
    try:
        _import_paddle()
        yield chosen
    finally:
        runtime.undo()


def _import_paddle() -> None:
    """Import Paddle without its changes of the root logger."""
    handlers, level = list(logging.root.handlers), logging.root.level
    try:
        runtime.import_paddle()
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


@contextlib.contextmanager
def _process_kept() -> Iterator[None]:
    """Restore environment, warning filters and Python's random generator at the end of the block."""
    environment, generator = dict(os.environ), random.getstate()
    with warnings.catch_warnings():
        try:
            yield
        finally:
            random.setstate(generator)
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            for name, value in environment.items():
                if os.environ.get(name) != value:
                    os.environ[name] = value


@contextlib.contextmanager
def _paddle_kept() -> Iterator[None]:
    """Restore the random generators of NumPy and Paddle, and Paddle's device and flags, at the end of the block."""
    import numpy as np
    import paddle
    from paddle.base import core

    from plsc.engine.device import device_kept

    gpus = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    generators = [core.default_cpu_generator(), *map(core.default_cuda_generator, range(gpus))]
    of_numpy, of_paddle = np.random.get_state(), [generator.get_state() for generator in generators]
    with device_kept():
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            for generator, state in zip(generators, of_paddle):
                generator.set_state(state)
