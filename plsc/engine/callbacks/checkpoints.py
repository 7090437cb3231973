"""Checkpoints of a run: saving on schedule, and restoring a trainer from one.

Training waits only for a copy of the weights to host memory; a thread writes it to disk.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, List, Mapping, Optional, Tuple

import numpy as np

from plsc import distributed
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.reader import Checkpoint, find_newest
from plsc.checkpoint.transfer import encoder_prefix
from plsc.checkpoint.weights import restore_layer, snapshot
from plsc.config.tree import ConfigMap, differing_keys, parse
from plsc.data.classes import class_names
from plsc.engine.callback import Callback
from plsc.engine.consistency import patch_grid
from plsc.engine.position import Position, Resumed, compare, converted_state, position_of, saved_position
from plsc.engine.trainer import Trainer
from plsc.runs.directory import OutputError, warnings_to, writing

MOST_CHANGES = 50  # keys of a config in a message


class Checkpoints(Callback):
    """Save every k epochs or steps and at the end; keep the last few checkpoints and the best.

    Args:
        directory: The run's `checkpoints` directory.
        config_text: The resolved config, kept in every checkpoint.
        every_epochs: Epochs between checkpoints; None: only at the end.
        every_steps: Save at multiples of this number of steps as well.
        keep_last: Checkpoints kept besides `best`.
        monitor: Evaluation metric that selects `best`; None: no `best`.
        monitor_mode: `max` or `min`.
        ema: Moving average of the weights, which is saved too.
    """

    def __init__(
        self,
        directory: Path,
        config_text: str,
        every_epochs: Optional[int] = 1,
        every_steps: Optional[int] = None,
        keep_last: int = 3,
        monitor: Optional[str] = None,
        monitor_mode: str = "max",
        ema: Any = None,
    ) -> None:
        self.directory = Path(directory)
        self.config_text = config_text
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.keep_last = keep_last
        self.monitor = monitor
        self.sign = 1.0 if monitor_mode == "max" else -1.0
        self.ema = ema
        self.best: Optional[float] = None
        self.past: Optional[Tuple[int, float, str]] = None  # after a change of the config: step, epoch, old config
        self._position: Optional[Position] = None
        self._recounted = 0  # restarts of the counting of steps, see plsc.engine.position
        self._saved: Optional[Tuple[int, Tuple[Callback, ...]]] = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Optional[Future] = None

    def on_train_begin(self, trainer: Trainer) -> None:
        self._saved = _moment(trainer) if trainer.step else None

    def on_step_end(self, trainer: Trainer) -> None:
        if self._pending is not None and self._pending.done():
            self.wait()  # raise a failure now instead of at the next checkpoint
        epoch_due = self.every_epochs and trainer.at_epoch_end and round(trainer.epoch) % self.every_epochs == 0
        step_due = self.every_steps and trainer.step % self.every_steps == 0
        improved = self._improved(trainer)
        trainer.metrics.finish(self)  # the checkpoint holds the state after this callback
        if epoch_due or step_due or trainer.finished or improved:
            self.save(trainer, improved)

    def size(self, trainer: Trainer) -> int:
        """Approximate size of a checkpoint in bytes; known before the first step."""
        tensors = list(trainer.task.state_dict().values())
        tensors += [] if self.ema is None else list(self.ema.state_dict().values())
        weights = sum(int(tensor.size) * tensor.element_size() for tensor in tensors)
        return weights + 4 * trainer.train_step.optimizer.state_numbers()

    @property
    def most_at_once(self) -> int:
        """Number of checkpoints that may be added to those on disk: the last few, the best, the one being written."""
        best = 1 if self.monitor is not None else 0
        return max(1, self.keep_last + best + 1 - len(checkpoint_files.checkpoints(self.directory)))

    def _improved(self, trainer: Trainer) -> bool:
        results = trainer.metrics.take_results()
        if results is None or self.monitor is None:
            return False
        if self.monitor not in results:
            offered = [name for callback in trainer.callbacks for name in callback.measures]
            if self.monitor in offered or set(results) <= set(offered):
                return False  # measured at other steps
            raise ValueError(f"Global.monitor: the evaluation measures {', '.join(results)}, not {self.monitor}")
        value = results[self.monitor]
        if np.isnan(value) or (self.best is not None and self.sign * value <= self.sign * self.best):
            return False
        self.best = value
        return True

    def save(self, trainer: Trainer, is_best: bool = False) -> None:
        """Start writing a checkpoint of the current state, unless it is saved already; every process must call this.

        Raises:
            OutputError: If the previous checkpoint could not be written.
        """
        if _moment(trainer) == self._saved and not is_best:
            return
        self._saved = _moment(trainer)
        state = {**trainer.state_dict(), "best": self.best, "encoder": encoder_prefix(trainer.task)}
        optimizer = trainer.train_step.optimizer.state_dict()  # gathered if it is sharded over processes
        if not distributed.is_main():
            return
        self.wait()
        parts = {"model": trainer.task.state_dict(), "optimizer": optimizer}
        if self.ema is not None:
            parts["ema"] = self.ema.state_dict()
        arrays = {part: snapshot(tensors) for part, tensors in parts.items()}
        grid = patch_grid(trainer.task)
        if grid is not None:  # the stored positions do not determine it
            state["grid"] = [int(length) for length in grid]
        state.update(position=self.position(trainer).state_dict(), recounted=self._recounted)
        classes = class_names(trainer.loader.dataset)
        if classes is not None:
            state["classes"] = classes
        self._pending = self._writer.submit(self._write, trainer, trainer.step, arrays, state, is_best)

    def save_now(self, trainer: Trainer) -> None:
        """Write a checkpoint of the current step; it is on disk when the method returns in any process."""
        self.save(trainer)
        self.wait()
        distributed.barrier("the last checkpoint")  # the launcher ends all processes when one ends

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is on disk.

        Raises:
            OutputError: If it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(
        self, trainer: Trainer, step: int, arrays: Mapping[str, Any], state: Mapping[str, Any], is_best: bool
    ) -> None:
        directory = trainer.log.located(self.directory)
        try:
            path = self._write_into(directory, step, arrays, state, is_best)
        except OutputError:
            directory, before = trainer.log.located(self.directory), directory
            if directory == before:
                raise
            path = self._write_into(directory, step, arrays, state, is_best)  # the run was moved during the write
        trainer.log.note(f"saved {path}")

    def _write_into(
        self, directory: Path, step: int, arrays: Mapping[str, Any], state: Mapping[str, Any], is_best: bool
    ) -> Path:
        with writing(directory / checkpoint_files.step_name(step, self._recounted)):
            path = checkpoint_files.write(directory, step, arrays, state, self.config_text, make_parents=False)
            if is_best:
                checkpoint_files.point(directory, "best", path)
            checkpoint_files.keep_last(directory, self.keep_last)
        return path

    def on_train_end(self, trainer: Trainer) -> None:
        self.save(trainer)  # again if callbacks were due after the last one
        self.wait()

    def rewind(self, trainer: Trainer) -> bool:
        """Restore the trainer from the newest checkpoint of this run; return False without one."""
        self.wait()
        with warnings_to(lambda text: trainer.log.say(f"warning: {text}")):
            found = find_newest(trainer.log.located(self.directory))
            path = distributed.agree_on(None if found is None else found.path)
        if path is None:
            return False
        left_out = trainer.train_step.nonfinite.state_dict()
        self.restore(trainer, found if found is not None and found.path == path else Checkpoint(path))
        trainer.train_step.nonfinite.set_state_dict(left_out)
        self._saved = _moment(trainer)
        return True

    def restore(self, trainer: Trainer, checkpoint: Checkpoint) -> List[str]:
        """Restore the trainer from a checkpoint of this run, whose config may have changed.

        Returns:
            One line for each change and its effect.

        Raises:
            CheckpointError: If the checkpoint is of another model, or cannot be continued exactly; with the
                differences. The trainer is unchanged then.
        """
        resumed = self._compare(trainer, checkpoint)
        restore_layer(trainer.task, checkpoint, checkpoint.model())
        trainer.train_step.optimizer.set_state_dict(checkpoint.optimizer())
        if self.ema is not None and checkpoint.has("ema"):
            self.ema.set_state_dict(checkpoint.ema())
        elif self.ema is not None:
            self.ema.restart(trainer.task)
        trainer.set_state_dict(converted_state(checkpoint.state, resumed))
        before = int(checkpoint.state.get("recounted", 0))
        self._recounted = 1 + max(before, checkpoint_files.recounts(self.directory)) if resumed.converted else before
        self.best = checkpoint.state.get("best") if resumed.best_holds else None
        return [*resumed.notes, *self._config_changes(trainer, checkpoint)]

    def _config_changes(self, trainer: Trainer, checkpoint: Checkpoint) -> List[str]:
        """One line for each changed key of the config; the old config is kept as `past`."""
        now = [parse(text, "config.yaml") if text else None for text in (checkpoint.config_text, self.config_text)]
        found = differing_keys(*now) if all(isinstance(config, ConfigMap) for config in now) else []
        if found:
            step = checkpoint.step
            per_epoch = dict(checkpoint.state.get("position") or {}).get("steps_per_epoch")
            self.past = step, step / (per_epoch or trainer.plan.steps_per_epoch), checkpoint.config_text
        shown = [f"{key}: {old} -> {new}" for key, old, new in found[:MOST_CHANGES]]
        return shown + ([f"and {len(found) - MOST_CHANGES} more keys"] if len(found) > MOST_CHANGES else [])

    def _compare(self, trainer: Trainer, checkpoint: Checkpoint) -> Resumed:
        """Compare the checkpoint with this run and return where it continues.

        Raises:
            CheckpointError: If the run cannot continue from it; with all differences and advice.
        """
        saved = saved_position(checkpoint.state, checkpoint.has("ema"))
        step = checkpoint.step
        left_out = checkpoint.state.get("nonfinite", {}).get("left_out", ())
        try:
            return compare(saved, self.position(trainer), step, [number for number in left_out if number >= step])
        except ValueError as error:
            raise CheckpointError(
                f"{checkpoint.path}: {error}\nundo the change; or start a new run in another Global.output_dir, from "
                f"these weights with Init.checkpoint={checkpoint.path} Init.take=null"
            ) from None

    def position(self, trainer: Trainer) -> Position:
        """Description of the data and batch that steps of this run are counted with; computed once."""
        if self._position is None:
            mode = "max" if self.sign > 0 else "min"
            self._position = position_of(trainer, self.monitor, mode, self.ema is not None)
        return self._position


def _moment(trainer: Trainer) -> Tuple[int, Tuple[Callback, ...]]:
    """Identity of the state that a checkpoint written now would hold: the step, and the callbacks still due."""
    return trainer.step, tuple(trainer.metrics.due)
