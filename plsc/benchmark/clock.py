"""Where time goes: every moment belongs to exactly one stage, so the stages add up to the whole."""

import contextlib
import time
from typing import Any, Callable, Dict, Iterator, List

import paddle

REST = "other"


def synchronize() -> None:
    """Waits for the device; a CPU is never behind."""
    if paddle.device.get_device().startswith("gpu"):
        paddle.device.synchronize()


class StageClock:
    """Counts seconds by stage. A stage inside another one stops the outer one's time."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}
        self._stack: List[str] = []
        self._since = 0.0

    def enter(self, stage: str) -> None:
        """Begins a stage."""
        self._book()
        self._stack.append(stage)

    def leave(self) -> None:
        """Ends the stage entered last; time goes to the one around it again."""
        self._book()
        self._stack.pop()

    @property
    def stage(self) -> str:
        """The current stage; empty between measurements."""
        return self._stack[-1] if self._stack else ""

    @contextlib.contextmanager
    def measuring(self, stage: str) -> Iterator[None]:
        """A `with` block as a stage."""
        self.enter(stage)
        try:
            yield
        finally:
            self.leave()

    def wrap(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """`function`, as a stage."""

        def timed(*arguments: Any, **named: Any) -> Any:
            with self.measuring(stage):
                return function(*arguments, **named)

        return timed

    def _book(self) -> None:
        synchronize()
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] = self.seconds.get(self._stack[-1], 0.0) + now - self._since
        self._since = now


def shares(seconds: Dict[str, float]) -> Dict[str, float]:
    """Parts of a whole, in [0, 1], in the same order."""
    total = sum(seconds.values())
    return {name: value / total for name, value in seconds.items()} if total else dict.fromkeys(seconds, 0.0)
