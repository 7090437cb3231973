"""Averaging of gradients over the processes of a job."""

from functools import partial
from typing import Any, Iterable, Optional, Sequence

import paddle

from plsc.distributed.job import barrier, current_strategy, differing_tensors, joined, world_size


def sync_gradients(parameters: Iterable[paddle.Tensor]) -> None:
    """Replaces each gradient by its mean over the processes, `DistributedStrategy.bucket_mb` in a message."""
    if not joined():
        return
    barrier("the gradients")
    from paddle.distributed.fleet.utils.hybrid_parallel_util import fused_allreduce_gradients_with_group

    bucket = current_strategy().bucket_mb * 2**20
    fused_allreduce_gradients_with_group(list(parameters), None, bucket_size=bucket, scale=1.0 / world_size())


class GradientExchange:
    """Averages gradients over the processes: after the last backward pass of a step, or during it.

    During it, if `DistributedStrategy.overlap` says so, by Paddle's reducer: a message leaves as soon as the gradients
    in it are complete, while those of earlier layers are still computed. The averages are the same; the reducer keeps
    a second copy of the gradients.

    Args:
        layer: What is trained.
        parameters: Those of its parameters that are, in its order; with the reducer, each must get its gradient in one
            piece of the last backward pass of a step.
    """

    def __init__(self, layer: paddle.nn.Layer, parameters: Sequence[paddle.Tensor]) -> None:
        self.layer = layer
        self.parameters = list(parameters)
        self._reducer: Optional[paddle.DataParallel] = None
        self._checked = False
        if joined() and current_strategy().overlap:
            self._reducer = paddle.DataParallel(layer, comm_buffer_size=current_strategy().bucket_mb)
            self._arrivals = [0] * len(self.parameters)
            for number, parameter in enumerate(self.parameters):
                parameter._register_backward_hook(partial(self._arrive, number))

    def forward(self, batch: Any) -> Any:
        """`layer(batch)`; if gradients are sent during a backward pass at all, it is the one that follows."""
        if self._reducer is None:
            return self.layer(batch)
        self._arrivals = [0] * len(self.parameters)
        barrier("the last backward pass of a step")
        return self._reducer(batch)

    def finish(self) -> None:
        """Returns when every gradient is the mean over the processes.

        Raises:
            ValueError: If the reducer has missed gradients, or, the first time, if they differ between processes.
        """
        if self._reducer is None:
            sync_gradients(self.parameters)
            return
        names = [name for name, parameter in self.layer.named_parameters() if not parameter.stop_gradient]
        odd = [name for name, count in zip(names, self._arrivals) if count != 1]
        if odd:
            raise ValueError(
                "DistributedStrategy.overlap: true needs a gradient of every trained parameter, once in each backward "
                f"pass; not so {_some(odd)}; set overlap to false"
            )
        if not self._checked:  # a layer that recomputes by itself makes the reducer finish too early
            self._checked = True
            odd = list(differing_tensors(dict(zip(names, (parameter.grad for parameter in self.parameters)))))
            if odd:
                raise ValueError(
                    "DistributedStrategy.overlap: true does not go with what this model does, such as recomputing by "
                    f"itself: after the reducer, gradients differ between processes: {_some(odd)}; set overlap to false"
                )

    def _arrive(self, number: int, *_: Any) -> None:
        self._arrivals[number] += 1


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
