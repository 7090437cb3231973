"""Reports of one run or several runs on disk."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Union

from plsc.checkpoint.reader import best_or_latest
from plsc.config.tree import ConfigError
from plsc.inference.restore import restore
from plsc.report.examination import Examination
from plsc.report.page import page
from plsc.report.write import FILE, check, examine_or_note, write
from plsc.runs.directory import CheckpointWarning, warnings_to
from plsc.runs.reader import read_runs


def report(
    directories: Sequence[Union[str, Path]],
    out: Optional[Path] = None,
    title: Optional[str] = None,
    most_images: int = 2000,
    say: Callable[[str], None] = print,
    embedding: str = "tsne",
) -> Path:
    """Write a report that compares runs on disk.

    Args:
        directories: Output directories of runs.
        out: HTML file; by default `report.html` in the run, or in the parent folder of the first of several runs.
        title: Title of the page; by default the name of the run, or the number of runs.
        most_images: Maximal number of images for the evaluation of each network; 0: no evaluation, then neither
            checkpoints nor data are needed.
        say: Function that prints a line of progress.
        embedding: Method of the projection of features to two dimensions, see plsc.evaluation.embedding.

    Returns:
        Path of the file.

    Raises:
        ValueError: If a directory is not a run.
        FileExistsError: If `out` is an existing file that is not a report.
    """
    runs = read_runs(directories)
    folder = runs[0].path if len(runs) == 1 else runs[0].path.parent
    check(out or folder / FILE)
    found: Dict[str, Examination] = {}
    for run in runs:
        for note in run.damaged:
            say(f"{run.path}: {note}")
    for run in runs if most_images else ():
        say(f"evaluating {run.name} on images")
        found[run.name] = _examine_saved(run.path, most_images, embedding)
    return write(out or folder / FILE, page(runs, found, title))


def _examine_saved(directory: Path, most_images: int, embedding: str) -> Examination:
    """Evaluate the best checkpoint of a run, or its last, on images; return a note with the reason if this fails."""
    passed: List[str] = []
    try:
        with warnings_to(passed.append):
            saved = restore(best_or_latest(directory))
    except (ValueError, OSError, ImportError) as error:
        reasons = error.problems if isinstance(error, ConfigError) else [str(error)]
        return Examination(notes=["The network could not be evaluated on images: " + "; ".join(reasons)])
    known = (saved.classes, str(saved.path))
    found = examine_or_note(saved.config, saved.task, most_images, embedding, known)
    for text in passed:
        warnings.warn(text, CheckpointWarning, stacklevel=2)
    return replace(found, notes=[*passed, *found.notes])
