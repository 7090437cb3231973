"""Many processes, one run: set-up, ranks, sums, broadcast, sharding. The only file that imports paddle.distributed.

Processes are started by `python -m paddle.distributed.launch`; everything below is fleet's. With a single process
every function is a cheap no-op, so callers never ask whether the run is distributed.

Before a collective, every process waits at a barrier of `plsc.distributed.process_barrier`, so one may be busy for a
long time.
"""

import os
import warnings
import zlib
from typing import Any, Callable, Dict, List, Mapping, Optional

import numpy as np
import paddle

from plsc.config.settings import DistributedStrategy
from plsc.distributed import process_barrier, watchdog
from plsc.distributed.process_barrier import ProcessBarrier

LAUNCH = "python -m paddle.distributed.launch"
_ready = False
_strategy = DistributedStrategy()
_barrier: Optional[ProcessBarrier] = None


def launched_processes() -> int:
    """How many processes the launcher says there are; 1 without a launcher."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


def setup(strategy: DistributedStrategy) -> None:
    """Joins the job that `paddle.distributed.launch` started; does nothing for a single process.

    A job whose processes do not find each other within `strategy.timeout` seconds is ended with a message.

    Raises:
        ValueError: If the strategy does not fit the number of processes or the device.
    """
    global _ready, _strategy, _barrier
    processes = launched_processes()
    if _ready or processes == 1:
        return
    check_strategy(strategy, processes)
    from paddle.distributed import fleet

    os.environ.setdefault("PADDLE_PG_TIMEOUT", str(1000 * strategy.collective_timeout))  # of NCCL, in milliseconds
    plan = fleet.DistributedStrategy()
    degree = strategy.sharding_degree
    plan.hybrid_configs = {
        "dp_degree": processes // degree, "mp_degree": 1, "pp_degree": 1, "sharding_degree": degree,
    }  # fmt: skip
    with watchdog.deadline(strategy.timeout, _nobody_there(strategy.timeout)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Current global rank 1 is not in group", of groups that are not its own
        if _on_gpu():
            fleet.init(is_collective=True, strategy=plan)
        else:
            # fleet.init forms seven groups at once; with more than two processes, gloo often mixes them up and fails
            paddle.distributed.init_parallel_env()
            fleet.fleet._user_defined_strategy = plan  # where fleet's optimizers look it up
        _ready, _strategy = True, strategy
        host = os.environ["PADDLE_CURRENT_ENDPOINT"].rsplit(":", 1)[0]
        _barrier = process_barrier.connect(
            rank(), world_size(), host, gather_objects, float(strategy.collective_timeout)
        )


def _nobody_there(seconds: float) -> str:
    master = os.environ.get("PADDLE_MASTER") or os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")[0]
    return (
        f"error: process {os.environ.get('PADDLE_TRAINER_ID')} of {launched_processes()} did not find the others "
        f"within {seconds:g} seconds. Master: {master}. Do all nodes name this master and the same --nnodes, is its "
        "port open, and did another process end early (see the workerlog files)? DistributedStrategy.timeout gives "
        "slow clusters more time"
    )


def check_strategy(strategy: DistributedStrategy, processes: int) -> None:
    """Raises ValueError if `processes` cannot divide the work as `strategy` says."""
    degree = strategy.sharding_degree
    if processes == 1:
        return  # a laptop runs the config of a cluster
    if processes % degree:
        raise ValueError(
            f"DistributedStrategy.sharding_degree: {degree} does not divide the {processes} processes of this job"
        )
    check_overlap(strategy)
    if 1 < degree < processes and not _on_gpu():
        raise ValueError(
            f"DistributedStrategy.sharding_degree: {degree} of {processes} processes needs GPUs; on CPUs all "
            f"processes form one group, so it must be 1 or {processes}"
        )
    if not strategy.data_parallel and degree < processes:
        raise ValueError(
            f"DistributedStrategy.data_parallel: false, but {processes} processes with sharding_degree {degree} are "
            f"{processes // degree} copies of the model; set it to true, or sharding_degree to {processes}"
        )


def check_overlap(strategy: DistributedStrategy) -> None:
    """Raises ValueError if gradients cannot be sent during the backward pass."""
    if strategy.overlap and strategy.recompute:
        raise ValueError(
            "DistributedStrategy.overlap: true does not go with recompute, of whose gradients Paddle's reducer makes "
            "wrong averages, or none; set overlap to false, or recompute to []"
        )


def _on_gpu() -> bool:
    return paddle.device.get_device().startswith("gpu")


def joined() -> bool:
    """Return True if this process has joined a job of several processes."""
    return _ready


def current_strategy() -> DistributedStrategy:
    """Return the settings of the job; the defaults before it is joined."""
    return _strategy


def rank() -> int:
    """This process's number among all, from 0."""
    return paddle.distributed.get_rank() if _ready else 0


def world_size() -> int:
    """How many processes train together."""
    return paddle.distributed.get_world_size() if _ready else 1


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return rank() == 0


def barrier(place: str) -> None:
    """Waits until every process is here; without a barrier yet, returns at once.

    Args:
        place: Where the processes are, for messages.

    Raises:
        JobError: In every process, with the reason, if one has ended or failed, is elsewhere or does not arrive.
    """
    if _barrier is not None:
        _barrier.wait(place)


def report_failure(error: Exception) -> None:
    """Tells the other processes, which wait for this one or will, why it fails."""
    if _barrier is not None:
        _barrier.fail(str(error) or type(error).__name__, isinstance(error, (ValueError, OSError, ImportError)))


def check_agreement(facts: Mapping[str, str], problem: str, advice: str) -> None:
    """Compares facts that must be the same in every process, such as the config.

    Args:
        facts: By name.
        problem: Begins the message, such as "the processes of this job do not see the same data".
        advice: Ends the message: what to do.

    Raises:
        ValueError: In every process, with what differs and where.
    """
    if not _ready:
        return
    everyone = gather_objects(dict(facts))
    first = everyone[0]
    different = [
        f"  {key}: {first.get(key, 'missing')} in process 0, {other.get(key, 'missing')} in process {number}"
        for number, other in enumerate(everyone)
        for key in dict.fromkeys([*first, *other])  # in the order in which they were given
        if first.get(key) != other.get(key)
    ]
    if different:
        more = f"\n  and {len(different) - 10} more" if len(different) > 10 else ""
        raise ValueError(f"{problem}:\n" + "\n".join(different[:10]) + f"{more}\n{advice}")


def broadcast_parameters(layer: paddle.nn.Layer) -> None:
    """Gives every process the parameters and buffers of the first."""
    if not _ready:
        return
    barrier("the first weights")
    with paddle.no_grad():
        for tensor in layer.state_dict().values():
            paddle.distributed.broadcast(tensor, src=0)


def differing_tensors(tensors: Mapping[str, paddle.Tensor]) -> Dict[str, List[int]]:
    """Names of tensors whose bytes differ between processes, with the processes that differ from the first."""
    if not _ready:
        return {}
    everyone = gather_objects({name: zlib.crc32(tensor.numpy().tobytes()) for name, tensor in tensors.items()})
    different = {
        name: [number for number, other in enumerate(everyone) if other.get(name) != checksum]
        for name, checksum in everyone[0].items()
    }
    return {name: numbers for name, numbers in different.items() if numbers}


class _Sum(paddle.autograd.PyLayer):
    """A sum over processes that gradients pass through: each gets the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, value: paddle.Tensor) -> paddle.Tensor:
        total = value.clone()
        barrier(f"a sum of a tensor of shape {list(total.shape)}")
        paddle.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> paddle.Tensor:
        total = gradient.clone()
        barrier(f"the gradient of a sum of a tensor of shape {list(total.shape)}")
        paddle.distributed.all_reduce(total)
        return total


def differentiable_sum(value: paddle.Tensor) -> paddle.Tensor:
    """The sum of a tensor over the processes, through which gradients pass."""
    return _Sum.apply(value) if _ready else value


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """The element-wise sum of float64 arrays of one shape, one from each process."""
    if not _ready:
        return values
    tensor = paddle.to_tensor(np.asarray(values, dtype="float64"))
    barrier(f"a sum of an array of shape {list(tensor.shape)}")
    paddle.distributed.all_reduce(tensor)
    return tensor.numpy()


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in at least one process; every process must ask."""
    return bool(sum_over_processes(np.array([float(flag)]))[0] > 0)


def gather_objects(item: Any) -> List[Any]:
    """`item` of every process, in the order of ranks; plain data only."""
    if not _ready:
        return [item]
    barrier("an exchange of objects")
    items: List[Any] = []
    paddle.distributed.all_gather_object(items, item)
    return items


def recompute(forward: Callable[..., Any], *inputs: Any) -> Any:
    """`forward(*inputs)`, of which only the inputs are kept; the rest is computed again in the backward pass."""
    from paddle.distributed.fleet.utils import recompute as recompute_call

    return recompute_call(forward, *inputs)


def agree_on(value: Any) -> Any:
    """The first process's `value`; plain data only."""
    return gather_objects(value)[0]
