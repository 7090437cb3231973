"""Steps whose gradients are not finite: what is done, what is written down, and where the numbers broke.

The dump of such a step holds everything that `plsc replay` needs to repeat it: weights, batch, seed, config.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import paddle
from paddle import nn

from plsc import distributed, strict_json
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.weights import snapshot
from plsc.data.pipeline import file_of
from plsc.runs.directory import OutputError, replacing, write_text
from plsc.tasks.base import Batch
from plsc.text import printable

FACTS, WEIGHTS, CONFIG = "facts.json", "model.safetensors", "config.yaml"
_SHOWN = 8  # file names in a message


class Rewind(Exception):  # noqa: N818 - a way back in the training loop, caught there
    """The run is to go back to its last checkpoint and to leave out the batch of `step` when it comes again."""

    def __init__(self, step: int, reason: str) -> None:
        self.step = step
        super().__init__(reason)


@dataclass
class NonFinitePolicy:
    """What a run does when the gradients of a step are not finite, and what it did so far.

    Args:
        action: `stop` with a message; `skip` the update; `rewind` to the last checkpoint and leave the batch out.
        limit: Steps that may be left out before the run stops after all.
        directory: Where dumps are written.
        config_text: The resolved config, kept in a dump.
    """

    action: str = "stop"
    limit: int = 10
    directory: Optional[Path] = None
    config_text: str = ""

    def __post_init__(self) -> None:
        self.left_out: Set[int] = set()  # steps (before the update) whose batches are not used
        self.overflows = 0  # of float16, which a smaller loss scale has cured

    def handle(self, trainer: Any, micro_batches: Sequence[Batch]) -> None:
        """Decides about the step that `trainer` is at; on return its update is to be skipped.

        Raises:
            FloatingPointError: If the run is to stop; with step, files, first bad layer and dump.
            Rewind: If it is to go back.
        """
        report = self._report(trainer, micro_batches)
        if self.action == "stop" or len(self.left_out) >= self.limit:
            reached = f" Global.nonfinite_limit of {self.limit} is reached." if self.action != "stop" else ""
            raise FloatingPointError(
                f"{report}{reached} Lower the learning rate, lengthen the warm-up or set Optimizer.clip_norm; "
                "Global.on_nonfinite: skip or rewind goes on without such steps"
            )
        self.left_out.add(trainer.step)
        if self.action == "rewind":
            raise Rewind(trainer.step, report)
        trainer.log.say(f"{report} Skipped, {len(self.left_out)} of at most {self.limit}")

    def _report(self, trainer: Any, micro_batches: Sequence[Batch]) -> str:
        found = diagnose(trainer, micro_batches)
        try:
            folder, lost = self._dump(trainer, micro_batches, found), ""
        except OSError as error:  # what has happened is the news, not that the disk is full
            folder, lost = None, f" There is no dump: {error}."
        everyone = distributed.gather_objects({"files": files_of(trainer.loader, micro_batches), **found})
        guilty = [number for number, other in enumerate(everyone) if other["bad"]] or [0]
        first = everyone[guilty[0]]
        ranks = f" on process {', '.join(map(str, guilty))}" if len(everyone) > 1 else ""
        shown = first["files"][:_SHOWN]
        more = f" and {len(first['files']) - len(shown)} more" if len(first["files"]) > len(shown) else ""
        files = f" Files of the batch: {', '.join(shown)}{more}." if shown else ""
        where = f" Dump: {folder}; `plsc replay {folder}` repeats the step." if folder else lost
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in first["metrics"].items())
        step = f"the gradients of step {trainer.step + 1} are not finite{ranks} ({metrics})"
        return f"{step}; {first['where']}.{files}{where}"

    def _dump(self, trainer: Any, micro_batches: Sequence[Batch], found: Mapping[str, Any]) -> Optional[Path]:
        if self.directory is None:
            return None
        directory = distributed.agree_on(_located(trainer, self.directory))
        if directory is None:
            raise OutputError("the output directory was removed")
        folder = Path(directory) / f"step_{trainer.step + 1:08d}"
        facts = {
            "step": trainer.step, "seed": trainer.seed, "rank": distributed.rank(),
            "world_size": distributed.world_size(), "files": files_of(trainer.loader, micro_batches), **found,
        }  # fmt: skip
        mine = folder / f"rank_{distributed.rank()}"
        mine.mkdir(parents=True, exist_ok=True)
        for number, batch in enumerate(micro_batches):
            with replacing(mine / f"batch_{number}.npz") as temporary:
                np.savez(temporary, **{key: value.numpy() for key, value in batch.items()})
        write_text(mine / FACTS, strict_json.dumps(facts, indent=2) + "\n")
        if distributed.is_main():
            with replacing(folder / WEIGHTS) as temporary:
                checkpoint_files.write_arrays(temporary, snapshot(trainer.task.state_dict()))
            write_text(folder / CONFIG, self.config_text)
        return folder

    def state_dict(self) -> Dict[str, Any]:
        """What a resumed run has to know; plain data."""
        return {"left_out": sorted(self.left_out), "overflows": self.overflows}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict()`; steps that were left out since stay left out."""
        self.left_out |= set(state.get("left_out", ()))
        self.overflows = max(self.overflows, int(state.get("overflows", 0)))


def _located(trainer: Any, directory: Path) -> Optional[str]:
    """Return the present path of a directory of the run; None if the run's directory is gone."""
    try:
        return str(trainer.log.located(directory))
    except OutputError:
        return None


def files_of(loader: Any, micro_batches: Sequence[Batch]) -> List[str]:
    """Names of the files that a step's batches were read from, if the data set has any, in a form to print."""
    dataset = getattr(loader, "dataset", None)
    files = [file_of(dataset, int(index)) for batch in micro_batches for index in batch.get("index", ())]
    return [printable(file) for file in files if file is not None]


def diagnose(trainer: Any, micro_batches: Sequence[Batch]) -> Dict[str, Any]:
    """Repeats this process's part of a step and finds where the numbers break.

    Returns:
        `bad`: whether they break here; `where`: in which parameter, layer or gradient, a sentence; `metrics`.
    """
    broken = [name for name, tensor in trainer.task.state_dict().items() if not _finite(tensor)]
    trainer.optimizer.clear_grad()
    with watch_layers(trainer.task) as outputs:
        metrics = trainer.accumulate_gradients(micro_batches)
    layers = [name for name, finite in outputs if not finite]
    named = [(name, p) for name, p in trainer.task.named_parameters() if p.grad is not None]
    gradients = [name for name, parameter in named if not _finite(parameter.grad)]
    trainer.optimizer.clear_grad()
    values = {name: float(value) for name, value in metrics.items()}
    if broken:
        where = f"the weights were not finite before it, first {broken[0]}"
    elif layers:
        where = f"the first output that is not finite is that of {layers[0]}"
        if layers[0].startswith("the batch"):
            where = f"{layers[0]} is not finite"
    elif not all(np.isfinite(value) for value in values.values()):
        where = "every layer's output is finite, the loss is not"
    elif gradients:
        where = f"the loss is finite; the last layer whose gradient is not is {gradients[-1]}"
    else:
        where = "everything is finite here"
    bad = bool(broken or layers or gradients or not all(np.isfinite(v) for v in values.values()))
    return {"bad": bad, "where": where, "metrics": values}


@contextmanager
def watch_layers(task: nn.Layer) -> Iterator[List[Tuple[str, bool]]]:
    """Inside, the batch and every layer, when it is done, note their name and whether their values are finite."""
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
