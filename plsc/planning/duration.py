"""Duration of a step and of a run."""

from dataclasses import dataclass
from typing import Any, Mapping, Optional

from plsc.planning.devices import Device
from plsc.planning.memory import Variant, overlaps
from plsc.planning.work import Work

BETWEEN_NODES = 12.5  # GB/s: a network of 100 Gbit/s
EFFICIENCY = 0.4  # of the peak in matmuls: usual for a vision transformer in 16 bits
UPDATE_BYTES = 32  # read and written by AdamW per parameter: itself, gradient, moments, norm of the gradient
TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Cluster:
    """Devices of a run.

    Attributes:
        device: Kind of all devices.
        devices: Number on each node.
        nodes: Number of machines.
        bandwidth: GB/s between neighbours of the ring; None: the device's link, or 12.5 between nodes.
        efficiency: Fraction of the peak that matmuls reach.
    """

    device: Device
    devices: int = 1
    nodes: int = 1
    bandwidth: Optional[float] = None
    efficiency: float = EFFICIENCY

    @property
    def processes(self) -> int:
        """Number of devices of the whole job."""
        return self.devices * self.nodes

    @property
    def slowest_link(self) -> float:
        """Bandwidth of the slowest link, GB/s."""
        if self.bandwidth is not None:
            return self.bandwidth
        return self.device.link if self.nodes == 1 else min(self.device.link, BETWEEN_NODES)


@dataclass(frozen=True)
class Step:
    """Seconds of an optimizer step by purpose."""

    operations: float
    bytes_sent: float
    targets: float
    compute: float
    update: float
    reduce: float
    hidden: float

    @property
    def total(self) -> float:
        """Seconds in total; only the hidden part of the all-reduce overlaps with other work."""
        return self.targets + self.compute + self.update + self.reduce - self.hidden


def all_reduce_bytes(gradient_bytes: int, processes: int) -> float:
    """Bytes that a process sends, and receives, in a ring all-reduce."""
    return 2 * (processes - 1) / processes * gradient_bytes


def step(work: Work, variant: Variant, cluster: Cluster, measured: Optional[Mapping[str, Any]] = None) -> Step:
    """Estimate the duration of an optimizer step; the global batch is divided among the devices.

    Args:
        work: Demands of the run.
        variant: Precision, recomputation and sharding.
        cluster: Devices.
        measured: The `cost_model` of a scaling benchmark of such a device, instead of peak and efficiency: seconds =
            a + b operations + c bytes of activations. It was fitted to float32 steps.
    """
    images = work.plan.global_batch_size / cluster.processes  # of a device
    again = sum(work.forward.get(part, 0) for part in {name.split(".")[0] for name in variant.recomputed})
    each = work.training + again
    speed = TERA * cluster.efficiency
    single, fast = cluster.device.single * speed, cluster.device.half * speed
    gradients = (2 if variant.level == "O2" else 4) * work.trained
    sent = all_reduce_bytes(gradients, cluster.processes)
    reduce = sent / (cluster.slowest_link * GIGA)
    if measured:
        kept = 4 * sum(a.saved.count for a in work.activations.values())
        cost = each * measured.get("seconds_per_flops", 0) + kept * measured.get("seconds_per_activation_bytes", 0)
        compute, targets = measured["seconds"] * work.plan.accumulate + images * cost, 0.0
        targets = images * work.targets * measured.get("seconds_per_flops", 0)
    else:
        compute = images * each / (single if variant.level == "O0" else fast)
        targets = images * work.targets / single
    return Step(
        operations=work.plan.global_batch_size * (each + work.targets),
        bytes_sent=sent,
        targets=targets,
        compute=compute,
        update=0.0 if measured else UPDATE_BYTES * work.trained / variant.sharding / (cluster.device.bandwidth * GIGA),
        reduce=reduce,
        hidden=hideable(work, reduce, compute, gradients) if overlaps(work, variant) and cluster.device.half else 0.0,
    )


def hideable(work: Work, reduce: float, compute: float, gradients: int) -> float:
    """Seconds of an all-reduce, without its last whole message, that fit behind the last micro-batch's backward pass.

    Args:
        work: Demands of the run.
        reduce: Seconds of the all-reduce.
        compute: Seconds of forward and backward passes, without recomputation.
        gradients: Bytes of the gradients.
    """
    backward = (work.training - sum(work.forward.values())) / work.training
    last = min(1.0, work.bucket / gradients)
    return min((1 - last) * reduce, backward * compute / work.plan.accumulate)
