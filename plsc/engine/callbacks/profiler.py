"""A trace of some training steps for a chrome-style viewer, as the setting `Global.profile` asks for."""

from pathlib import Path
from typing import Any, Dict, Optional

import paddle
from paddle import profiler

from plsc.engine.callback import Callback
from plsc.engine.trainer import Trainer


class Profile(Callback):
    """Writes what Paddle's profiler saw between two optimizer steps to `profile/` in the output directory.

    Open the file in chrome://tracing or ui.perfetto.dev. Steps are slower while they are recorded.

    Args:
        directory: Where the trace goes.
        start: Optimizer steps taken before the recording begins; a run resumed later than that records nothing.
        stop: Optimizer steps taken when it ends.
    """

    def __init__(self, directory: Path, start: int, stop: int) -> None:
        self.directory = Path(directory)
        self.start = start
        self.stop = stop
        self._profiler: Optional[Any] = None

    def on_train_begin(self, trainer: Trainer) -> None:
        self._begin_or_end(trainer)

    def on_step_end(self, trainer: Trainer, metrics: Dict[str, paddle.Tensor]) -> None:
        if self._profiler is not None:
            self._profiler.step()
        self._begin_or_end(trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        self._write(trainer)

    def _begin_or_end(self, trainer: Trainer) -> None:
        if trainer.step == self.start and not trainer.finished:
            on_gpu = paddle.device.get_device().startswith("gpu")
            targets = [profiler.ProfilerTarget.CPU] + ([profiler.ProfilerTarget.GPU] if on_gpu else [])
            name = f"steps_{self.start}_to_{self.stop}"

            def write(recorded: Any) -> None:
                profiler.export_chrome_tracing(str(trainer.log.located(self.directory)), name)(recorded)

            self._profiler = profiler.Profiler(targets=targets, on_trace_ready=write)
            self._profiler.start()
        elif trainer.step >= self.stop:
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None
            trainer.log.say(
                f"the trace of steps {self.start} to {trainer.step} is in {trainer.log.located(self.directory)}"
            )
