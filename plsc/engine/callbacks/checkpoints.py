"""When a run saves, what it saves, and how it continues from it.

Training waits only for a copy of the weights in host memory; a thread writes it to disk.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import paddle

from plsc import distributed
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint import weights as checkpoint_weights
from plsc.checkpoint.transfer import encoder_prefix
from plsc.config.tree import ConfigMap, differing_keys, parse
from plsc.data.classes import class_names
from plsc.engine.callback import Callback
from plsc.engine.position import Position, Resumed, compare, converted_state, position_of, saved_position
from plsc.engine.trainer import Trainer
from plsc.runs.directory import OutputError, warnings_to, writing

MOST_CHANGES = 50  # keys of a config in a message


class Checkpoints(Callback):
    """Saves every k epochs or steps and at the end, keeps the last few and the best.

    Args:
        directory: The run's `checkpoints` directory.
        config_text: The resolved config, kept in every checkpoint.
        every_epochs: None: only at the end.
        every_steps: Saves at multiples of so many steps as well.
        keep_last: Checkpoints kept besides `best`.
        monitor: Evaluation metric that decides `best`; None: no best.
        monitor_mode: `max` or `min`.
        ema: Moving average of the weights, saved as well if given.
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
        self.past: Optional[Tuple[int, float, str]] = None  # if the config has changed: step, epoch, the old one
        self._position: Optional[Position] = None
        self._recounted = 0  # how often the steps were counted anew, see plsc.engine.position
        self._saved: Optional[Tuple[int, Tuple[Callback, ...]]] = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Optional[Future] = None

    def on_train_begin(self, trainer: Trainer) -> None:
        self._saved = _moment(trainer) if trainer.step else None

    def on_step_end(self, trainer: Trainer, metrics: Dict[str, paddle.Tensor]) -> None:
        if self._pending is not None and self._pending.done():
            self.wait()  # a failure ends the run now, not when the next checkpoint is due
        epoch_due = self.every_epochs and trainer.at_epoch_end and round(trainer.epoch) % self.every_epochs == 0
        step_due = self.every_steps and trainer.step % self.every_steps == 0
        improved = self._improved(trainer)
        trainer.no_longer_due(self)  # what it writes now is the state after it
        if epoch_due or step_due or trainer.finished or improved:
            self.save(trainer, improved)

    def size(self, trainer: Trainer) -> int:
        """Bytes of a checkpoint, about; known before the first step."""
        tensors = list(trainer.task.state_dict().values())
        tensors += [] if self.ema is None else list(self.ema.state_dict().values())
        weights = sum(int(tensor.size) * tensor.element_size() for tensor in tensors)
        return weights + 4 * trainer.optimizer.state_numbers()

    @property
    def most_at_once(self) -> int:
        """Checkpoints that will be on disk besides those that are: the last few, the best, the one being written."""
        best = 1 if self.monitor is not None else 0
        return max(1, self.keep_last + best + 1 - len(checkpoint_files.checkpoints(self.directory)))

    def _improved(self, trainer: Trainer) -> bool:
        results, trainer.evaluation = trainer.evaluation, None
        if results is None or self.monitor is None:
            return False
        if self.monitor not in results:
            offered = [name for callback in trainer.callbacks for name in callback.measures]
            if self.monitor in offered or set(results) <= set(offered):
                return False  # it is measured at other steps
            raise ValueError(f"Global.monitor: the evaluation measures {', '.join(results)}, not {self.monitor}")
        value = results[self.monitor]
        if np.isnan(value) or (self.best is not None and self.sign * value <= self.sign * self.best):
            return False
        self.best = value
        return True

    def save(self, trainer: Trainer, is_best: bool = False) -> None:
        """Begins to write a checkpoint of the current state, unless there is one; every process must call.

        Raises:
            OutputError: If the checkpoint before it could not be written.
        """
        if _moment(trainer) == self._saved and not is_best:
            return
        self._saved = _moment(trainer)
        state = {**trainer.state_dict(), "best": self.best, "encoder": encoder_prefix(trainer.task)}
        optimizer = trainer.optimizer.state_dict()  # gathered, if it is divided among processes
        if not distributed.is_main():
            return
        self.wait()
        parts = {"model": trainer.task.state_dict(), "optimizer": optimizer}
        if self.ema is not None:
            parts["ema"] = self.ema.state_dict()
        arrays = {part: checkpoint_weights.snapshot(tensors) for part, tensors in parts.items()}
        grid = getattr(trainer.task.encoder, "grid_size", None)
        if grid is not None:  # which the stored positions do not tell
            state["grid"] = [int(length) for length in grid]
        state.update(position=self.position(trainer).state_dict(), recounted=self._recounted)
        classes = class_names(getattr(trainer.loader, "dataset", None))
        if classes is not None:
            state["classes"] = classes
        self._pending = self._writer.submit(self._write, trainer, trainer.step, arrays, state, is_best)

    def save_now(self, trainer: Trainer) -> None:
        """Writes a checkpoint of the current step; when it returns in any process, it is on disk."""
        self.save(trainer)
        self.wait()
        distributed.barrier("the last checkpoint")  # a process that ends makes the launcher end the others

    def wait(self) -> None:
        """Returns when what was begun is on disk.

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
        self.save(trainer)  # again, if callbacks were still due after the last one
        self.wait()

    def rewind(self, trainer: Trainer) -> bool:
        """Puts the newest checkpoint of this run into the trainer; false if there is none."""
        self.wait()
        with warnings_to(lambda text: trainer.log.say(f"warning: {text}")):
            path = distributed.agree_on(checkpoint_weights.find_latest_whole(trainer.log.located(self.directory)))
        if path is None:
            return False
        left_out = trainer.nonfinite.state_dict()
        self.restore(trainer, path)
        trainer.nonfinite.set_state_dict(left_out)
        self._saved = _moment(trainer)
        return True

    def restore(self, trainer: Trainer, path: Path) -> List[str]:
        """Puts a checkpoint of this run, whose config may have changed, into the trainer.

        Returns:
            What has changed and what comes of it, a line each.

        Raises:
            CheckpointError: If the checkpoint is damaged, of another model, or cannot be continued exactly; with what
                differs. Nothing is changed then.
        """
        checkpoint = checkpoint_weights.load(path)
        resumed = self._compare(trainer, checkpoint)
        checkpoint_weights.restore_layer(trainer.task, checkpoint)
        trainer.optimizer.set_state_dict(checkpoint.optimizer)
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
        """A line for every key of the config that has changed; the config until now is kept as `past`."""
        now = [parse(text, "config.yaml") if text else None for text in (checkpoint.config_text, self.config_text)]
        found = differing_keys(*now) if all(isinstance(config, ConfigMap) for config in now) else []
        if found:
            step = int(checkpoint.state["step"])
            per_epoch = dict(checkpoint.state.get("position") or {}).get("steps_per_epoch")
            self.past = step, step / (per_epoch or trainer.plan.steps_per_epoch), checkpoint.config_text
        shown = [f"{key}: {old} -> {new}" for key, old, new in found[:MOST_CHANGES]]
        return shown + ([f"and {len(found) - MOST_CHANGES} more keys"] if len(found) > MOST_CHANGES else [])

    def _compare(self, trainer: Trainer, checkpoint: checkpoint_weights.Checkpoint) -> Resumed:
        """Where the run goes on, if the checkpoint can be continued.

        Raises:
            CheckpointError: If not; with everything that differs and what to do.
        """
        saved = saved_position(checkpoint.state, checkpoint.ema is not None)
        step = int(checkpoint.state["step"])
        left_out = checkpoint.state.get("nonfinite", {}).get("left_out", ())
        try:
            return compare(saved, self.position(trainer), step, [number for number in left_out if number >= step])
        except ValueError as error:
            raise checkpoint_weights.CheckpointError(
                f"{checkpoint.path}: {error}\nput it back; or begin another run in another Global.output_dir, from "
                f"these weights with Init.checkpoint={checkpoint.path} Init.take=null"
            ) from None

    def position(self, trainer: Trainer) -> Position:
        """The meaning of a number of steps in this run; the data sets are looked at once."""
        if self._position is None:
            mode = "max" if self.sign > 0 else "min"
            self._position = position_of(trainer, self.monitor, mode, self.ema is not None)
        return self._position


def _moment(trainer: Trainer) -> Tuple[int, Tuple[Callback, ...]]:
    """The state that a checkpoint written now holds: the step, and the callbacks that are still due for it."""
    return trainer.step, tuple(trainer.due)
