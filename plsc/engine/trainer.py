"""The training loop, for every method."""

import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from plsc.engine import due
from plsc.engine.callback import Callback
from plsc.engine.interrupt import Interrupted, StopRequest
from plsc.engine.metric_store import MetricStore
from plsc.engine.nonfinite import Rewind
from plsc.engine.plan import Plan
from plsc.engine.step import TrainStep
from plsc.runs.log import RunLog
from plsc.tasks.base import Batch, Task


class Trainer:
    """Takes the steps of a run, calls the callbacks after each, saves and stops.

    Args:
        train_step: Takes one optimizer step.
        loader: Yields the micro-batches of an epoch, a plsc.data.loader.DataLoader.
        plan: Length of the run.
        callbacks: Called after every step, in this order.
        log: Console output, log file and metrics of the run.
        save: Called with the trainer when the run is asked to stop; returns when the checkpoint is on disk.
        rewind: Restores the last checkpoint into the trainer; returns False if there is no checkpoint.

    Attributes:
        metrics: Metrics of the last step; callbacks read and write them here.
        stop_request: Records the signals that ask the run to stop.
        data_seconds: Seconds spent waiting for the loader so far.
    """

    def __init__(
        self,
        train_step: TrainStep,
        loader: Any,
        plan: Plan,
        callbacks: Sequence[Callback],
        log: RunLog,
        save: Optional[Callable[["Trainer"], Any]] = None,
        rewind: Optional[Callable[["Trainer"], bool]] = None,
    ) -> None:
        self.train_step = train_step
        self.loader = loader
        self.plan = plan
        self.callbacks = list(callbacks)
        self.log = log
        self.save = save
        self.rewind = rewind
        self.metrics = MetricStore()
        self.stop_request = StopRequest()
        self.data_seconds = 0.0

    @property
    def task(self) -> Task:
        """The task that is trained."""
        return self.train_step.task

    @property
    def step(self) -> int:
        """Optimizer steps taken so far."""
        return self.train_step.step

    @property
    def epoch(self) -> float:
        """Epochs trained so far."""
        return self.step / self.plan.steps_per_epoch

    @property
    def at_epoch_end(self) -> bool:
        """True if the last step was the last one of an epoch."""
        return self.step % self.plan.steps_per_epoch == 0

    @property
    def finished(self) -> bool:
        """True if the run has taken all its steps."""
        return self.step >= self.plan.stop_step

    def fit(self) -> None:
        """Train from the current step to the end of the plan.

        Raises:
            Interrupted: If the run was asked to stop; a checkpoint of the last step is on disk then.
            FloatingPointError: If gradients are not finite and `Global.on_nonfinite` stops the run.
        """
        self.task.train()
        with self.stop_request:
            try:
                self.stop_if_asked()  # the signal may have come during the set-up
                for callback in self.callbacks:
                    callback.on_train_begin(self)
                self._finish_last_step()
                while not self.finished:
                    try:
                        self._train_epoch()
                    except Rewind as error:
                        self._go_back(error)
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
            scalars = self.train_step(micro_batches)
            self.metrics.begin(scalars, self.train_step.skipped, self.callbacks)
            self._call_due()
            self.stop_if_asked()
            if self.finished:
                return

    def _call_due(self) -> None:
        """Call the callbacks that are due for the last step; one that is interrupted stays due."""
        for callback in list(self.metrics.due):
            callback.on_step_end(self)
            self.metrics.finish(callback)

    def _finish_last_step(self) -> None:
        """Call the callbacks that a signal kept from finishing the step of the checkpoint."""
        if self.metrics.due:
            self._call_due()
            if self.save is not None:
                self.save(self)

    def _timed(self, groups: Iterator[List[Batch]]) -> Iterator[List[Batch]]:
        """Yield the groups; add the time spent waiting for them to `data_seconds`."""
        while True:
            start = time.perf_counter()
            group = next(groups, None)
            self.data_seconds += time.perf_counter() - start
            if group is None:
                return
            yield group

    def _go_back(self, error: Rewind) -> None:
        if self.rewind is None or not self.rewind(self):
            raise FloatingPointError(f"{error} There is no checkpoint to go back to") from None
        self.log.say(f"{error} Back to step {self.step}; step {error.step + 1} will be left out")
        for callback in self.callbacks:
            callback.on_rewind(self)
        self._finish_last_step()

    def stop_if_asked(self) -> None:
        """Raise `Interrupted` if the run was asked to stop; `fit` saves then. Called wherever time is spent."""
        if self.stop_request.pending():
            raise Interrupted(self.step, self.stop_request.signal_number or 15)

    def state_dict(self) -> Dict[str, Any]:
        """Return the state besides weights and optimizer state that a resumed run needs, as plain data.

        Every process must call it.
        """
        bad_images = self.loader.bad_images.state_dict()
        return {**self.train_step.state_dict(), "bad_images": bad_images, "callbacks": due.state_of_callbacks(self)}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`."""
        self.train_step.set_state_dict(state)
        self.loader.bad_images.set_state_dict(state.get("bad_images", {}))
        due.restore_callbacks(self, state)


def _groups(loader: Any, size: int) -> Iterator[List[Batch]]:
    """Yield the micro-batches of one optimizer step as a list; an incomplete last list is left out."""
    group: List[Batch] = []
    for batch in loader:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
