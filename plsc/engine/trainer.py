"""The training loop, for every method: what happens in one step, and in which order, is `Trainer.train_step`."""

import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np
import paddle

from plsc import distributed
from plsc.engine import due
from plsc.engine.callback import Callback
from plsc.engine.interrupt import Interrupted, StopRequest
from plsc.engine.nonfinite import NonFinitePolicy, Rewind
from plsc.engine.plan import Plan
from plsc.nn.precision import Precision
from plsc.runs.log import RunLog
from plsc.tasks.base import Batch, Task

BATCH_SALT = 7919  # tells the random numbers of batch transforms from those of samples


class Trainer:
    """Runs a task to the end of its plan.

    Args:
        task: What is trained.
        optimizer: One of plsc.optim over the task's parameters.
        schedule: Learning rate by optimizer steps taken.
        loader: Yields micro-batches of an epoch; `set_position(epoch, step)` chooses where. Has `num_workers`.
        batch_transforms: `(batch, rng) -> batch`, applied in order on the device.
        precision: Autocast and loss scaling.
        plan: How long.
        callbacks: Called in this order.
        log: The run's voice.
        seed: All random numbers of a step are functions of it and of the step.
        save: Called with the trainer when the run is asked to stop; returns when everything is on disk.
        rewind: Puts the last checkpoint into the trainer; false if there is none.
        nonfinite: What to do when gradients are not finite.
    """

    def __init__(
        self,
        task: Task,
        optimizer: Any,
        schedule: Callable[[int], float],
        loader: Any,
        batch_transforms: Sequence[Callable[[Batch, np.random.Generator], Batch]],
        precision: Precision,
        plan: Plan,
        callbacks: Sequence[Callback],
        log: RunLog,
        seed: int = 0,
        save: Optional[Callable[["Trainer"], Any]] = None,
        rewind: Optional[Callable[["Trainer"], bool]] = None,
        nonfinite: Optional[NonFinitePolicy] = None,
    ) -> None:
        self.task = task
        self.optimizer = optimizer
        self.schedule = schedule
        self.loader = loader
        self.batch_transforms = list(batch_transforms)
        self.precision = precision
        self.plan = plan
        self.callbacks = list(callbacks)
        self.log = log
        self.seed = seed
        self.save = save
        self.data_seconds = 0.0  # spent waiting for the loader so far
        self.rewind = rewind
        self.bad_images = getattr(loader, "bad_images", None)
        self.nonfinite = nonfinite or NonFinitePolicy()
        self.step = 0
        self.skipped = False  # whether the step just taken left the weights as they were
        self.evaluation: Optional[Dict[str, float]] = None  # of the step just taken, if one was due
        self.metrics: Dict[str, paddle.Tensor] = {}  # of the step just taken
        self.due: List[Callback] = []  # callbacks that have not finished for the step just taken, in their order
        self.stop_request = StopRequest()
        self.rank = distributed.rank()
        self.parameters = [p for p in task.parameters() if not p.stop_gradient]
        self.exchange = distributed.GradientExchange(task, self.parameters)

    @property
    def epoch(self) -> float:
        """Epochs trained so far."""
        return self.step / self.plan.steps_per_epoch

    @property
    def at_epoch_end(self) -> bool:
        """Whether the step just taken was the last of an epoch."""
        return self.step % self.plan.steps_per_epoch == 0

    @property
    def finished(self) -> bool:
        """Whether the run has reached its end."""
        return self.step >= self.plan.stop_step

    def fit(self) -> None:
        """Trains from the current step to the end of the plan.

        Raises:
            Interrupted: If the run was asked to stop; everything is saved by then.
            FloatingPointError: If gradients are not finite and `nonfinite` says to stop.
        """
        self.task.train()
        with self.stop_request:
            try:
                self.stop_if_asked()  # it may have been during the set-up
                for callback in self.callbacks:
                    callback.on_train_begin(self)
                self._make_up()
                while not self.finished:
                    try:
                        self._train_epoch()
                    except Rewind as bad:
                        self._go_back(bad)
                for callback in self.callbacks:
                    callback.on_train_end(self)
            except Interrupted:
                if self.save is not None and self.step > 0:
                    self.save(self)
                raise

    def _train_epoch(self) -> None:
        epoch, step_in_epoch = divmod(self.step, self.plan.steps_per_epoch)
        self.loader.set_position(epoch, step_in_epoch)
        for micro_batches in self._timed(_groups(self.loader, self.plan.accumulate)):
            self.metrics = self.train_step(micro_batches)
            self.due = list(self.callbacks)
            self._call_due()
            self.stop_if_asked()
            if self.finished:
                return

    def _call_due(self) -> None:
        """Calls the callbacks that are due for the step just taken; an interrupted one stays due."""
        for callback in list(self.due):
            callback.on_step_end(self, self.metrics)
            self.no_longer_due(callback)

    def no_longer_due(self, callback: Callback) -> None:
        """Takes a callback off the list of those due: a checkpoint that is written from now on does not call it."""
        if callback in self.due:
            self.due.remove(callback)

    def _make_up(self) -> None:
        """Calls the callbacks that a signal kept from their work at the step of the checkpoint."""
        if self.due:
            self._call_due()
            if self.save is not None:
                self.save(self)

    def _timed(self, groups: Iterator[List[Batch]]) -> Iterator[List[Batch]]:
        """The same groups; the time it took to get them is added to `data_seconds`."""
        while True:
            start = time.perf_counter()
            group = next(groups, None)
            self.data_seconds += time.perf_counter() - start
            if group is None:
                return
            yield group

    def train_step(self, micro_batches: Sequence[Batch]) -> Dict[str, paddle.Tensor]:
        """Takes one optimizer step, or leaves the weights alone if the gradients are not finite.

        Args:
            micro_batches: `plan.accumulate` batches of equal size.

        Returns:
            The task's scalars averaged over the micro-batches, with `grad_norm` (before clipping); on the device.
        """
        self.optimizer.set_lr(self.schedule(self.step))
        self.optimizer.set_progress(self.step / self.plan.total_steps)
        metrics = self.accumulate_gradients(micro_batches, self.exchange.forward)
        self.exchange.finish()
        self.precision.unscale(self.parameters)
        metrics["grad_norm"] = self.optimizer.clip_gradients()
        self.skipped = not self._may_update(metrics["grad_norm"], micro_batches)
        if not self.skipped:
            self.task.before_step(self.step / self.plan.total_steps)
            self.optimizer.step()
        self.optimizer.clear_grad()
        self.step += 1
        self.task.on_step_end(self.step / self.plan.total_steps)
        return metrics

    def accumulate_gradients(
        self, micro_batches: Sequence[Batch], last_forward: Optional[Callable[[Batch], Dict[str, paddle.Tensor]]] = None
    ) -> Dict[str, paddle.Tensor]:
        """Adds up this process's gradients of the current step; the same every time it is called for a step.

        Args:
            micro_batches: `plan.accumulate` batches of equal size.
            last_forward: Takes the last of them instead of the task, so that its backward pass may average gradients
                over the processes.

        Returns:
            The task's scalars averaged over the micro-batches.
        """
        paddle.seed(self._step_seed())
        rng = np.random.default_rng([self.seed, self.step, self.rank, BATCH_SALT])
        metrics: Dict[str, paddle.Tensor] = {}
        for number, batch in enumerate(micro_batches, start=1):
            forward = last_forward if last_forward and number == len(micro_batches) else self.task
            batch = self.prepare(batch, rng)
            with self.precision.autocast():
                outputs = forward(batch)
            self.precision.backward(outputs["loss"] / len(micro_batches))
            for name, value in outputs.items():
                share = value.detach() / len(micro_batches)
                metrics[name] = metrics[name] + share if name in metrics else share
        return metrics

    def _may_update(self, norm: paddle.Tensor, micro_batches: Sequence[Batch]) -> bool:
        """Whether the step's gradients may change the weights.

        The norm is that of all processes' gradients, so all decide alike. It is the one number that a step reads back
        from the device: a run that goes on with broken weights costs more than the wait.
        """
        if self.step in self.nonfinite.left_out:
            return False
        if np.isfinite(float(norm)):
            self.precision.succeeded()
            return True
        if self.precision.overflowed():
            self.nonfinite.overflows += 1
        else:
            self.nonfinite.handle(self, micro_batches)
        return False

    def _go_back(self, bad: Rewind) -> None:
        if self.rewind is None or not self.rewind(self):
            raise FloatingPointError(f"{bad} There is no checkpoint to go back to") from None
        self.log.say(f"{bad} Back to step {self.step}; step {bad.step + 1} will be left out")
        for callback in self.callbacks:
            callback.on_rewind(self)
        self._make_up()

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A batch as the task takes it: augmented, normalised, with targets.

        Raises:
            ValueError: If the batch lacks what the task needs.
        """
        missing = [key for key in self.task.required_keys if key not in batch]
        if missing:
            raise ValueError(
                f"{type(self.task).__name__} needs {', '.join(missing)} in a batch, which holds {', '.join(batch)}; "
                "labels come from a folder with one sub-folder per class, masks from the section MaskGenerator"
            )
        with paddle.no_grad():
            for transform in self.batch_transforms:
                batch = transform(batch, rng)
            return self.task.prepare(batch)

    def _step_seed(self) -> int:
        """Drop path and noise of a step depend on (seed, step, rank) alone, so a resumed run repeats them."""
        return int(np.random.SeedSequence([self.seed, self.step, self.rank]).generate_state(1)[0])

    def stop_if_asked(self) -> None:
        """Raises `Interrupted`, upon which `fit` saves, if the run was asked to stop; called wherever time is spent."""
        if self.stop_request.pending():
            raise Interrupted(self.step, self.stop_request.signal_number or 15)

    def state_dict(self) -> Dict[str, Any]:
        """Everything besides weights and optimizer state that a resumed run needs; plain data.

        Every process must call it.
        """
        parts = {"scaler": self.precision.state_dict(), "nonfinite": self.nonfinite.state_dict()}
        if self.bad_images is not None:
            parts["bad_images"] = self.bad_images.state_dict()
        return {"step": self.step, "seed": self.seed, **parts, "callbacks": due.state_of_callbacks(self)}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict()`."""
        self.step = int(state["step"])
        self.precision.set_state_dict(state.get("scaler", {}))
        self.nonfinite.set_state_dict(state.get("nonfinite", {}))
        if self.bad_images is not None:
            self.bad_images.set_state_dict(state.get("bad_images", {}))
        due.restore_callbacks(self, state)


def _groups(loader: Any, size: int) -> Iterator[List[Batch]]:
    """Micro-batches in groups of one optimizer step; an incomplete last group is left out."""
    group: List[Batch] = []
    for batch in loader:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
