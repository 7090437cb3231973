"""Commands that depend on each other, run several at a time, each in a process of its own; what is done stays done."""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

from plsc import strict_json

MARKER = "job.json"
_POLL_SECONDS = 0.1


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

    A job that has failed stops those that need it and no other. On an interrupt the running ones get SIGTERM, with
    which a training run saves itself, and are waited for.

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
    """
    _check(jobs, at_once)
    done = {job.name for job in jobs if job.done}
    waiting = [job for job in jobs if job.name not in done]
    failed: Dict[str, str] = {}
    running: List[_Running] = []
    try:
        while waiting or running:
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
        for each in running:
            each.process.terminate()
        for each in running:
            each.process.wait()
    return failed


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
            job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
        )
    return _Running(job, process, time.monotonic())


def _finish(ended: _Running, done: set, failed: Dict[str, str]) -> None:
    job, code = ended.job, ended.process.returncode
    if code:
        failed[job.name] = f"ended with code {code}; see {job.folder / 'job.log'}"
        return
    marker = {"command": list(job.command), "seconds": round(time.monotonic() - ended.started, 1)}
    temporary = job.folder / (MARKER + ".tmp")
    temporary.write_text(strict_json.dumps(marker), encoding="utf-8")
    os.replace(temporary, job.folder / MARKER)
    done.add(job.name)


def _line(ended: _Running, failed: Mapping[str, str], done: int, total: int) -> str:
    name = ended.job.name
    outcome = failed.get(name, f"done in {time.monotonic() - ended.started:.0f} s")
    return f"[{done}/{total}] {name}: {outcome}"
