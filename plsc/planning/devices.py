"""Devices with the figures of their data sheets; dense arithmetic, without sparsity."""

from dataclasses import dataclass
from typing import Dict

from plsc.config.suggest import nearest

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """A device and its link to the others of its machine.

    Attributes:
        memory: GiB.
        single: TFLOP/s of float32 matmuls; in TF32 on devices that have it, as by default in Paddle.
        half: TFLOP/s of 16-bit matmuls; 0 where plsc has no mixed precision.
        bandwidth: Memory bandwidth, GB/s.
        link: GB/s to a neighbor in the machine, NVLink or PCIe, in one direction.
        flash: True if attention runs as one kernel in 16 bits.
    """

    memory: float
    single: float
    half: float
    bandwidth: float
    link: float
    flash: bool = True


# NVIDIA data sheets of each product; in practice, PCIe 3.0 x16 sends 12 GB/s and 4.0 x16 24 GB/s.
DEVICES: Dict[str, Device] = {
    "v100-16g": Device(16, 15.7, 125, 900, 150, flash=False),
    "v100-32g": Device(32, 15.7, 125, 900, 150, flash=False),
    "a100-40g": Device(40, 156, 312, 1555, 300),
    "a100-80g": Device(80, 156, 312, 2039, 300),
    "h100-80g": Device(80, 495, 989, 3350, 450),
    "rtx3090": Device(24, 35.6, 71, 936, 24),
    "rtx4090": Device(24, 82.6, 165, 1008, 24),
    "t4": Device(16, 8.1, 65, 320, 12, flash=False),
    "l4": Device(24, 60, 121, 300, 24),
    "cpu": Device(16, 0.2, 0, 20, 5, flash=False),  # two cores of a server; `--measured` is more exact
}


def find(name: str) -> Device:
    """Find a device by its name.

    Raises:
        ValueError: If the name is unknown; with the nearest name and the list.
    """
    if name not in DEVICES:
        near = nearest(name, DEVICES)
        hint = f"did you mean {near}? " if near else ""
        raise ValueError(f"--gpu: no device is called {name!r}; {hint}known devices: {', '.join(DEVICES)}")
    return DEVICES[name]
