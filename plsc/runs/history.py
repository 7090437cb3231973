"""Earlier configs of a run that was resumed with a changed config."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from plsc.config.tree import ConfigError, ConfigMap, differing_keys, parse

FOLDER = "configs"
_NAME = re.compile(r"[0-9]+_until_step_([0-9]{1,20})\.yaml")
_EPOCH = re.compile(r"# .*epoch ([0-9.]+)")


@dataclass
class PastConfig:
    """Config of an earlier part of a run.

    Attributes:
        step: Number of optimizer steps at the change, counted with this config.
        epoch: Number of epochs at the change; None if the file does not give it.
        text: YAML.
        config: Parsed YAML.
    """

    step: int
    epoch: Optional[float]
    text: str
    config: ConfigMap

    def __str__(self) -> str:
        return f"until step {self.step:,}" + ("" if self.epoch is None else f" (epoch {self.epoch:g})")


def keep_config(directory: Path, step: int, epoch: float, text: str) -> Optional[Path]:
    """Write the config that a run had until a step; return the file, or None if the last file already has this content.

    Args:
        directory: The run's output directory.
        step: Number of optimizer steps at the change.
        epoch: Number of epochs at the change.
        text: YAML.
    """
    folder = directory / FOLDER
    there = _files(folder)
    content = f"# config of this run until step {step}, epoch {round(epoch, 4)}\n{text}"
    if there and there[-1].read_text(encoding="utf-8", errors="replace") == content:
        return None
    number = 1 + (int(there[-1].name.split("_")[0]) if there else 0)
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:03d}_until_step_{step:08d}.yaml"
    path.write_text(content, encoding="utf-8")
    return path


def read_history(directory: Path) -> List[PastConfig]:
    """Return the earlier configs of a run, oldest first; files that are not configs are skipped."""
    found = []
    for path in _files(directory / FOLDER):
        try:
            text = path.read_text(encoding="utf-8")
            config = parse(text, str(path))
        except (OSError, UnicodeDecodeError, ConfigError):
            continue
        epoch = _EPOCH.match(text)
        if isinstance(config, ConfigMap):
            step = int(_NAME.sub(r"\1", path.name))
            found.append(PastConfig(step, float(epoch[1]) if epoch else None, text, config))
    return found


def _files(folder: Path) -> List[Path]:
    found = [path for path in folder.glob("*.yaml") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.split("_")[0]))


def before(past: List[PastConfig], config: ConfigMap) -> List[PastConfig]:
    """Return the earlier configs of a checkpoint that was written with `config`."""
    own = (place for place, one in enumerate(past) if not differing_keys(one.config, config))
    return past[: next(own, len(past))]


def changes(past: List[PastConfig], present: ConfigMap) -> List[Tuple[PastConfig, List[Tuple[str, str, str]]]]:
    """Return each earlier config with the keys that the next one changed: key path, old and new value."""
    after = [*(one.config for one in past[1:]), present]
    return [(one, differing_keys(one.config, following)) for one, following in zip(past, after)]
