"""Find, verify and read checkpoint directories; `Checkpoint` is the only way to open one.

checkpoint = Checkpoint.open("output/quickstart/finetune")
checkpoint.state["step"], checkpoint.model()["model.encoder.cls_token"].shape
"""

import json
import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Union

import numpy as np

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.arrays import CheckpointError, read_safetensors
from plsc.checkpoint.files import CONFIG, FORMAT, POINTERS, REPLACED, STATE, checkpoints, pointed, pointed_name
from plsc.runs.directory import CheckpointWarning

Arrays = Dict[str, np.ndarray]
_OLDER = "; use an older checkpoint"


class Checkpoint:
    """A checkpoint directory of plsc whose files are verified once, when it is opened.

    The arrays of a part are read from disk when its method is called, and are not kept: call it once.

    Attributes:
        path: Directory.
        state: Content of state.json.

    Raises:
        CheckpointError: If a file is missing or changed, state.json is damaged or from a newer version, or the
            directory is not a checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.state: Dict[str, Any] = _read_state(self.path)
        for name, expected in self.state["files"].items():
            if checkpoint_files.fingerprint(self.path / name) != expected:
                raise CheckpointError(f"{self.path} is damaged: the content of {name} has changed{_OLDER}")

    @classmethod
    def open(cls, path: Union[str, Path]) -> "Checkpoint":
        """Open the checkpoint that a path names.

        Args:
            path: A step's directory, `latest` or `best`, a `checkpoints` directory or a run's output directory. For
                the last two, it is the newest checkpoint that is whole, see `find_newest`.

        Raises:
            CheckpointError: If the path names no checkpoint, or a damaged one; the message lists those that exist.
        """
        path = Path(path)
        if (path / STATE).is_file():
            return cls(path)
        if path.is_file() and path.name in POINTERS:
            target = pointed(path)
            if target is None:
                raise CheckpointError(
                    f"{path} names {_shown_name(path)}, which is not a checkpoint any more; {_listed(path.parent)}"
                )
            return cls(target)
        for folder in (path / "checkpoints", path):
            found = find_newest(folder)
            if found is not None:
                return found
            check_newest(folder)
        if path.is_file():
            raise CheckpointError(
                f"{path} is a file, not a checkpoint directory; Init.checkpoint takes the weights of such a file, and "
                "`plsc convert FILE DIR --to own` makes a checkpoint of it"
            )
        problem = f"holds no whole checkpoint; {_listed(path)}" if path.is_dir() else "does not exist"
        raise CheckpointError(
            f"{path} {problem}; give a run's output directory, its checkpoints/latest or checkpoints/best, "
            "or a step_... directory"
        )

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return int(self.state["step"])

    @property
    def classes(self) -> Optional[List[str]]:
        """Names of the classes, in the order of the model's outputs; None if they are unknown."""
        names = self.state.get("classes")
        return [str(name) for name in names] if isinstance(names, list) and names else None

    @property
    def encoder(self) -> str:
        """Prefix of the names of the encoder's arrays."""
        return str(self.state.get("encoder", "model.encoder"))

    @cached_property
    def config_text(self) -> str:
        """Resolved config of the run, YAML; empty if the checkpoint has none."""
        file = self.path / CONFIG
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def has(self, part: str) -> bool:
        """Return True if the checkpoint has a part: `model`, `optimizer`, `ema` or `fixed`."""
        return self._file(part).is_file()

    def model(self) -> Arrays:
        """Read the weights: arrays by structured name, `model.encoder.cls_token`.

        Raises:
            CheckpointError: If the checkpoint has no weights, or their file is damaged; so for every part.
        """
        if not self.has("model"):
            raise CheckpointError(f"{self.path} is not a checkpoint of a run: model.safetensors is missing")
        return read_safetensors(self._file("model"))

    def optimizer(self) -> Arrays:
        """Read the optimizer's state: arrays by structured name and kind, `model.encoder.cls_token/moment1`."""
        return self.read("optimizer")

    def ema(self) -> Arrays:
        """Read the moving average of the weights; empty if the run kept none."""
        return self.read("ema")

    def fixed(self) -> Arrays:
        """Read the fixed arrays of a converted checkpoint, such as computed position tables; empty without any."""
        return self.read("fixed")

    def read(self, part: str) -> Arrays:
        """Read the arrays of a part by name; empty if the checkpoint does not have it."""
        return read_safetensors(self._file(part)) if self.has(part) else {}

    def _file(self, part: str) -> Path:
        return self.path / f"{part}.safetensors"


def find_newest(directory: Path) -> Optional[Checkpoint]:
    """Open the checkpoint that was written last, or if it is damaged the newest one that is whole.

    A checkpoint that a killed write was replacing counts too. A CheckpointWarning names the damaged ones, the reasons,
    and the one used instead, and tells if `best` does not name a checkpoint.

    Args:
        directory: `checkpoints` of a run.

    Returns:
        None if no checkpoint is whole.
    """
    directory = Path(directory)
    latest, passed = pointed(directory / "latest"), []
    if latest is None and os.path.lexists(directory / "latest"):
        passed.append(_dangling(directory / "latest"))
    replaced = sorted(directory.glob(f"{REPLACED}*"))
    listed = ([latest] if latest is not None else []) + checkpoints(directory)[::-1] + replaced
    for path in dict.fromkeys(listed):
        try:
            found = Checkpoint(path)
        except CheckpointError as error:
            passed.append(str(error).replace(_OLDER, ""))
            continue
        if passed:
            warnings.warn(f"{'; '.join(passed)}; {path} is used instead", CheckpointWarning, stacklevel=2)
        _warn_about_best(directory)
        return found
    return None


def best_or_latest(run: Path) -> Checkpoint:
    """Open the best checkpoint of a run directory, or if that is missing or damaged the newest one that is whole.

    A CheckpointWarning names a damaged best checkpoint and the one used instead.

    Raises:
        CheckpointError: If no checkpoint is whole.
    """
    best, problem = pointed(run / "checkpoints" / "best"), None
    if best is not None:
        try:
            return Checkpoint(best)
        except CheckpointError as error:
            problem = str(error).replace(_OLDER, "")
    found = Checkpoint.open(run)
    if problem is not None:
        warnings.warn(f"the best checkpoint: {problem}; {found} is used instead", CheckpointWarning, stacklevel=2)
    return found


def check_newest(directory: Path) -> None:
    """Raise CheckpointError with the reason if the newest checkpoint of a directory is damaged."""
    for path in checkpoints(directory)[-1:]:
        Checkpoint(path)


def check_pointers(directory: Path) -> None:
    """Raise CheckpointError if `latest` or `best` exists but does not name a checkpoint."""
    for pointer in (directory / name for name in POINTERS):
        if os.path.lexists(pointer) and pointed(pointer) is None:
            raise CheckpointError(_dangling(pointer))


def _warn_about_best(directory: Path) -> None:
    pointer = directory / "best"
    if os.path.lexists(pointer) and pointed(pointer) is None:
        warnings.warn(f"{_dangling(pointer)}: the best checkpoint is unknown", CheckpointWarning, stacklevel=3)


def _read_state(path: Path) -> Dict[str, Any]:
    """Read state.json and compare the files beside it with the sizes that it lists."""
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        version, _ = int(state["format"]), int(state["step"])
        files = {name: _described(name, entry) for name, entry in state["files"].items()}
    except KeyError as error:
        raise CheckpointError(f"{path} is not a checkpoint of plsc: its {STATE} has no {error}") from None
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint: {STATE} cannot be read ({error})") from None
    if version > FORMAT:
        raise CheckpointError(f"{path} was written by a newer plsc (format {version}); update plsc to read it")
    for name, expected in files.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path} is damaged: {name} is missing{_OLDER}")
        if (path / name).stat().st_size != expected["size"]:
            raise CheckpointError(f"{path} is damaged: {name} has been cut off or changed{_OLDER}")
    return state


def _described(name: str, entry: Mapping[str, int]) -> Dict[str, int]:
    """Size and checksum of a file beside state.json, as state.json lists them."""
    if Path(name).name != name:
        raise ValueError(f"it names {name!r}, which is not a file beside it")
    return {"size": int(entry["size"]), "crc32": int(entry["crc32"])}


def _shown_name(pointer: Path) -> str:
    """Content of a pointer for messages."""
    return ascii(pointed_name(pointer))[1:-1] or "nothing"


def _dangling(pointer: Path) -> str:
    return f"{pointer} names {_shown_name(pointer)}, which is not a checkpoint in this folder"


def _listed(directory: Path) -> str:
    names = [found.name for found in checkpoints(directory)] + [n for n in POINTERS if (directory / n).is_file()]
    return f"checkpoints there: {', '.join(names) or 'none'}"
