"""Trace of some training steps for chrome://tracing, for the setting `Global.profile`."""

from pathlib import Path
from typing import Any, Optional

import paddle
from paddle import profiler

from plsc.engine.callback import Callback
from plsc.engine.trainer import Trainer


class Profile(Callback):
    """Records Paddle's profiler between two optimizer steps and writes the trace to a directory.

    Open the file in chrome://tracing or ui.perfetto.dev. Recorded steps are slower.

    Args:
        directory: Directory of the trace.
        start: Optimizer steps taken when the recording starts; a run that is resumed after it records nothing.
        stop: Optimizer steps taken when it ends.
    """

    def __init__(self, directory: Path, start: int, stop: int) -> None:
        self.directory = Path(directory)
        self.start = start
        self.stop = stop
        self._profiler: Optional[Any] = None

    def on_train_begin(self, trainer: Trainer) -> None:
        self._begin_or_end(trainer)

    def on_step_end(self, trainer: Trainer) -> None:
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
