"""Averaging of gradients over the processes of a job."""

from functools import partial
from typing import Any, Iterable, Optional, Sequence

import paddle

from plsc.distributed.job import barrier, current_strategy, differing_tensors, joined, world_size


def sync_gradients(parameters: Iterable[paddle.Tensor]) -> None:
    """Replace each gradient by its mean over the processes; one message has `DistributedStrategy.bucket_mb` MiB."""
    if not joined():
        return
    barrier("the gradients")
    from paddle.distributed.fleet.utils.hybrid_parallel_util import fused_allreduce_gradients_with_group

    bucket = current_strategy().bucket_mb * 2**20
    fused_allreduce_gradients_with_group(list(parameters), None, bucket_size=bucket, scale=1.0 / world_size())


class GradientExchange:
    """Average of gradients over the processes, computed after the last backward pass of a step or during it.

    With `DistributedStrategy.overlap`, Paddle's reducer sends a message as soon as its gradients are complete, while
    the backward pass of earlier layers is still running. The averages are the same; the reducer keeps a second copy of
    the gradients.

    Args:
        layer: The layer to train.
        parameters: Its trained parameters, in its order. With the reducer, each must receive its gradient exactly once
            in the last backward pass of a step.
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
        """Return `layer(batch)`. With overlap, the next backward pass sends the gradients."""
        if self._reducer is None:
            return self.layer(batch)
        self._arrivals = [0] * len(self.parameters)
        barrier("the last backward pass of a step")
        return self._reducer(batch)

    def finish(self) -> None:
        """Complete the exchange: afterwards, every gradient is the mean over the processes.

        Raises:
            ValueError: If the reducer missed gradients or, in the first call, if gradients differ between processes.
        """
        if self._reducer is None:
            sync_gradients(self.parameters)
            return
        names = [name for name, parameter in self.layer.named_parameters() if not parameter.stop_gradient]
        odd = [name for name, count in zip(names, self._arrivals) if count != 1]
        if odd:
            raise ValueError(
                "DistributedStrategy.overlap: true requires that each backward pass computes the gradient of every "
                f"trained parameter exactly once; this fails for {_some(odd)}; set overlap to false"
            )
        if not self._checked:  # a layer that recomputes by itself makes the reducer finish too early
            self._checked = True
            odd = list(differing_tensors(dict(zip(names, (parameter.grad for parameter in self.parameters)))))
            if odd:
                raise ValueError(
                    "DistributedStrategy.overlap: true does not work with this model, which may recompute activations: "
                    f"gradients differ between processes: {_some(odd)}; set overlap to false"
                )

    def _arrive(self, number: int, *_: Any) -> None:
        self._arrivals[number] += 1


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
