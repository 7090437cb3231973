"""Time by stage; the stages do not overlap, so their times add up to the total."""

import contextlib
import time
from typing import Any, Callable, Dict, Iterator, List

import paddle

REST = "other"


def synchronize() -> None:
    """Wait for the GPU; on a CPU, do nothing."""
    if paddle.device.get_device().startswith("gpu"):
        paddle.device.synchronize()


class StageClock:
    """Counts seconds by stage; while a stage is inside another one, only the inner one is counted."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}
        self._stack: List[str] = []
        self._since = 0.0

    def enter(self, stage: str) -> None:
        """Start a stage."""
        self._book()
        self._stack.append(stage)

    def leave(self) -> None:
        """End the innermost stage and continue the one around it."""
        self._book()
        self._stack.pop()

    @property
    def stage(self) -> str:
        """The innermost stage; empty outside of all stages."""
        return self._stack[-1] if self._stack else ""

    @contextlib.contextmanager
    def measuring(self, stage: str) -> Iterator[None]:
        """Count a `with` block as a stage."""
        self.enter(stage)
        try:
            yield
        finally:
            self.leave()

    def wrap(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """Return a function that counts the calls of `function` as a stage."""

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
    """Return the fraction of the total by stage, in [0, 1], in the same order."""
    total = sum(seconds.values())
    return {name: value / total for name, value in seconds.items()} if total else dict.fromkeys(seconds, 0.0)
