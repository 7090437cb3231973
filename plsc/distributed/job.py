"""Process set-up, ranks, sums and broadcasts of a job of several processes.

`python -m paddle.distributed.launch` starts the processes, and fleet does the work. With a single process every
function is a cheap no-op, so callers do not check whether the run is distributed.

Before a collective, every process waits at a barrier of `plsc.distributed.process_barrier`, so a process may be late
without a timeout in the collective.
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
    """Return the number of processes that the launcher has set; 1 without a launcher."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


def setup(strategy: DistributedStrategy) -> None:
    """Join the job that `paddle.distributed.launch` started; do nothing for a single process.

    If the processes do not connect within `strategy.timeout` seconds, the job ends with a message.

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
        warnings.simplefilter("ignore")  # "Current global rank 1 is not in group", for groups without this process
        if _on_gpu():
            fleet.init(is_collective=True, strategy=plan)
        else:
            # fleet.init creates seven groups at once; with more than two processes, gloo often confuses them and fails
            paddle.distributed.init_parallel_env()
            fleet.fleet._user_defined_strategy = plan  # fleet's optimizers read it from here
        _ready, _strategy = True, strategy
        host = os.environ["PADDLE_CURRENT_ENDPOINT"].rsplit(":", 1)[0]
        _barrier = process_barrier.connect(
            rank(), world_size(), host, gather_objects, float(strategy.collective_timeout)
        )


def _nobody_there(seconds: float) -> str:
    master = os.environ.get("PADDLE_MASTER") or os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")[0]
    return (
        f"error: process {os.environ.get('PADDLE_TRAINER_ID')} of {launched_processes()} did not find the others "
        f"within {seconds:g} seconds. Master: {master}. Check that all nodes use this master and the same --nnodes, "
        "that its port is open, and that no other process ended early (see the workerlog files). For a slow cluster, "
        "raise DistributedStrategy.timeout"
    )


def check_strategy(strategy: DistributedStrategy, processes: int) -> None:
    """Raise ValueError if `strategy` is not possible with this number of processes."""
    degree = strategy.sharding_degree
    if processes == 1:
        return  # a single process can run the config of a cluster
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
    """Raise ValueError if `strategy` combines `overlap` with a setting that does not allow it."""
    if strategy.overlap and strategy.recompute:
        raise ValueError(
            "DistributedStrategy.overlap: true does not work with recompute: Paddle's reducer averages the gradients "
            "of recomputed layers wrongly or not at all; set overlap to false, or recompute to []"
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
    """Return the number of this process, from 0."""
    return paddle.distributed.get_rank() if _ready else 0


def world_size() -> int:
    """Return the number of processes of the job."""
    return paddle.distributed.get_world_size() if _ready else 1


def is_main() -> bool:
    """Return True in the process that writes files and logs."""
    return rank() == 0


def barrier(place: str) -> None:
    """Wait until every process has called this function; return at once if there are no other processes.

    Args:
        place: Name of this point of the program, for messages.

    Raises:
        JobError: In every process, with the reason, if one has ended or failed, is at another place, or is too late.
    """
    if _barrier is not None:
        _barrier.wait(place)


def report_failure(error: Exception) -> None:
    """Send the reason of a failure of this process to the others; they raise it at the next barrier."""
    if _barrier is not None:
        _barrier.fail(str(error) or type(error).__name__, isinstance(error, (ValueError, OSError, ImportError)))


def check_agreement(facts: Mapping[str, str], problem: str, advice: str) -> None:
    """Compare facts that must be the same in every process, such as the config.

    Args:
        facts: Values by name.
        problem: First part of the message, such as "the processes of this job do not see the same data".
        advice: Last part of the message, which says what to do.

    Raises:
        ValueError: In every process, with the facts that differ and the processes.
    """
    if not _ready:
        return
    everyone = gather_objects(dict(facts))
    first = everyone[0]
    different = [
        f"  {key}: {first.get(key, 'missing')} in process 0, {other.get(key, 'missing')} in process {number}"
        for number, other in enumerate(everyone)
        for key in dict.fromkeys([*first, *other])  # in the order of the arguments
        if first.get(key) != other.get(key)
    ]
    if different:
        more = f"\n  and {len(different) - 10} more" if len(different) > 10 else ""
        raise ValueError(f"{problem}:\n" + "\n".join(different[:10]) + f"{more}\n{advice}")


def broadcast_parameters(layer: paddle.nn.Layer) -> None:
    """Copy the parameters and buffers of process 0 to every process."""
    if not _ready:
        return
    barrier("the first weights")
    with paddle.no_grad():
        for tensor in layer.state_dict().values():
            paddle.distributed.broadcast(tensor, src=0)


def differing_tensors(tensors: Mapping[str, paddle.Tensor]) -> Dict[str, List[int]]:
    """Return the names of tensors that differ between processes, with the ranks that differ from process 0."""
    if not _ready:
        return {}
    everyone = gather_objects({name: zlib.crc32(tensor.numpy().tobytes()) for name, tensor in tensors.items()})
    different = {
        name: [number for number, other in enumerate(everyone) if other.get(name) != checksum]
        for name, checksum in everyone[0].items()
    }
    return {name: numbers for name, numbers in different.items() if numbers}


class _Sum(paddle.autograd.PyLayer):
    """Differentiable sum over processes; the gradient in each process is the sum of the gradients of all."""

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
    """Return the sum of a tensor over the processes; it is differentiable."""
    return _Sum.apply(value) if _ready else value


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """Return the element-wise sum of float64 arrays of equal shape, one from each process."""
    if not _ready:
        return values
    tensor = paddle.to_tensor(np.asarray(values, dtype="float64"))
    barrier(f"a sum of an array of shape {list(tensor.shape)}")
    paddle.distributed.all_reduce(tensor)
    return tensor.numpy()


def any_process(flag: bool) -> bool:
    """Return True if `flag` is true in at least one process; every process must call."""
    return bool(sum_over_processes(np.array([float(flag)]))[0] > 0)


def gather_objects(item: Any) -> List[Any]:
    """Return `item` of every process, in the order of ranks; plain data only."""
    if not _ready:
        return [item]
    barrier("an exchange of objects")
    items: List[Any] = []
    paddle.distributed.all_gather_object(items, item)
    return items


def recompute(forward: Callable[..., Any], *inputs: Any) -> Any:
    """Return `forward(*inputs)` and keep only the inputs; the backward pass computes the activations again."""
    from paddle.distributed.fleet.utils import recompute as recompute_call

    return recompute_call(forward, *inputs)


def agree_on(value: Any) -> Any:
    """Return the `value` of process 0; plain data only."""
    return gather_objects(value)[0]
