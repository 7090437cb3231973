"""A copy of a network that follows it by an exponential moving average and never learns by itself."""

import copy

import paddle
from paddle import nn

from plsc.nn.utils import freeze


def make_teacher(student: nn.Layer) -> nn.Layer:
    """A copy of `student` with the same values and no gradients."""
    teacher = copy.deepcopy(student)
    freeze(teacher)
    return teacher


@paddle.no_grad()
def update_teacher(teacher: nn.Layer, student: nn.Layer, momentum: float) -> None:
    """Moves every parameter of the teacher: t = momentum t + (1 - momentum) s. With momentum 0 it copies exactly."""
    for old, new in zip(teacher.parameters(), student.parameters()):
        if momentum == 0.0:
            old.copy_(new.detach(), False)
        else:
            old.scale_(momentum)
            old.add_(new.detach() * (1.0 - momentum))
