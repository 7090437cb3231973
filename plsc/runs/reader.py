"""What a run has left in its output directory."""

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
ROWS = "rows"  # the entry of a picture file that names its rows


@dataclass
class Picture:
    """A picture that a run drew of its images.

    Attributes:
        step: Optimizer steps taken by then.
        path: PNG file.
        rows: What its rows show, from the top; empty if the file does not say.
    """

    step: int
    path: Path
    rows: List[str] = field(default_factory=list)


@dataclass
class Run:
    """A run as it is on disk.

    Attributes:
        name: Short, unique among the runs of a report.
        path: Its output directory.
        config: The resolved config.
        config_text: The same as text; with the origin of each value if the run wrote it down.
        environment: Content of env.json.
        rows: Rows of metrics.jsonl by split, in order of steps; what a resumed run repeated is there once.
        pictures: By step.
        history: The configs that it had before, oldest first.
        damaged: What could not be read and is left out, a sentence each.
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
        """What runs must share to be compared: the name of the task."""
        return str(section(self.config, "Task").get("name", "other"))

    @cached_property
    def columns(self) -> Dict[Tuple[str, str], Series]:
        """Epochs and values of every metric by split and name, in the order in which they appeared.

        Made from `rows` in one pass, at the first use.
        """
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
        """Epochs and values of a metric."""
        epochs, values = self.columns.get((split, metric), ([], []))
        return list(epochs), list(values)

    def metrics(self) -> List[Tuple[str, str]]:
        """Split and name of everything that was measured, in the order in which it appeared."""
        return list(self.columns)


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a config; empty if there is none."""
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def read_runs(directories: Sequence[Union[str, Path]]) -> List[Run]:
    """Reads several runs and gives them names that tell them apart.

    Raises:
        ValueError: If a directory is no run, or named twice.
    """
    paths = [Path(directory) for directory in directories]
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise ValueError("a run is named twice; give each output directory once")
    runs = [read_run(path) for path in paths]
    for length in range(1, 20):
        names = ["/".join(path.parts[-length:]) for path in resolved]
        if len(set(names)) == len(names):
            break
    for run, name in zip(runs, names):
        run.name = name
    return runs


def read_run(directory: Path) -> Run:
    """Reads a run.

    Raises:
        ValueError: If the directory holds no run.
    """
    missing = [name for name in ("config.yaml", "metrics.jsonl") if not (directory / name).is_file()]
    if missing:
        what = "does not exist" if not directory.exists() else f"is no run: it has no {' and no '.join(missing)}"
        raise ValueError(f"{directory} {what}; give the Global.output_dir of a training run")
    text = _text(directory / "config.yaml")
    config = parse(text, str(directory / "config.yaml"))
    if not isinstance(config, ConfigMap):
        raise ValueError(f"{directory / 'config.yaml'}: a config is a mapping of sections, got {type_name(config)}")
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
        raise ValueError(f"{path}: is no text; the run's files are damaged ({error})") from error


def _environment(path: Path, damaged: List[str]) -> Dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        damaged.append(f"{path.name} is damaged and left out ({error})")
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
        place = row["epoch"], step  # steps are counted anew if the batch changes, epochs are not
        while rows and (rows[-1]["epoch"], rows[-1]["step"]) >= place:  # the run went back to a checkpoint
            rows.pop()
        rows.append(row)
    return by_split


def _row(line: str) -> Optional[Row]:
    """What a line measures; None if it is none, such as one that a killed process did not finish."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("split"), str):
        return None
    row = {key: math.nan if value is None else value for key, value in row.items()}  # null: it was not finite
    numbers = {key: value for key, value in row.items() if isinstance(value, (int, float)) and not _beyond(value)}
    known = all(math.isfinite(numbers.get(key, math.nan)) for key in ("step", "epoch"))
    return {**numbers, "split": row["split"]} if known else None


def _beyond(value: float) -> bool:
    """Whether a number is finite, but too large to draw."""
    return _LARGEST < abs(value) < math.inf


def _pictures(folder: Path, damaged: List[str]) -> List[Picture]:
    found = []
    for path in sorted(folder.glob("step_*.png")):
        try:
            found.append(_picture(path))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            damaged.append(f"{folder.name}/{path.name} is damaged and left out ({error})")
    return found


def _picture(path: Path) -> Picture:
    step = path.stem.split("_")[-1]
    with Image.open(path) as image:
        rows = getattr(image, "text", {}).get(ROWS, "[]")
        try:
            names = json.loads(rows)
        except (ValueError, RecursionError):
            names = []
    names = names if isinstance(names, list) else []
    return Picture(int(step) if step.isdecimal() else 0, path, [str(name) for name in names])
