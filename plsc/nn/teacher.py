"""Teacher networks: copies updated by an exponential moving average (EMA), without gradients."""

import copy

import paddle
from paddle import nn

from plsc.nn.utils import freeze


def make_teacher(student: nn.Layer) -> nn.Layer:
    """Copy a network, with the same values and without gradients."""
    teacher = copy.deepcopy(student)
    freeze(teacher)
    return teacher


@paddle.no_grad()
def update_teacher(teacher: nn.Layer, student: nn.Layer, momentum: float) -> None:
    """Update the teacher: t = momentum * t + (1 - momentum) * s; with momentum 0 parameters are copied exactly."""
    for old, new in zip(teacher.parameters(), student.parameters()):
        if momentum == 0.0:
            old.copy_(new.detach(), False)
        else:
            old.scale_(momentum)
            old.add_(new.detach() * (1.0 - momentum))
