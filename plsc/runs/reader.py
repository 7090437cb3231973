"""Reader of the files in a run's output directory."""

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from PIL import Image

from plsc.config.tree import ConfigMap, parse, type_name
from plsc.runs.history import PastConfig, read_history

Row = Dict[str, Any]
Series = Tuple[List[float], List[float]]
_NO_METRICS = ("step", "epoch", "split", "time")
_LARGEST = 1e300
ROWS = "rows"  # PNG text entry with the names of the rows


@dataclass
class Picture:
    """Figure of images that a run has written.

    Attributes:
        step: Number of optimizer steps.
        path: PNG file.
        rows: Names of its rows, from top to bottom; empty if the file has none.
    """

    step: int
    path: Path
    rows: List[str] = field(default_factory=list)


@dataclass
class Run:
    """Files of a run.

    Attributes:
        name: Short name, unique among the runs of a report.
        path: Output directory.
        config: Resolved config.
        config_text: Resolved config as text, with the origin of each value if the file has it.
        environment: Content of env.json.
        rows: Rows of metrics.jsonl by split, in order of steps; steps that a resumed run repeated appear once.
        pictures: Figures, in order of steps.
        history: Earlier configs, oldest first.
        damaged: Messages about files that cannot be read and are skipped.
    """

    name: str
    path: Path
    config: ConfigMap
    config_text: str
    environment: Dict[str, Any]
    rows: Dict[str, List[Row]]
    pictures: List[Picture]
    history: List[PastConfig] = field(default_factory=list)
    damaged: List[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Name of the task. Only runs of the same kind are compared."""
        return str(section(self.config, "Task").get("name", "other"))

    @cached_property
    def columns(self) -> Dict[Tuple[str, str], Series]:
        """Epochs and values of every metric by split and name, in order of their first appearance in `rows`."""
        found: Dict[Tuple[str, str], Series] = {}
        for split, rows in self.rows.items():
            for row in rows:
                for name, value in row.items():
                    if name in _NO_METRICS:
                        continue
                    epochs, values = found.setdefault((split, name), ([], []))
                    if isinstance(value, (int, float)):
                        epochs.append(row["epoch"])
                        values.append(value)
        return found

    def series(self, split: str, metric: str) -> Series:
        """Return the epochs and values of a metric; both empty if it was not measured."""
        epochs, values = self.columns.get((split, metric), ([], []))
        return list(epochs), list(values)

    def metrics(self) -> List[Tuple[str, str]]:
        """Return the split and name of every metric, in order of first appearance."""
        return list(self.columns)


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a config; empty if it is missing."""
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def read_runs(directories: Sequence[Union[str, Path]]) -> List[Run]:
    """Read several runs and give them unique names.

    Raises:
        ValueError: If a directory is not a run, or is given twice.
    """
    paths = [Path(directory) for directory in directories]
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise ValueError("an output directory is given twice; give each directory once")
    runs = [read_run(path) for path in paths]
    for length in range(1, 20):
        names = ["/".join(path.parts[-length:]) for path in resolved]
        if len(set(names)) == len(names):
            break
    for run, name in zip(runs, names):
        run.name = name
    return runs


def read_run(directory: Path) -> Run:
    """Read the files of a run.

    Raises:
        ValueError: If the directory does not contain a run.
    """
    missing = [name for name in ("config.yaml", "metrics.jsonl") if not (directory / name).is_file()]
    if missing:
        reason = f"is not a run: it has no {' and no '.join(missing)}" if directory.exists() else "does not exist"
        raise ValueError(f"{directory} {reason}; give the Global.output_dir of a training run")
    text = _text(directory / "config.yaml")
    config = parse(text, str(directory / "config.yaml"))
    if not isinstance(config, ConfigMap):
        raise ValueError(
            f"{directory / 'config.yaml'}: a config must be a mapping of sections, got {type_name(config)}"
        )
    damaged: List[str] = []
    return Run(
        directory.resolve().name,
        directory,
        config,
        text,
        _environment(directory / "env.json", damaged),
        _rows(directory / "metrics.jsonl"),
        _pictures(directory / "pictures", damaged),
        read_history(directory),
        damaged,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file; the files of the run are damaged ({error})") from error


def _environment(path: Path, damaged: List[str]) -> Dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        damaged.append(f"{path.name} is damaged and was skipped ({error})")
        return {}
    return found if isinstance(found, dict) else {}


def _rows(path: Path) -> Dict[str, List[Row]]:
    by_split: Dict[str, List[Row]] = {}
    for line in _text(path).splitlines():
        row = _row(line)
        if row is None:
            continue
        split, step = row["split"], row["step"]
        rows = by_split.setdefault(split, [])
        place = row["epoch"], step  # a changed batch size changes the count of steps, but not of epochs
        while rows and (rows[-1]["epoch"], rows[-1]["step"]) >= place:  # the run was resumed from a checkpoint
            rows.pop()
        rows.append(row)
    return by_split


def _row(line: str) -> Optional[Row]:
    """Return the row of a line; None if it is not a row, such as an incomplete line of a killed process."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("split"), str):
        return None
    row = {key: math.nan if value is None else value for key, value in row.items()}  # null: the value was not finite
    numbers = {key: value for key, value in row.items() if isinstance(value, (int, float)) and not _beyond(value)}
    known = all(math.isfinite(numbers.get(key, math.nan)) for key in ("step", "epoch"))
    return {**numbers, "split": row["split"]} if known else None


def _beyond(value: float) -> bool:
    """Return True if a value is finite, but too large to draw."""
    return _LARGEST < abs(value) < math.inf


def _pictures(folder: Path, damaged: List[str]) -> List[Picture]:
    found = []
    for path in sorted(folder.glob("step_*.png")):
        try:
            found.append(_picture(path))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            damaged.append(f"{folder.name}/{path.name} is damaged and was skipped ({error})")
    return found


def _picture(path: Path) -> Picture:
    step = path.stem.split("_")[-1]
    with Image.open(path) as image:
        image.load()  # raises if the file is damaged
        rows = image.info.get(ROWS, "[]")
        try:
            names = json.loads(rows)
        except (ValueError, RecursionError):
            names = []
    names = names if isinstance(names, list) else []
    return Picture(int(step) if step.isdecimal() else 0, path, [str(name) for name in names])
