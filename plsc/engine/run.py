"""A whole run from a checked config: device, output directory, training and final messages."""

from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator, List, Mapping, Optional, Protocol

import paddle

from plsc import distributed
from plsc.config.run_config import RunConfig
from plsc.config.tree import blame, blamed_on, describe
from plsc.engine.build import build_trainer
from plsc.engine.callbacks.checkpoints import Checkpoints
from plsc.engine.callbacks.evaluation import Evaluation
from plsc.engine.consistency import check_monitor, first_time
from plsc.engine.device import join_job
from plsc.engine.interrupt import Interrupted, StopRequest
from plsc.engine.trainer import Trainer
from plsc.runs.directory import (  # fmt: skip
    OutputError,
    RunLock,
    check_contents,
    check_room,
    check_writable,
    warnings_to,
    write_text,
    writing,
)
from plsc.runs.environment import write_environment
from plsc.runs.history import keep_config
from plsc.runs.log import RunLog


class Report(Protocol):
    """Writer of the report at the end of a run; used by the first process of a job, outside of any collective."""

    def check(self, directory: Path) -> None:
        """Raise FileExistsError if the report of a run in `directory` would replace a foreign file."""

    def write(self, config: RunConfig, trainer: Trainer, directory: Path) -> Path:
        """Write the report of a finished run into its directory; return the file."""


def train(config: RunConfig, runtime: Mapping[str, str], report: Optional[Report] = None) -> int:
    """Train to the end of the plan.

    Args:
        config: Config of the run.
        runtime: Settings chosen by plsc.runtime, for the log.
        report: Writes the report that `Global.report` asks for.

    Returns:
        Exit code: 0, or 128 + signal if the run was asked to stop (everything is saved then).
    """
    with StopRequest() as stop:
        return _train(config, runtime, stop, report)


def _train(config: RunConfig, runtime: Mapping[str, str], stop: StopRequest, report: Optional[Report]) -> int:
    run = config.global_
    report = report if run.report else None
    join_job(config)
    directory = Path(run.output_dir)
    lock, log = RunLock(directory), RunLog(distributed.is_main(), run.progress)
    try:
        _first_process(partial(_claim, lock, report))
        with warnings_to(lambda text: log.say(f"warning: {text}")):
            trainer = build_trainer(config, log)
        trainer.stop_request = stop
        rehearse(config, trainer)
        _first_process(partial(_open, trainer, lock, directory, config, runtime))
        log.say(_opening(trainer, runtime, directory))
        with _nothing_left_without_a_step(trainer, lock):
            trainer.fit()
        if report is not None and distributed.is_main():
            log.say(f"report: {report.write(config, trainer, log.located(directory))}")
        distributed.barrier("the end of the run")  # a process that ends early would end the others
        log.say(f"done: {trainer.step} steps; everything is in {log.located(directory)}")
        return 0
    except Interrupted as stopped:
        log.close_bar()
        now = log.located(directory)
        saved = f"saved in {now / 'checkpoints'}" if trainer.step else "there is nothing to save"
        again = f"The same command with Global.output_dir={now}" if log.moved else "The same command"
        log.say(f"{stopped}; {saved}. {again} goes on from there.")
        return 128 + stopped.signal_number
    except Exception as error:
        distributed.report_failure(error)
        log.close_bar()
        with suppress(OutputError):  # the log itself may be unwritable
            log.note(f"{type(error).__name__}: {error}")
        raise
    finally:
        log.close()
        lock.release()


@contextmanager
def _nothing_left_without_a_step(trainer: Trainer, lock: RunLock) -> Iterator[None]:
    """Remove the files of a run that fails before its first step, mostly because of a mistake in the config."""
    started_at = trainer.step
    try:
        with first_time("the first step", "Model, Loss and DataLoader.Train", lambda: trainer.step == started_at):
            yield
    except (Interrupted, FloatingPointError):  # the message of the latter names a dump in the directory
        raise
    except Exception:
        if trainer.step == started_at:
            lock.discard()
        raise


def _first_process(action: Callable[[], None]) -> None:
    """Call `action` in the first process of the job; an OutputError there ends all processes."""
    problem = None
    if distributed.is_main():
        try:
            action()
        except OutputError as error:
            problem = str(error)
    problem = distributed.agree_on(problem)
    if problem is not None:
        raise OutputError(problem)


def _claim(lock: RunLock, report: Optional[Report]) -> None:
    """Check, before the run is built, that its directory is writable; lock it if it exists."""
    directory = lock.path.parent
    check_writable(directory)
    if directory.is_dir():
        check_contents(directory)
        try:
            if report is not None:
                report.check(directory)
        except FileExistsError as error:
            raise OutputError(str(error)) from None
        lock.acquire()


def _open(trainer: Trainer, lock: RunLock, directory: Path, config: RunConfig, runtime: Mapping[str, str]) -> None:
    """Create the directory of a run that has been built, and the files that describe the run."""
    saver = next(callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))
    warning = None if trainer.finished else check_room(directory, saver.size(trainer), saver.most_at_once)
    lock.acquire()
    trainer.log.open(directory)
    if warning is not None:
        trainer.log.say(warning)
    with writing(directory):
        if saver.past is not None:
            keep_config(directory, *saver.past)
        write_text(directory / "config.yaml", describe(config.tree) + "\n")
        write_environment(directory / "env.json", runtime)


def rehearse(config: RunConfig, trainer: Any) -> None:
    """Evaluate a few images, if the run evaluates, before anything is written or trained.

    Raises:
        ConfigError: If the evaluation fails, or the metric that selects `best` is not measured.
    """
    measured: List[str] = []
    for callback in trainer.callbacks:
        measured += callback.measures
        if isinstance(callback, Evaluation) and not trainer.finished:
            what, sections = "the evaluation of the first images", "Model, Metric and DataLoader.Eval"
            with blamed_on(config["DataLoader"]["Eval"]), first_time(what, sections):
                measured += callback.run.rehearse()
    repeated = sorted({name for name in measured if measured.count(name) > 1})
    if repeated:
        text = f"Callbacks: {repeated[0]} is measured twice, one value would overwrite the other; remove one"
        raise blame(config.tree, text)
    if not trainer.finished:
        check_monitor(config, config.global_, measured)


def _opening(trainer: Any, runtime: Mapping[str, str], directory: Path) -> str:
    plan = trainer.plan
    if trainer.finished and trainer.metrics.due:
        names = ", ".join(type(callback).__name__ for callback in trainer.metrics.due)
        return f"all {plan.stop_step} steps are taken; of the last one, {names} had been interrupted and follow now"
    if trainer.finished:
        return (
            f"this run is complete: {trainer.step} of {plan.stop_step} steps are in {directory}; "
            "set Global.output_dir to start another, or Global.epochs to go on"
        )
    chosen = "  ".join(f"{key}={value}" for key, value in runtime.items())
    trained = sum(p.size for p in trainer.train_step.parameters)
    processes = distributed.world_size()
    device = paddle.device.get_device() + (f" in each of {processes} processes" if processes > 1 else "")
    return (
        f"{trained:,} trained parameters on {device}; {plan.stop_step} steps of "
        f"{plan.global_batch_size} images ({plan.epochs:.4g} epochs of {plan.steps_per_epoch} steps); {chosen}"
    )
