"""Sharding of the optimizer state among the processes of a job."""

from typing import Any, Callable

import paddle

from plsc.distributed.job import _on_gpu, barrier, current_strategy, joined, rank, world_size


def shards_optimizer() -> bool:
    """Return True if the optimizer state is divided among processes."""
    return joined() and current_strategy().sharding_degree > 1


class _WholeJob:
    """Topology with one sharding group of all processes, with the methods that fleet's sharding calls."""

    def get_sharding_parallel_group(self) -> Any:
        return paddle.distributed.get_group(0)

    def get_sharding_parallel_world_size(self) -> int:
        return world_size()

    def get_sharding_parallel_rank(self) -> int:
        return rank()


def _topology() -> Any:
    from paddle.distributed import fleet

    return fleet.get_hybrid_communicate_group() if _on_gpu() else _WholeJob()


class ShardedOptimizer:
    """Paddle optimizer with its state divided among the processes of a sharding group: ZeRO stage 1 (arXiv 1910.02054).

    Each process updates its part of the parameters and then sends it to the others. `GradientExchange` averages the
    gradients before. Fleet's DygraphShardingOptimizer does the work.

    Args:
        inner: Optimizer over a plain list of parameters, not groups.
    """

    def __init__(self, inner: Any) -> None:
        from paddle.distributed.fleet.meta_optimizers.dygraph_optimizer import DygraphShardingOptimizer

        topology = _topology()
        self._group = topology.get_sharding_parallel_group()
        self._sharding = DygraphShardingOptimizer(inner, topology)

    def step(self) -> None:
        """Update the parameters of this process and exchange the results."""
        barrier("the update of the weights")
        self._sharding.step()

    def is_mine(self, parameter: paddle.Tensor) -> bool:
        """Return True if this process keeps the state of a parameter."""
        return self._owner(parameter) == rank()

    def gather(self, parameter: paddle.Tensor, make: Callable[[], paddle.Tensor]) -> paddle.Tensor:
        """Return a tensor of a parameter's state from the process that keeps it; every process of the group must call.

        Args:
            parameter: The parameter.
            make: Function that returns the tensor in the process that keeps it, and in the others a tensor of its shape
                and dtype to receive it.
        """
        tensor = make()
        barrier("the exchange of the optimizer's state")
        paddle.distributed.broadcast(tensor, src=self._owner(parameter), group=self._group)
        return tensor

    def _owner(self, parameter: paddle.Tensor) -> int:
        return self._group.ranks[self._sharding._param2rank[parameter.name]]
