"""Writing of reports."""

from pathlib import Path
from typing import Any, Mapping

from plsc.checkpoint import replace
from plsc.data.classes import class_names
from plsc.engine.parts import Known
from plsc.engine.trainer import Trainer
from plsc.report.examination import Examination
from plsc.report.examine import examine
from plsc.report.page import START, page
from plsc.runs.directory import writing
from plsc.runs.reader import read_runs
from plsc.tasks.base import Task

Config = Mapping[str, Any]
FILE = "report.html"


class RunReport:
    """Writes the report of a run into its own output directory, when the run ends."""

    def check(self, directory: Path) -> None:
        """Raise FileExistsError if the report of a run in `directory` would replace a foreign file."""
        check(directory / FILE)

    def write(self, config: Config, trainer: Trainer, directory: Path) -> Path:
        """Write the report of a finished run into its directory; return the file."""
        (run,) = read_runs([directory])
        known = (class_names(trainer.loader.dataset), "DataLoader.Train")
        return write(
            directory / FILE, page([run], {run.name: examine_or_say_why_not(config, trainer.task, known=known)})
        )


def examine_or_say_why_not(
    config: Config,
    task: Task,
    most_images: int = 2000,
    embedding: str = "tsne",
    known: Known = (None, "the checkpoint"),
) -> Examination:
    """`examine`; a problem with data or network becomes a note: no run fails because of its report."""
    try:
        return examine(config, task, most_images, embedding=embedding, known=known)
    except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
        return Examination(notes=[f"Its network cannot be shown images: {error}"])


_is_report, _WHAT = replace.begins_with(START.encode()), "a report of plsc"


def check(path: Path) -> None:
    """Makes sure that a report may be written as `path`.

    Raises:
        ValueError: If the path is that of a folder.
        FileExistsError: If it is that of a file that is not a report.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file to write, such as {path / FILE}")
    replace.check_file(path, _is_report, _WHAT)


def write(path: Path, html: str) -> Path:
    """Writes the page and the folders it needs, in place of an earlier report; returns its path.

    Raises:
        ValueError: If the path is that of a folder.
        FileExistsError: If it is that of a file that is not a report.
        OutputError: If it cannot be written.
    """
    check(path)
    with writing(path), replace.replacing_file(path, _is_report, _WHAT) as file:
        file.write_text(html, encoding="utf-8", errors="replace")  # names of files need not be text
    return path
