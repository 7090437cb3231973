"""Saving and restoring of checkpoints during a run.

Training waits only until the weights are copied to host memory; a thread writes them to disk.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, List, Mapping, Optional, Tuple

import numpy as np

from plsc import distributed
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint import weights as checkpoint_weights
from plsc.checkpoint.transfer import encoder_prefix
from plsc.config.tree import ConfigMap, differing_keys, parse
from plsc.data.classes import class_names
from plsc.engine.callback import Callback
from plsc.engine.consistency import patch_grid
from plsc.engine.position import Position, Resumed, compare, converted_state, position_of, saved_position
from plsc.engine.trainer import Trainer
from plsc.runs.directory import OutputError, warnings_to, writing

MOST_CHANGES = 50  # keys of a config in a message


class Checkpoints(Callback):
    """Saves every k epochs or steps and at the end; keeps the last few checkpoints and the best one.

    Args:
        directory: The run's `checkpoints` directory.
        config_text: The resolved config, kept in every checkpoint.
        every_epochs: None: only at the end.
        every_steps: Also saves at multiples of this number of steps.
        keep_last: Checkpoints kept besides `best`.
        monitor: Metric that decides `best`; None: no `best`.
        monitor_mode: `max` or `min`.
        ema: Moving average of the weights, saved as well; None: no average.
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
        self.past: Optional[Tuple[int, float, str]] = None  # step, epoch and old config, if the config has changed
        self._position: Optional[Position] = None
        self._recounted = 0  # number of changes of the step count, see plsc.engine.position
        self._saved: Optional[Tuple[int, Tuple[Callback, ...]]] = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Optional[Future] = None

    def on_train_begin(self, trainer: Trainer) -> None:
        self._saved = _moment(trainer) if trainer.step else None

    def on_step_end(self, trainer: Trainer) -> None:
        if self._pending is not None and self._pending.done():
            self.wait()  # a failure ends the run now, not when the next checkpoint is due
        epoch_due = self.every_epochs and trainer.at_epoch_end and round(trainer.epoch) % self.every_epochs == 0
        step_due = self.every_steps and trainer.step % self.every_steps == 0
        improved = self._improved(trainer)
        trainer.metrics.finish(self)  # the checkpoint holds the state after this callback
        if epoch_due or step_due or trainer.finished or improved:
            self.save(trainer, improved)

    def size(self, trainer: Trainer) -> int:
        """Return the approximate size of a checkpoint in bytes; known before the first step."""
        tensors = list(trainer.task.state_dict().values())
        tensors += [] if self.ema is None else list(self.ema.state_dict().values())
        weights = sum(int(tensor.size) * tensor.element_size() for tensor in tensors)
        return weights + 4 * trainer.train_step.optimizer.state_numbers()

    @property
    def most_at_once(self) -> int:
        """Number of checkpoints that will be added to those on disk: the last few, the best, the one being written."""
        best = 1 if self.monitor is not None else 0
        return max(1, self.keep_last + best + 1 - len(checkpoint_files.checkpoints(self.directory)))

    def _improved(self, trainer: Trainer) -> bool:
        results = trainer.metrics.take_results()
        if results is None or self.monitor is None:
            return False
        if self.monitor not in results:
            offered = [name for callback in trainer.callbacks for name in callback.measures]
            if self.monitor in offered or set(results) <= set(offered):
                return False  # it is measured at another step
            raise ValueError(f"Global.monitor: the evaluation measures {', '.join(results)}, not {self.monitor}")
        value = results[self.monitor]
        if np.isnan(value) or (self.best is not None and self.sign * value <= self.sign * self.best):
            return False
        self.best = value
        return True

    def save(self, trainer: Trainer, is_best: bool = False) -> None:
        """Start to write a checkpoint of the current state, unless it was written before; every process must call it.

        Raises:
            OutputError: If the previous checkpoint could not be written.
        """
        if _moment(trainer) == self._saved and not is_best:
            return
        self._saved = _moment(trainer)
        state = {**trainer.state_dict(), "best": self.best, "encoder": encoder_prefix(trainer.task)}
        optimizer = trainer.train_step.optimizer.state_dict()  # collects the parts if it is sharded
        if not distributed.is_main():
            return
        self.wait()
        parts = {"model": trainer.task.state_dict(), "optimizer": optimizer}
        if self.ema is not None:
            parts["ema"] = self.ema.state_dict()
        arrays = {part: checkpoint_weights.snapshot(tensors) for part, tensors in parts.items()}
        grid = patch_grid(trainer.task)
        if grid is not None:  # the stored position embeddings do not determine it
            state["grid"] = [int(length) for length in grid]
        state.update(position=self.position(trainer).state_dict(), recounted=self._recounted)
        classes = class_names(trainer.loader.dataset)
        if classes is not None:
            state["classes"] = classes
        self._pending = self._writer.submit(self._write, trainer, trainer.step, arrays, state, is_best)

    def save_now(self, trainer: Trainer) -> None:
        """Write a checkpoint of the current step; when this returns in any process, the checkpoint is on disk."""
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
            path = self._write_into(directory, step, arrays, state, is_best)  # it was moved during the write
        trainer.log.note(f"saved {path}")

    def _write_into(
        self, directory: Path, step: int, arrays: Mapping[str, Any], state: Mapping[str, Any], is_best: bool
    ) -> Path:
        with writing(directory / checkpoint_files.step_name(step, self._recounted)):
            path = checkpoint_files.write(directory, step, arrays, state, self.config_text, make_parents=False)
            if is_best:
                checkpoint_weights.point(directory, "best", path)
            checkpoint_weights.keep_last(directory, self.keep_last)
        return path

    def on_train_end(self, trainer: Trainer) -> None:
        self.save(trainer)  # once more, if callbacks were still due when the last one was written
        self.wait()

    def rewind(self, trainer: Trainer) -> bool:
        """Restore the newest checkpoint of this run into the trainer; return False if it has none."""
        self.wait()
        with warnings_to(lambda text: trainer.log.say(f"warning: {text}")):
            path = distributed.agree_on(checkpoint_weights.find_latest_whole(trainer.log.located(self.directory)))
        if path is None:
            return False
        left_out = trainer.train_step.nonfinite.state_dict()
        self.restore(trainer, path)
        trainer.train_step.nonfinite.set_state_dict(left_out)
        self._saved = _moment(trainer)
        return True

    def restore(self, trainer: Trainer, path: Path) -> List[str]:
        """Restore a checkpoint of this run, whose config may have changed, into the trainer.

        Returns:
            Changes since the checkpoint and their consequences, one line each.

        Raises:
            CheckpointError: If the checkpoint is damaged, belongs to another model, or cannot be continued exactly; the
                message lists the differences. The trainer is unchanged then.
        """
        checkpoint = checkpoint_weights.load(path)
        resumed = self._compare(trainer, checkpoint)
        checkpoint_weights.restore_layer(trainer.task, checkpoint)
        trainer.train_step.optimizer.set_state_dict(checkpoint.optimizer)
        if self.ema is not None and checkpoint.ema is not None:
            self.ema.set_state_dict(checkpoint.ema)
        elif self.ema is not None:
            self.ema.restart(trainer.task)
        trainer.set_state_dict(converted_state(checkpoint.state, resumed))
        before = int(checkpoint.state.get("recounted", 0))
        self._recounted = 1 + max(before, checkpoint_files.recounts(self.directory)) if resumed.converted else before
        self.best = checkpoint.state.get("best") if resumed.best_holds else None
        return [*resumed.notes, *self._config_changes(trainer, checkpoint)]

    def _config_changes(self, trainer: Trainer, checkpoint: checkpoint_weights.Checkpoint) -> List[str]:
        """Return a line for every key of the config that has changed; keep the previous config in `past`."""
        now = [parse(text, "config.yaml") if text else None for text in (checkpoint.config_text, self.config_text)]
        found = differing_keys(*now) if all(isinstance(config, ConfigMap) for config in now) else []
        if found:
            step = int(checkpoint.state["step"])
            per_epoch = dict(checkpoint.state.get("position") or {}).get("steps_per_epoch")
            self.past = step, step / (per_epoch or trainer.plan.steps_per_epoch), checkpoint.config_text
        shown = [f"{key}: {old} -> {new}" for key, old, new in found[:MOST_CHANGES]]
        return shown + ([f"and {len(found) - MOST_CHANGES} more keys"] if len(found) > MOST_CHANGES else [])

    def _compare(self, trainer: Trainer, checkpoint: checkpoint_weights.Checkpoint) -> Resumed:
        """Return the position at which the run continues.

        Raises:
            CheckpointError: If the run cannot continue exactly; the message lists all differences and what to do.
        """
        saved = saved_position(checkpoint.state, checkpoint.ema is not None)
        step = int(checkpoint.state["step"])
        left_out = checkpoint.state.get("nonfinite", {}).get("left_out", ())
        try:
            return compare(saved, self.position(trainer), step, [number for number in left_out if number >= step])
        except ValueError as error:
            raise checkpoint_weights.CheckpointError(
                f"{checkpoint.path}: {error}\nundo the change; or start a new run in another Global.output_dir, from "
                f"these weights with Init.checkpoint={checkpoint.path} Init.take=null"
            ) from None

    def position(self, trainer: Trainer) -> Position:
        """Return the meaning of a step number in this run; the data sets are read once."""
        if self._position is None:
            mode = "max" if self.sign > 0 else "min"
            self._position = position_of(trainer, self.monitor, mode, self.ema is not None)
        return self._position


def _moment(trainer: Trainer) -> Tuple[int, Tuple[Callback, ...]]:
    """Return the step and the callbacks that are still due for it: a checkpoint is written once for each such pair."""
    return trainer.step, tuple(trainer.metrics.due)
