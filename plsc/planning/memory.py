"""Memory of a device in bytes, from the demands of a run."""

from dataclasses import dataclass
from typing import Dict, Sequence

from plsc.costs.memory import Saved
from plsc.planning.devices import GIB, Device
from plsc.planning.work import Work

CONTEXT = 0.7 * GIB  # kernels, libraries and their workspaces, before anything is stored: an assumption
USABLE = 0.95  # of a device's memory; the rest goes to fragmentation: an assumption


@dataclass(frozen=True)
class Variant:
    """A way to run the same work.

    Attributes:
        level: AMP level, `O0` (float32), `O1` or `O2`.
        recomputed: Names of the layers that are recomputed in the backward pass.
        sharding: Number of processes that the optimizer's state is divided among.
        flash: True if attention keeps no weights; in 16 bits only.
    """

    level: str
    recomputed: Sequence[str]
    sharding: int
    flash: bool

    @property
    def name(self) -> str:
        """Title of a column: `O1+recompute`."""
        return ("float32" if self.level == "O0" else self.level) + ("+recompute" if self.recomputed else "")


def width_of(saved: Saved, variant: Variant) -> int:
    """Bytes of kept values."""
    half = 4 if variant.level == "O0" else 2
    weights = 0 if variant.flash and half == 2 else 4 if half == 4 else 6  # float32 softmax, 16-bit copy of it
    scales = 2 if variant.level == "O2" else 4
    return half * saved.products + scales * saved.scales + 4 * saved.norms + weights * saved.weights


def activation_bytes(work: Work, variant: Variant) -> int:
    """Bytes that a forward pass over one image keeps."""
    return sum(
        width_of(kept.inputs if name in variant.recomputed else kept.saved, variant)
        for name, kept in work.activations.items()
    )


def working_bytes(work: Work, variant: Variant) -> int:
    """Temporary memory of a step in bytes, for one image.

    The largest of: in the backward pass, gradients of the layer that keeps most, and that layer itself if it is
    recomputed; the values of a layer without gradient; before the forward pass, those of the tokenizer.
    """
    layers = work.activations.items()
    widest = max(width_of(kept.saved, variant) for _, kept in layers)
    again = max((width_of(kept.saved, variant) for name, kept in layers if name in variant.recomputed), default=0)
    passing = max(width_of(kept.passing, variant) for _, kept in layers)
    return max(widest + again, passing, 4 * work.target_numbers - activation_bytes(work, variant))


def overlaps(work: Work, variant: Variant) -> bool:
    """Return True if gradients are sent during the backward pass, by Paddle's reducer."""
    return work.overlap and not variant.recomputed


def memory(work: Work, variant: Variant, batch: int, processes: int) -> Dict[str, int]:
    """Bytes on each device by purpose; `total` last.

    Args:
        work: Demands of the run.
        variant: Precision, recomputation and sharding.
        batch: Images of a micro-batch.
        processes: Devices of the whole job.
    """
    two = variant.level == "O2"
    masters = 4 * work.trained if two else 0
    gradients = (2 if two else 4) * work.trained
    message = min(work.bucket, gradients) if overlaps(work, variant) else 0  # the old one is freed later
    rows = {
        "parameters": (2 if two else 4) * work.trained,
        "gradients": gradients,
        "optimizer": (4 * work.optimizer + masters) // variant.sharding,
        "teacher, buffers, average": 4 * (work.frozen + work.averaged),
        "tokenizer": 4 * work.tokenizer,
        "batch": batch * work.inputs * 5,  # bytes as loaded, and normalised
        "activations": batch * activation_bytes(work, variant),
        "working memory": batch * working_bytes(work, variant),
        "all-reduce": 0 if processes == 1 else gradients + message,  # Paddle copies all of them into messages
        "context": int(CONTEXT),
    }
    return {**rows, "total": sum(rows.values())}


def largest_batch(work: Work, variant: Variant, device: Device, processes: int) -> int:
    """Images of the largest micro-batch that fits; 0 if not even one image fits."""
    fixed = memory(work, variant, 0, processes)["total"]
    each = memory(work, variant, 1, processes)["total"] - fixed
    return max(0, int((USABLE * device.memory * GIB - fixed) // each))
