"""Writing of report files."""

from pathlib import Path

from plsc.checkpoint import replace
from plsc.config.run_config import RunConfig
from plsc.data.classes import class_names
from plsc.engine.parts import Known
from plsc.engine.trainer import Trainer
from plsc.report.examination import Examination
from plsc.report.examine import examine
from plsc.report.page import START, page
from plsc.runs.directory import writing
from plsc.runs.reader import read_runs
from plsc.tasks.base import Task

Config = RunConfig
FILE = "report.html"


class RunReport:
    """Report of a run in its output directory, written when the run ends."""

    def check(self, directory: Path) -> None:
        """Raise FileExistsError if the report would replace a file in `directory` that is not a report."""
        check(directory / FILE)

    def write(self, config: Config, trainer: Trainer, directory: Path) -> Path:
        """Write the report of a finished run into its directory; return its path."""
        (run,) = read_runs([directory])
        known = (class_names(trainer.loader.dataset), "DataLoader.Train")
        return write(directory / FILE, page([run], {run.name: examine_or_note(config, trainer.task, known=known)}))


def examine_or_note(
    config: Config,
    task: Task,
    most_images: int = 2000,
    embedding: str = "tsne",
    known: Known = (None, "the checkpoint"),
) -> Examination:
    """Call `examine`; return a note if data or network cause an error, so that a run does not fail at its report."""
    try:
        return examine(config, task, most_images, embedding=embedding, known=known)
    except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
        return Examination(notes=[f"The network could not be evaluated on images: {error}"])


_is_report, _WHAT = replace.begins_with(START.encode()), "a report of plsc"


def check(path: Path) -> None:
    """Check that a report may be written to `path`.

    Raises:
        ValueError: If the path is a folder.
        FileExistsError: If the path is a file that is not a report.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file to write, such as {path / FILE}")
    replace.check_file(path, _is_report, _WHAT)


def write(path: Path, html: str) -> Path:
    """Write the page, in place of an earlier report, and create its folder if needed; return its path.

    Raises:
        ValueError: If the path is a folder.
        FileExistsError: If the path is a file that is not a report.
        OutputError: If the file cannot be written.
    """
    check(path)
    with writing(path), replace.replacing_file(path, _is_report, _WHAT) as file:
        file.write_text(html, encoding="utf-8", errors="replace")  # file names may contain bytes that are not UTF-8
    return path
