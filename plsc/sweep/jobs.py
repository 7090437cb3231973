"""Commands that depend on each other, run several at a time, each in a process of its own; what is done stays done."""

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
_NOTICE = "stopping: waiting until what runs has saved; press Ctrl-C again to stop without saving"


@dataclass(frozen=True)
class Job:
    """A command and what it needs.

    Attributes:
        name: Unique; other jobs name it in `needs`.
        command: Program and arguments.
        folder: Belongs to this job alone; gets `job.json` when the job has succeeded and `job.log` with its output.
        needs: Names of the jobs that must have succeeded before.
    """

    name: str
    command: Tuple[str, ...]
    folder: Path
    needs: Tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether this very command has succeeded before.

        Raises:
            ValueError: If the folder holds the result of another command.
        """
        marker = self.folder / MARKER
        if not marker.is_file():
            return False
        before = json.loads(marker.read_text(encoding="utf-8"))["command"]
        if before != list(self.command):
            changed = sorted(set(before).symmetric_difference(self.command))
            raise ValueError(
                f"{self.folder} was made by another command (different: {', '.join(changed)}); remove the folder or "
                f"give another one for the output"
            )
        return True


class Stopped(Exception):  # noqa: N818 - jobs that were asked to stop have not failed
    """The jobs were asked to stop; those that ran have ended.

    Args:
        signal_number: Signal that asked.
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
    """Runs the jobs, each after those it needs, `at_once` at a time, in their order where nothing else decides.

    A job that has failed stops those that need it and no other. When this process is asked to stop, by Ctrl-C,
    SIGTERM, SIGUSR1 or SIGHUP, the running jobs get SIGTERM, with which a training run saves itself, and are waited
    for. A second Ctrl-C is passed on to them: a training run then ends without saving.

    Args:
        jobs: Unique names; `needs` names jobs of the list.
        at_once: Processes at a time, at least 1.
        environment: Variables on top of this process's, for every job.
        say: Takes a line of progress.

    Returns:
        What did not succeed: name to reason. Empty if all is done.

    Raises:
        ValueError: If a name is taken twice, a need is not in the list or in a circle, a folder is another
            command's, or `at_once` is below 1.
        Stopped: If this process was asked to stop.
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
    """Run one command to its end and pass a request to stop on to it, as `run_jobs` does.

    Args:
        command: Program and arguments.
        **options: Of `subprocess.Popen`.

    Returns:
        Exit code; 128 + signal if this process was asked to stop and the command did not succeed all the same.
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
    """Ask processes to stop, and wait until they have saved; pass every further Ctrl-C on to them."""
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
                process.send_signal(signal.SIGINT)  # does nothing if it has ended


def _check(jobs: Sequence[Job], at_once: int) -> None:
    if at_once < 1:
        raise ValueError(f"at least one job must run at a time, got {at_once}")
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
        raise ValueError(f"jobs need what is not in the list, or each other in a circle: {'; '.join(stuck)}")


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
