"""Steps whose gradients are not finite: policy of the run, diagnosis and dump.

The dump of such a step holds everything that `plsc replay` needs to repeat it: weights, batch, seed, config.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import paddle
from paddle import nn

from plsc import distributed, strict_json
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.weights import snapshot
from plsc.data.pipeline import file_of
from plsc.runs.directory import OutputError, replacing, write_text
from plsc.runs.log import RunLog
from plsc.tasks.base import Batch
from plsc.text import printable

if TYPE_CHECKING:
    from plsc.engine.step import TrainStep

FACTS, WEIGHTS, CONFIG = "facts.json", "model.safetensors", "config.yaml"
_SHOWN = 8  # file names in a message


class Rewind(Exception):  # noqa: N818 - control flow of the training loop, not an error
    """Raised to go back to the last checkpoint; the batch of `step` is left out when it comes again."""

    def __init__(self, step: int, reason: str) -> None:
        self.step = step
        super().__init__(reason)


@dataclass
class NonFinitePolicy:
    """Policy for steps whose gradients are not finite.

    Args:
        action: `stop` with a message; `skip` the update; `rewind` to the last checkpoint and leave the batch out.
        limit: Number of steps that may be left out before the run stops.
        directory: Directory for dumps; None: no dumps.
        config_text: The resolved config, kept in a dump.
        log: Log of the run; told of skipped steps, and of the run's directory if it was moved.
        dataset: Training set, to name the files of a batch; None: they are not named.

    Attributes:
        left_out: Steps (counted before the update) whose batches are not used.
        overflows: Number of float16 overflows, after which the loss scale was lowered.
    """

    action: str = "stop"
    limit: int = 10
    directory: Optional[Path] = None
    config_text: str = ""
    log: RunLog = field(default_factory=partial(RunLog, main=False))
    dataset: Any = None
    left_out: Set[int] = field(default_factory=set, init=False)
    overflows: int = field(default=0, init=False)

    def handle(self, step: "TrainStep", micro_batches: Sequence[Batch]) -> None:
        """Decide about the present step; if it returns, the update is skipped.

        Raises:
            FloatingPointError: If the run stops; the message has the step, files, first bad layer and dump.
            Rewind: If the run goes back to its last checkpoint.
        """
        report = self._report(step, micro_batches)
        if self.action == "stop" or len(self.left_out) >= self.limit:
            reached = f" Global.nonfinite_limit of {self.limit} is reached." if self.action != "stop" else ""
            raise FloatingPointError(
                f"{report}{reached} Lower the learning rate, lengthen the warm-up or set Optimizer.clip_norm; "
                "Global.on_nonfinite: skip or rewind continues without such steps"
            )
        self.left_out.add(step.step)
        if self.action == "rewind":
            raise Rewind(step.step, report)
        self.log.say(f"{report} Skipped, {len(self.left_out)} of at most {self.limit}")

    def _report(self, step: "TrainStep", micro_batches: Sequence[Batch]) -> str:
        found = {"files": files_of(self.dataset, micro_batches), **diagnose(step, micro_batches)}
        try:
            folder, lost = self._dump(step, micro_batches, found), ""
        except OSError as error:  # a full disk must not hide the message about the step
            folder, lost = None, f" The dump could not be written: {error}."
        everyone = distributed.gather_objects(found)
        guilty = [number for number, other in enumerate(everyone) if other["bad"]] or [0]
        first = everyone[guilty[0]]
        ranks = f" on process {', '.join(map(str, guilty))}" if len(everyone) > 1 else ""
        shown = first["files"][:_SHOWN]
        more = f" and {len(first['files']) - len(shown)} more" if len(first["files"]) > len(shown) else ""
        files = f" Files of the batch: {', '.join(shown)}{more}." if shown else ""
        where = f" Dump: {folder}; `plsc replay {folder}` repeats the step." if folder else lost
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in first["metrics"].items())
        summary = f"the gradients of step {step.step + 1} are not finite{ranks} ({metrics})"
        return f"{summary}; {first['where']}.{files}{where}"

    def _dump(self, step: "TrainStep", micro_batches: Sequence[Batch], found: Mapping[str, Any]) -> Optional[Path]:
        if self.directory is None:
            return None
        directory = distributed.agree_on(self._located(self.directory))
        if directory is None:
            raise OutputError("the output directory was removed")
        folder = Path(directory) / f"step_{step.step + 1:08d}"
        ranks = {"rank": distributed.rank(), "world_size": distributed.world_size()}
        facts = {"step": step.step, "seed": step.seed, **ranks, **found}
        mine = folder / f"rank_{distributed.rank()}"
        mine.mkdir(parents=True, exist_ok=True)
        for number, batch in enumerate(micro_batches):
            with replacing(mine / f"batch_{number}.npz") as temporary:
                np.savez(temporary, **{key: value.numpy() for key, value in batch.items()})
        write_text(mine / FACTS, strict_json.dumps(facts, indent=2) + "\n")
        if distributed.is_main():
            with replacing(folder / WEIGHTS) as temporary:
                checkpoint_files.write_arrays(temporary, snapshot(step.task.state_dict()))
            write_text(folder / CONFIG, self.config_text)
        return folder

    def state_dict(self) -> Dict[str, Any]:
        """Return the state that a resumed run needs, as plain data."""
        return {"left_out": sorted(self.left_out), "overflows": self.overflows}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`; steps that are left out now stay left out."""
        self.left_out |= set(state.get("left_out", ()))
        self.overflows = max(self.overflows, int(state.get("overflows", 0)))

    def _located(self, directory: Path) -> Optional[str]:
        """Return the present path of a directory of the run; None if the run's directory is gone."""
        try:
            return str(self.log.located(directory))
        except OutputError:
            return None


def files_of(dataset: Any, micro_batches: Sequence[Batch]) -> List[str]:
    """Return the printable names of the files that a step's batches were read from; empty if they have none."""
    if dataset is None:
        return []
    files = [file_of(dataset, int(index)) for batch in micro_batches for index in batch.get("index", ())]
    return [printable(file) for file in files if file is not None]


def diagnose(step: "TrainStep", micro_batches: Sequence[Batch]) -> Dict[str, Any]:
    """Repeat this process's part of the present step and find the first value that is not finite.

    Returns:
        `bad`: True if this process has such a value; `where`: a sentence that names the parameter, layer or gradient;
        `metrics`: the task's scalars by name.
    """
    broken = [name for name, tensor in step.task.state_dict().items() if not _finite(tensor)]
    step.optimizer.clear_grad()
    with watch_layers(step.task) as outputs:
        metrics = step.accumulate_gradients(micro_batches)
    layers = [name for name, finite in outputs if not finite]
    named = [(name, p) for name, p in step.task.named_parameters() if p.grad is not None]
    gradients = [name for name, parameter in named if not _finite(parameter.grad)]
    step.optimizer.clear_grad()
    values = {name: float(value) for name, value in metrics.items()}
    if broken:
        where = f"the weights were not finite before the step, first {broken[0]}"
    elif layers:
        where = f"the first layer whose output is not finite is {layers[0]}"
        if layers[0].startswith("the batch"):
            where = f"{layers[0]} is not finite"
    elif not all(np.isfinite(value) for value in values.values()):
        where = "the output of every layer is finite, but the loss is not"
    elif gradients:
        where = f"the loss is finite; the last parameter whose gradient is not finite is {gradients[-1]}"
    else:
        where = "all values are finite in this process"
    bad = bool(broken or layers or gradients or not all(np.isfinite(v) for v in values.values()))
    return {"bad": bad, "where": where, "metrics": values}


@contextmanager
def watch_layers(task: nn.Layer) -> Iterator[List[Tuple[str, bool]]]:
    """Record, in the order of execution, the names of batch entries and layers and whether their values are finite."""
    seen: List[Tuple[str, bool]] = []

    def note_batch(layer: nn.Layer, inputs: Any) -> None:
        seen.extend((f"the batch's {key}", _finite(value)) for key, value in inputs[0].items())

    def note(name: str) -> Any:
        def hook(layer: nn.Layer, inputs: Any, output: Any) -> None:
            parts = output.values() if isinstance(output, dict) else output
            parts = [parts] if isinstance(parts, paddle.Tensor) else parts
            seen.append((name, all(_finite(part) for part in parts if isinstance(part, paddle.Tensor))))

        return hook

    hooks = [part.register_forward_post_hook(note(name)) for name, part in task.named_sublayers()]
    hooks.append(task.register_forward_pre_hook(note_batch))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _finite(tensor: paddle.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(paddle.isfinite(tensor.astype("float32")).all())
