"""Output of a run: console, train.log, metrics.jsonl, figures and VisualDL."""

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, TextIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from plsc import strict_json, terminal
from plsc.runs.directory import Place, replacing, writing
from plsc.runs.reader import ROWS
from plsc.text import lines

METRICS = "metrics.jsonl"


class _LogFile(logging.FileHandler):
    """Log file that raises OutputError if a line cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - of logging
        """Raise the error that logging has caught while it wrote a line."""
        with writing(Path(self.baseFilename)):
            raise


def _drop_unfinished_line(path: Path) -> None:
    """Remove an incomplete last line, left by a killed process or a full disk."""
    if not path.is_file():
        return
    with open(path, "r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


class RunLog:
    """Writes a run's console output, log file and metrics. Only the main process writes; in others methods do nothing.

    Messages before `open` are kept and written to train.log by `open`, so a run that cannot be built leaves no files.

    Args:
        main: True in the process that writes.
        progress: `auto` (a bar on a terminal, lines elsewhere), `bar`, `lines` or `none`.
    """

    def __init__(self, main: bool = True, progress: str = "auto") -> None:
        self.main = main
        if progress == "auto":
            progress = "bar" if terminal.stderr().isatty() else "lines"
        self.progress = progress
        self.directory: Optional[Path] = None
        self._place: Optional[Place] = None
        self._place_lock = threading.Lock()
        self._early: List[str] = []
        self._logger = logging.Logger("plsc")
        self._bar: Optional[tqdm] = None
        self._metrics: Optional[TextIO] = None
        self._board: Any = None
        self._board_directory: Optional[Path] = None

    def open(self, directory: Path) -> None:
        """Create the run's directory, if it is missing, and its log files.

        Raises:
            OutputError: If a file cannot be written.
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
        self.directory, self._place = directory, Place(directory)
        for text in self._early:
            self._logger.info(text)
        self._early.clear()

    def located(self, path: Path) -> Path:
        """Return the current path of a file of the run; it differs from `path` if the run's directory was moved.

        Raises:
            OutputError: If the directory was removed or moved to another file system.
        """
        self._follow()
        return path if self._place is None else self._place.locate(path)

    def _follow(self) -> None:
        """Update the path of the run's directory, and print a message if it was moved."""
        if self._place is None:
            return
        with self._place_lock:  # the thread that writes checkpoints calls this, too
            before, now = self.directory, self._place.now()
            self.directory = now
        if now != before:
            self.say(
                f"{before} was moved to {now} while the run was writing into it; the run continues there. To resume it "
                f"later, set Global.output_dir={now}"
            )

    @property
    def moved(self) -> bool:
        """True if the run's directory was moved after `open`."""
        return self._place is not None and self.directory != self._place.path

    def say(self, text: str) -> None:
        """Print text and add it to train.log; if it cannot be printed, only add it to train.log."""
        if self.main:
            tqdm.write(lines(text), file=terminal.stderr())
            self.note(text)

    def note(self, text: str) -> None:
        """Add text to train.log only."""
        text = lines(text).replace("\n", "\n    ")  # a name with a line break cannot forge a line of the log
        if self.main and self.directory is None:
            self._early.append(text)
        elif self.main:
            self._logger.info(text)

    def open_bar(self, total: int, initial: int, description: str) -> None:
        """Start the progress bar of a loop if this run shows progress bars."""
        if self.main and self.progress == "bar":
            screen = terminal.stderr()
            self._bar = tqdm(
                total=total, initial=initial, desc=description, unit="step", dynamic_ncols=True, file=screen
            )

    def advance(self) -> None:
        """Advance the progress bar by one step."""
        if self._bar is not None:
            self._bar.update()

    def close_bar(self) -> None:
        """Close the progress bar and leave it on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def record(self, split: str, step: int, epoch: float, metrics: Mapping[str, float], line: str = "") -> None:
        """Write the metrics of one step to metrics.jsonl and VisualDL, and show them in the progress bar or as a line.

        Args:
            split: `train`, `eval` or `probe`.
            step: Number of optimizer steps.
            epoch: Number of epochs.
            metrics: Values by name.
            line: Text for a plain terminal and train.log; empty: no text.

        Raises:
            ValueError: If a metric has the name of a fixed key of a row.
            OutputError: If a file cannot be written.
        """
        if self._metrics is None or self.directory is None:
            return
        taken = [name for name in ("step", "epoch", "split", "time") if name in metrics]
        if taken:
            raise ValueError(f"{taken[0]} is a reserved key of {METRICS}; rename the metric of {split}")
        self._follow()
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
        """Write images to `pictures/step_<step>.png`, one row for each name, and to VisualDL.

        Args:
            step: Number of optimizer steps.
            pictures: Images by name of the row, uint8, shape (B, H, W, 3).
        """
        if self.directory is None or not pictures:
            return
        self._follow()
        rows = [np.concatenate(list(images), axis=1) for images in pictures.values()]
        file = self.directory / "pictures" / f"step_{step:08d}.png"
        names = PngInfo()
        names.add_text(ROWS, strict_json.dumps(list(pictures)))
        with writing(file):
            file.parent.mkdir(exist_ok=True)
            with replacing(file) as temporary:
                Image.fromarray(np.concatenate(rows)).save(temporary, pnginfo=names)
        board = self._visualdl()
        for name, row in zip(pictures, rows):
            if board is not None:
                board.add_image(tag=name, img=row, step=step)

    def _visualdl(self) -> Optional[Any]:
        assert self.directory is not None and self._place is not None
        directory = self._place.anchor()  # VisualDL opens its file for every write, in a thread, and creates its folder
        if self._board and self._board_directory != directory:
            self._board.close()
            self._board = None
        if self._board is None:
            try:
                from visualdl import LogWriter
            except ImportError as error:
                self.say(f"VisualDL cannot be imported ({error}); metrics are written to metrics.jsonl only")
                self._board = False
                return None
            self._board_directory = directory
            with writing(self.directory / "vdl"):
                self._board = LogWriter(logdir=str(directory / "vdl"), display_name=self.directory.name)
        return self._board or None

    def close(self) -> None:
        """Close the progress bar and the files."""
        self.close_bar()
        with contextlib.suppress(OSError):  # an error of writing was raised before
            if self._metrics is not None:
                self._metrics.close()
        with contextlib.suppress(OSError):
            if self._board:
                self._board.close()
        if self._place is not None:
            self._place.close()
            self._place = None
        for handler in list(self._logger.handlers):
            self._logger.removeHandler(handler)
            with contextlib.suppress(OSError):
                handler.close()


def _short(metrics: Mapping[str, float]) -> Dict[str, str]:
    return {name: f"{metrics[name]:.4g}" for name in ("loss", "lr", "images_per_second") if name in metrics}
