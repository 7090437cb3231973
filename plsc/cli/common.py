"""Shared code of all verbs: config options, process set-up and reports of user errors."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple

from plsc import runtime, terminal
from plsc.config import files as config_files
from plsc.config import plugins
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigError, ConfigMap
from plsc.errors import JobError
from plsc.runs.directory import warnings_to
from plsc.text import lines

if TYPE_CHECKING:
    from plsc.inference.predictor import Predictor

USER_ERROR = 2
FAILURE = 1


def parser(verb: str, description: str) -> argparse.ArgumentParser:
    """Return an argument parser with the options of every verb."""
    result = argparse.ArgumentParser(prog=f"plsc {verb}", description=description)
    result.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return result


def add_config_options(target: argparse.ArgumentParser, required: bool = True) -> None:
    """Add `-c` and `-o`."""
    target.add_argument("-c", "--config", required=required, metavar="FILE", help="YAML config")
    target.add_argument(
        "-o",
        "--override",
        action="append",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="set a value (a.b=1), append to a list (a.b+=1) or delete (~a.b); the value is YAML; repeatable",
    )


def add_checkpoint_options(target: argparse.ArgumentParser) -> None:
    """Add `--checkpoint`, `--ema` and `-o` for verbs that read the config from the checkpoint."""
    target.add_argument("--checkpoint", required=True, metavar="PATH", help="run directory, checkpoint, latest or best")
    target.add_argument("--ema", action="store_true", help="use the moving average of the weights")
    target.add_argument(
        "-o", "--override", action="append", nargs="+", default=[], metavar="KEY=VALUE", help="change the run's config"
    )


def at_least(least: int, **options: int) -> None:
    """Raise ValueError, with the option's name, if a value is smaller than `least`."""
    for name, value in options.items():
        if value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")


def at_most(most: int, **options: int) -> None:
    """Raise ValueError, with the option's name, if a value is larger than `most`."""
    for name, value in options.items():
        if value > most:
            raise ValueError(f"--{name.replace('_', '-')} must be at most {most}, got {value}")


def overrides(arguments: argparse.Namespace) -> List[str]:
    """Return all `-o` values in order."""
    return [text for group in arguments.override for text in group]


def load_config(arguments: argparse.Namespace) -> ConfigMap:
    """Load the config of `-c` and `-o` without checking it."""
    return config_files.load(arguments.config, overrides(arguments))


def set_up(num_threads: Optional[int] = None) -> Dict[str, str]:
    """Set up the process and import Paddle; return the choices of plsc.runtime."""
    chosen = runtime.setup(num_threads)
    runtime.import_paddle()
    return chosen


def load_predictor(arguments: argparse.Namespace) -> Predictor:
    """Set up the process and load the network that the checkpoint options name."""
    set_up()
    from plsc.inference.predictor import load_predictor as load

    return load(arguments.checkpoint, arguments.ema, overrides(arguments))


def prepare(tree: ConfigMap) -> Tuple[RunConfig, Dict[str, str]]:
    """Set up the process, import the components and check the config.

    Returns:
        The checked config, and the environment variables that were set.

    Raises:
        ConfigError: With all problems of the config.
    """
    run = tree.get("Global")
    threads = run.get("num_threads") if isinstance(run, ConfigMap) else None
    chosen = set_up(threads if isinstance(threads, int) and 0 < threads <= runtime.MOST_THREADS else None)
    plugins.load(tree)
    return RunConfig.checked(tree), chosen


def guarded(
    run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace, prints_results: bool = True
) -> int:
    """Call a verb and convert errors that a user can cause into a message and an exit code.

    Args:
        run: Function of the verb.
        arguments: Its arguments.
        prints_results: True if standard output is the result of the verb. A reader that ends early, as in
            `--list all | head`, then ends the verb with 0, and a full disk is an error. Other verbs train or write
            files; they continue if standard output cannot be written.

    Returns:
        Result of `run`; 2 for an error in the config or its files; 128 + signal after a request to stop.
    """
    with contextlib.nullcontext() if prints_results else terminal.safe("stdout"):
        return _guarded(run, arguments)


def _guarded(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    try:
        with warnings_to(lambda text: print(lines(f"warning: {text}"), file=sys.stderr)):
            return run(arguments)
    except ConfigError as error:
        count = f"{len(error.problems)} problems\n" if len(error.problems) > 1 else ""
        return _report(error, arguments.debug, count + "\n".join(error.problems))
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        code = FAILURE if isinstance(error, FloatingPointError) else USER_ERROR
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        return _report(error, arguments.debug, text, code)
    except JobError as error:
        return _report(error, arguments.debug, str(error), USER_ERROR if error.user_error else FAILURE)
    except KeyboardInterrupt:
        print("stopped without saving", file=sys.stderr)
        return 130


def _report(error: Exception, debug: bool, text: str, code: int = USER_ERROR) -> int:
    if os.environ.get("PADDLE_TRAINERS_NUM", "1") != "1":
        with contextlib.suppress(ValueError):  # not in the main thread
            # the launcher sends SIGTERM to all processes when the first one has ended
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if debug:
        traceback.print_exception(type(error), error, error.__traceback__)
    hint = "" if debug or isinstance(error, (ConfigError, JobError)) else "\n(--debug shows the traceback)"
    print(lines(f"error: {text}{hint}"), file=sys.stderr)
    return code
