"""Metrics of the last step, shared by the callbacks of a run."""

from typing import Any, Dict, List, Mapping, Optional, Sequence

import paddle


class MetricStore:
    """Metrics of the last step; the only place through which callbacks read and write them.

    Attributes:
        scalars: The task's scalars and `grad_norm` (before clipping), averaged over the micro-batches; on the device.
        skipped: True if the step left the weights unchanged because its gradients were not finite.
        results: Values that callbacks measured after this step, by name; None if nothing was measured.
        due: Callbacks that have not finished for this step, in their order.
    """

    def __init__(self) -> None:
        self.scalars: Dict[str, paddle.Tensor] = {}
        self.skipped = False
        self.results: Optional[Dict[str, float]] = None
        self.due: List[Any] = []

    def begin(self, scalars: Dict[str, paddle.Tensor], skipped: bool, callbacks: Sequence[Any]) -> None:
        """Replace everything by the scalars of a new step, for which all `callbacks` are due."""
        self.scalars, self.skipped, self.results, self.due = scalars, skipped, None, list(callbacks)

    def record(self, results: Mapping[str, float]) -> None:
        """Add values measured after this step, such as those of an evaluation; `Global.monitor` may name them."""
        self.results = {**(self.results or {}), **results}

    def take_results(self) -> Optional[Dict[str, float]]:
        """Return the values measured after this step and forget them; None if nothing was measured."""
        results, self.results = self.results, None
        return results

    def finish(self, callback: Any) -> None:
        """Remove a callback from those that are due: checkpoints written from now on do not call it on resume."""
        if callback in self.due:
            self.due.remove(callback)
