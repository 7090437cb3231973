"""Base class of callbacks."""

from typing import TYPE_CHECKING, Any, Dict, Mapping, Sequence

if TYPE_CHECKING:
    from plsc.engine.trainer import Trainer


class Callback:
    """Observes a run: logging, evaluation, checkpoints.

    A callback never changes the values of a step: learning rate, clipping, precision, accumulation and teacher updates
    belong to schedule, optimizer and task. Every method has a default that does nothing.

    Callbacks are called in the order of the config, after those of the engine (profile, weight average, process
    comparison, progress, evaluation) and before the checkpoints. They use these attributes of the trainer:
    `task`, `step`, `epoch`, `at_epoch_end`, `finished`, `plan`, `loader`, `log`, `train_step`, `callbacks`, and

    - `trainer.metrics`, the only way to read and write metrics: `metrics.scalars` are the scalars of the last step, on
      the device, `metrics.skipped` tells whether it left the weights unchanged, and `metrics.record(results)` hands on
      what the callback has measured, so that `Global.monitor` can name it;
    - `trainer.stop_if_asked()`, to be called in work that takes long, such as after each batch of an evaluation. Every
      process must call it equally often. It raises `Interrupted` if the run was asked to stop.

    A callback that draws random values or changes the mode of a network restores them, and one that uses the loader
    begins with `set_position`, so that a run has the same results with and without it.

    Attributes:
        measures: Names that the callback will pass to `trainer.metrics.record`, as far as they are known when the run
            begins. `Global.monitor` is checked against them.
    """

    measures: Sequence[str] = ()

    def on_train_begin(self, trainer: "Trainer") -> None:
        """Called once before the first step, after a checkpoint was restored."""

    def on_step_end(self, trainer: "Trainer") -> None:
        """Called after every optimizer step.

        A callback that a signal interrupts (`trainer.stop_if_asked`) is called again for the same step when the run is
        resumed. It must therefore record its results only when all of them are complete.
        """

    def state_dict(self) -> Dict[str, Any]:
        """Return the state that a resumed run needs, as plain data; each process has its own."""
        return {}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`; the state is empty if the checkpoint has none of this callback."""

    def on_rewind(self, trainer: "Trainer") -> None:
        """Called after the run went back to an earlier step and restored its state."""

    def on_train_end(self, trainer: "Trainer") -> None:
        """Called once after the last step; not called if the run is interrupted or fails."""
