"""Reports of runs on disk, compared with each other."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Union

from plsc.checkpoint.reader import best_or_latest
from plsc.config.tree import ConfigError
from plsc.inference.restore import restore
from plsc.report.examination import Examination
from plsc.report.page import page
from plsc.report.write import FILE, check, examine_or_say_why_not, write
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
    """Writes a report of runs on disk, compared with each other.

    Args:
        directories: Output directories of runs.
        out: The file; by default `report.html` in the run, or in the folder that holds the first of several.
        title: By default made of the runs' names.
        most_images: Images shown to each network; 0: none, then neither checkpoints nor data are needed.
        say: Takes a line of progress.
        embedding: How features become points, see plsc.evaluation.embedding.

    Returns:
        The file.

    Raises:
        ValueError: If a directory is no run.
    """
    runs = read_runs(directories)
    folder = runs[0].path if len(runs) == 1 else runs[0].path.parent
    check(out or folder / FILE)
    found: Dict[str, Examination] = {}
    for run in runs:
        for note in run.damaged:
            say(f"{run.path}: {note}")
    for run in runs if most_images else ():
        say(f"showing images to {run.name}")
        found[run.name] = _examine_saved(run.path, most_images, embedding)
    return write(out or folder / FILE, page(runs, found, title))


def _examine_saved(directory: Path, most_images: int, embedding: str) -> Examination:
    """What the best checkpoint of a run, or its last, makes of images; the reason if that cannot be told."""
    passed: List[str] = []
    try:
        with warnings_to(passed.append):
            saved = restore(best_or_latest(directory))
    except (ValueError, OSError, ImportError) as error:
        reasons = error.problems if isinstance(error, ConfigError) else [str(error)]
        return Examination(notes=["Its network cannot be shown images: " + "; ".join(reasons)])
    known = (saved.classes, str(saved.path))
    found = examine_or_say_why_not(saved.config, saved.task, most_images, embedding, known)
    for text in passed:
        warnings.warn(text, CheckpointWarning, stacklevel=2)
    return replace(found, notes=[*passed, *found.notes])
