"""Many processes, one run: set-up, ranks, broadcast, gradient sync. The only file that imports paddle.distributed.

Processes are started by `python -m paddle.distributed.launch`; everything below is fleet's. With a single process
every function is a cheap no-op, so callers never ask whether the run is distributed.
"""

import os
from typing import Iterable, List

import numpy as np
import paddle

_ready = False


def setup() -> None:
    """Joins the job that `paddle.distributed.launch` started; does nothing for a single process."""
    global _ready
    if _ready or int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) == 1:
        return
    from paddle.distributed import fleet

    strategy = fleet.DistributedStrategy()
    strategy.hybrid_configs = {"dp_degree": int(os.environ["PADDLE_TRAINERS_NUM"]), "mp_degree": 1, "pp_degree": 1}
    fleet.init(is_collective=True, strategy=strategy)
    _ready = True


def rank() -> int:
    """This process's number among all, from 0."""
    return paddle.distributed.get_rank() if _ready else 0


def world_size() -> int:
    """How many processes train together."""
    return paddle.distributed.get_world_size() if _ready else 1


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return rank() == 0


def barrier() -> None:
    """Waits until every process is here."""
    if _ready:
        paddle.distributed.barrier()


def broadcast_parameters(layer: paddle.nn.Layer) -> None:
    """Gives every process the parameters and buffers of the first."""
    if not _ready:
        return
    with paddle.no_grad():
        for tensor in layer.state_dict().values():
            paddle.distributed.broadcast(tensor, src=0)


def sync_gradients(parameters: Iterable[paddle.Tensor]) -> None:
    """Replaces each gradient by its mean over the processes, many gradients per message."""
    if not _ready:
        return
    from paddle.distributed import fleet
    from paddle.distributed.fleet.utils.hybrid_parallel_util import fused_allreduce_gradients

    fused_allreduce_gradients(list(parameters), fleet.get_hybrid_communicate_group())


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """The element-wise sum of float64 arrays of one shape, one from each process."""
    if not _ready:
        return values
    tensor = paddle.to_tensor(np.asarray(values, dtype="float64"))
    paddle.distributed.all_reduce(tensor)
    return tensor.numpy()


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in at least one process; every process must ask."""
    return bool(sum_over_processes(np.array([float(flag)]))[0] > 0)


def gather_objects(item: object) -> List[object]:
    """`item` of every process, in the order of ranks; plain data only."""
    if not _ready:
        return [item]
    items: List[object] = []
    paddle.distributed.all_gather_object(items, item)
    return items
