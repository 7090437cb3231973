"""Base class of callbacks."""

from typing import TYPE_CHECKING, Any, Dict, Mapping, Sequence

import paddle

if TYPE_CHECKING:
    from plsc.engine.trainer import Trainer


class Callback:
    """Observes a run: logging, evaluation, checkpoints. What changes the numbers of a step is not a callback.

    Attributes:
        measures: What it will add to `trainer.evaluation`, as far as that is known from the start.
    """

    measures: Sequence[str] = ()

    def on_train_begin(self, trainer: "Trainer") -> None:
        """Called once, before the first step, after a resumed state is in place."""

    def on_step_end(self, trainer: "Trainer", metrics: Dict[str, paddle.Tensor]) -> None:
        """Called after every optimizer step with the step's metrics, still on the device.

        If a signal interrupts it (`trainer.stop_if_asked`), it is called again for the same step when the run goes
        on. So it records its results when all of them are there.
        """

    def state_dict(self) -> Dict[str, Any]:
        """The state that a resumed run needs from this callback, as plain data; each process has its own."""
        return {}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict()`; empty if the checkpoint has no state of this callback."""

    def on_rewind(self, trainer: "Trainer") -> None:
        """Called after the run went back to an earlier step, whose state is in place."""

    def on_train_end(self, trainer: "Trainer") -> None:
        """Called once after the last step; not when the run is interrupted or fails."""
