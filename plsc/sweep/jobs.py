"""Parallel execution of commands that depend on each other; a finished command is not repeated."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from plsc import strict_json
from plsc.runs.directory import write_text
from plsc.runtime import STARTED_BY
from plsc.signals import SignalRecorder

MARKER = "job.json"
_POLL_SECONDS = 0.1
_NOTICE = "stopping: waiting until the running jobs have saved; press Ctrl-C again to stop without saving"


@dataclass(frozen=True)
class Job:
    """A command and the jobs that it depends on.

    Attributes:
        name: Unique name; other jobs refer to it in `needs`.
        command: Program and arguments.
        folder: Folder of this job alone, for `job.log` with its output, and `job.json` after success.
        needs: Names of the jobs that must succeed before.
    """

    name: str
    command: Tuple[str, ...]
    folder: Path
    needs: Tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """True if this command has succeeded before.

        Raises:
            ValueError: If the folder contains the result of another command.
        """
        marker = self.folder / MARKER
        if not marker.is_file():
            return False
        before = json.loads(marker.read_text(encoding="utf-8"))["command"]
        if before != list(self.command):
            changed = sorted(set(before).symmetric_difference(self.command))
            raise ValueError(
                f"{self.folder} contains the result of another command (different: {', '.join(changed)}); remove it, "
                f"or choose another output folder"
            )
        return True


class Stopped(Exception):  # noqa: N818 - a stop on request is not an error
    """The jobs were stopped by a signal; the running jobs have ended.

    Args:
        signal_number: Number of the signal.
    """

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen
    started: float


def run_jobs(
    jobs: Sequence[Job],
    at_once: int,
    environment: Mapping[str, str],
    say: Callable[[str], None] = print,
) -> Dict[str, str]:
    """Run jobs in the given order, each after the jobs that it needs, `at_once` at a time.

    If a job fails, the jobs that need it are not run; all others are. If this process receives Ctrl-C, SIGTERM, SIGUSR1
    or SIGHUP, it sends SIGTERM to the running jobs, which makes a training run save, and waits for them. A second
    Ctrl-C is passed on to the jobs; a training run then ends without saving.

    Args:
        jobs: Jobs with unique names; `needs` must refer to jobs of the list.
        at_once: Maximal number of parallel jobs, at least 1.
        environment: Environment variables of the jobs, added to those of this process.
        say: Function that prints a line of progress.

    Returns:
        Reasons by name of the jobs that did not succeed; empty if all did.

    Raises:
        ValueError: If two jobs have the same name, a need is not in the list, the needs form a cycle, a folder contains
            the result of another command, or `at_once` is below 1.
        Stopped: If this process received a signal to stop.
    """
    _check(jobs, at_once)
    done = {job.name for job in jobs if job.done}
    waiting = [job for job in jobs if job.name not in done]
    failed: Dict[str, str] = {}
    running: List[_Running] = []
    with SignalRecorder(_NOTICE) as asked:
        try:
            while (waiting or running) and asked.signal_number is None:
                _drop_hopeless(waiting, failed)
                ready = [job for job in waiting if done.issuperset(job.needs)]
                for job in ready[: at_once - len(running)]:
                    waiting.remove(job)
                    running.append(_start(job, environment))
                for each in [each for each in running if each.process.poll() is not None]:
                    running.remove(each)
                    _finish(each, done, failed)
                    say(_line(each, failed, len(done), len(jobs)))
                time.sleep(_POLL_SECONDS)
        finally:
            _end([each.process for each in running])
    if asked.signal_number is not None and (waiting or running):
        raise Stopped(asked.signal_number)
    return failed


def run_command(command: Sequence[str], **options: Any) -> int:
    """Run one command and pass a request to stop on to it, like `run_jobs`.

    Args:
        command: Program and arguments.
        **options: Options of `subprocess.Popen`.

    Returns:
        Exit code; 128 + signal if this process received a signal to stop and the command did not succeed.
    """
    with SignalRecorder(_NOTICE) as asked:
        process = subprocess.Popen(command, **options)
        try:
            while process.poll() is None and asked.signal_number is None:
                time.sleep(_POLL_SECONDS)
        finally:
            _end([process])
    code = process.returncode
    return 128 + asked.signal_number if code and asked.signal_number is not None else code


def _end(processes: Sequence[subprocess.Popen]) -> None:
    """Send SIGTERM to processes and wait for their end; pass every further Ctrl-C on to them."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    while True:
        try:
            while any(process.poll() is None for process in processes):
                time.sleep(_POLL_SECONDS)
            return
        except KeyboardInterrupt:
            for process in processes:
                process.send_signal(signal.SIGINT)  # no effect on a process that has ended


def _check(jobs: Sequence[Job], at_once: int) -> None:
    if at_once < 1:
        raise ValueError(f"the number of parallel jobs must be at least 1, got {at_once}")
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"jobs have the same name: {', '.join(twice)}")
    reached: set = set()
    while True:
        new = {job.name for job in jobs if reached.issuperset(job.needs)} - reached
        if not new:
            break
        reached |= new
    stuck = [f"{job.name} (needs {', '.join(job.needs)})" for job in jobs if job.name not in reached]
    if stuck:
        raise ValueError(f"jobs need jobs that are not in the list, or need each other in a cycle: {'; '.join(stuck)}")


def _drop_hopeless(waiting: List[Job], failed: Dict[str, str]) -> None:
    for job in list(waiting):
        lost = [need for need in job.needs if need in failed]
        if lost:
            waiting.remove(job)
            failed[job.name] = f"needs {', '.join(lost)}"


def _start(job: Job, environment: Mapping[str, str]) -> _Running:
    job.folder.mkdir(parents=True, exist_ok=True)
    with open(job.folder / "job.log", "ab") as log:
        process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, STARTED_BY: str(os.getpid()), **environment},
        )
    return _Running(job, process, time.monotonic())


def _finish(ended: _Running, done: set, failed: Dict[str, str]) -> None:
    job, code = ended.job, ended.process.returncode
    if code:
        failed[job.name] = f"ended with code {code}; see {job.folder / 'job.log'}"
        return
    marker = {"command": list(job.command), "seconds": round(time.monotonic() - ended.started, 1)}
    write_text(job.folder / MARKER, strict_json.dumps(marker))
    done.add(job.name)


def _line(ended: _Running, failed: Mapping[str, str], done: int, total: int) -> str:
    name = ended.job.name
    outcome = failed.get(name, f"done in {time.monotonic() - ended.started:.0f} s")
    return f"[{done}/{total}] {name}: {outcome}"
