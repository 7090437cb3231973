"""What a run says and writes down: terminal, train.log, metrics.jsonl, VisualDL, env.json."""

import contextlib
import logging
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, TextIO

import numpy as np
import paddle
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

import plsc
from plsc import strict_json
from plsc.output import writing
from plsc.report.runs import ROWS

METRICS = "metrics.jsonl"


class _LogFile(logging.FileHandler):
    """A log file that fails aloud."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - of logging
        """Called where a line could not be written."""
        with writing(Path(self.baseFilename)):
            raise


def _drop_unfinished_line(path: Path) -> None:
    """Cuts off what a killed process or a full disk has left of a line, so that the next one is read as its own."""
    if not path.is_file():
        return
    with open(path, "r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


class RunLog:
    """The voice of one run. Only the main process speaks; in others every method does nothing.

    What is said before `open` is kept and written to train.log then, so a run that cannot be built leaves no files.

    Args:
        main: Whether this process is the one that writes.
        progress: `auto` (a bar on a terminal, lines elsewhere), `bar`, `lines` or `none`.
    """

    def __init__(self, main: bool = True, progress: str = "auto") -> None:
        self.main = main
        if progress == "auto":
            progress = "bar" if sys.stderr.isatty() else "lines"
        self.progress = progress
        self.directory: Optional[Path] = None
        self._early: List[str] = []
        self._logger = logging.Logger("plsc")
        self._bar: Optional[tqdm] = None
        self._metrics: Optional[TextIO] = None
        self._board: Any = None

    def open(self, directory: Path) -> None:
        """Creates the run's directory, if need be, and the log files in it.

        Raises:
            OSError: If it cannot.
        """
        if not self.main:
            return
        directory = Path(directory)
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            handler = _LogFile(directory / "train.log", encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
            self._logger.addHandler(handler)
            _drop_unfinished_line(directory / METRICS)
            self._metrics = open(directory / METRICS, "a", encoding="utf-8")  # noqa: SIM115
        self.directory = directory
        for text in self._early:
            self._logger.info(text)
        self._early.clear()

    def say(self, text: str) -> None:
        """Prints text and adds it to train.log."""
        if self.main:
            tqdm.write(text, file=sys.stderr)
            self.note(text)

    def note(self, text: str) -> None:
        """Adds text to train.log only."""
        if self.main and self.directory is None:
            self._early.append(text)
        elif self.main:
            self._logger.info(text)

    def open_bar(self, total: int, initial: int, description: str) -> None:
        """Starts the progress bar of a loop, if this run shows bars."""
        if self.main and self.progress == "bar":
            self._bar = tqdm(total=total, initial=initial, desc=description, unit="step", dynamic_ncols=True)

    def advance(self) -> None:
        """Moves the bar by one step."""
        if self._bar is not None:
            self._bar.update()

    def close_bar(self) -> None:
        """Ends the bar and leaves it on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def record(self, split: str, step: int, epoch: float, metrics: Mapping[str, float], line: str = "") -> None:
        """Writes metrics of one step to metrics.jsonl and VisualDL, and shows them in the bar or as a line.

        Args:
            split: `train` or `eval`.
            step: Optimizer steps taken.
            epoch: The same in epochs.
            metrics: Numbers by name.
            line: What a plain terminal and train.log show; none if empty.
        """
        if self._metrics is None:
            return
        taken = [name for name in ("step", "epoch", "split", "time") if name in metrics]
        if taken:
            raise ValueError(f"{taken[0]} is a key of every row of {METRICS}; give the metric of {split} another name")
        row = {"step": step, "epoch": round(epoch, 4), "split": split, "time": round(time.time(), 2), **metrics}
        with writing(self.directory / METRICS):
            self._metrics.write(strict_json.dumps(row) + "\n")
            self._metrics.flush()
        board = self._visualdl()
        for name, value in metrics.items():
            if board is not None and np.isfinite(value):
                board.add_scalar(tag=f"{split}/{name}", step=step, value=float(value))
        if self._bar is not None and split == "train":
            self._bar.set_postfix(_short(metrics), refresh=False)
            self.note(line)
        elif line and self.progress == "none":
            self.note(line)
        elif line:
            self.say(line)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Writes uint8 pictures (B, H, W, 3) to `pictures/step_<step>.png`, a row each, and to VisualDL by name."""
        if self.directory is None or not pictures:
            return
        rows = [np.concatenate(list(images), axis=1) for images in pictures.values()]
        folder = self.directory / "pictures"
        names = PngInfo()
        names.add_text(ROWS, strict_json.dumps(list(pictures)))
        with writing(folder):
            folder.mkdir(exist_ok=True)
            Image.fromarray(np.concatenate(rows)).save(folder / f"step_{step:08d}.png", pnginfo=names)
        board = self._visualdl()
        for name, row in zip(pictures, rows):
            if board is not None:
                board.add_image(tag=name, img=row, step=step)

    def _visualdl(self) -> Optional[Any]:
        if self._board is None:
            try:
                from visualdl import LogWriter
            except ImportError as error:
                self.say(f"VisualDL cannot be imported ({error}); metrics are in metrics.jsonl only")
                self._board = False
                return None
            with writing(self.directory / "vdl"):
                self._board = LogWriter(logdir=str(self.directory / "vdl"), display_name=self.directory.name)
        return self._board or None

    def close(self) -> None:
        """Ends the bar and closes the files."""
        self.close_bar()
        with contextlib.suppress(OSError):  # what could not be written has been an error before
            if self._metrics is not None:
                self._metrics.close()
        if self._board:
            self._board.close()
        for handler in list(self._logger.handlers):
            self._logger.removeHandler(handler)
            with contextlib.suppress(OSError):
                handler.close()


def _short(metrics: Mapping[str, float]) -> Dict[str, str]:
    return {name: f"{metrics[name]:.4g}" for name in ("loss", "lr", "images_per_second") if name in metrics}


def write_environment(path: Path, runtime: Mapping[str, str]) -> None:
    """Writes `environment(runtime)` as env.json."""
    path.write_text(strict_json.dumps(environment(runtime), indent=2) + "\n", encoding="utf-8")


def environment(runtime: Mapping[str, str]) -> Dict[str, Any]:
    """Versions, device, threads and the git commit this process was started from."""
    return {
        "plsc": plsc.__version__,
        "paddle": paddle.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": paddle.device.get_device(),
        "cpu_count": os.cpu_count(),
        "git_commit": _git_commit(),
        "command": sys.argv,
        "runtime": dict(runtime),
    }


def _git_commit() -> Optional[str]:
    command = ["git", "-C", str(Path(plsc.__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
