import numpy as np
import paddle
import pytest
from paddle import nn

from plsc.nn.teacher import make_teacher, update_teacher


def networks():
    paddle.seed(0)
    student = nn.Linear(3, 4)
    return student, make_teacher(student)


def test_teacher_is_a_frozen_copy_with_its_own_memory():
    student, teacher = networks()
    np.testing.assert_array_equal(teacher.weight.numpy(), student.weight.numpy())
    student.weight.set_value(student.weight + 1)
    assert not np.allclose(teacher.weight.numpy(), student.weight.numpy())
    assert all(p.stop_gradient for p in teacher.parameters())
    assert not any(p.stop_gradient for p in student.parameters())
    assert not {p.name for p in teacher.parameters()} & {p.name for p in student.parameters()}


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_update(momentum):
    student, teacher = networks()
    before = teacher.weight.numpy().copy()
    student.weight.set_value(student.weight + 1)
    update_teacher(teacher, student, momentum)
    expected = momentum * before + (1 - momentum) * student.weight.numpy()
    np.testing.assert_allclose(teacher.weight.numpy(), expected, rtol=1e-6)
    assert teacher.weight.stop_gradient and not student.weight.stop_gradient


def test_momentum_zero_copies_exactly_and_does_not_share_memory():
    student, teacher = networks()
    student.weight.set_value(student.weight * 1.1)
    update_teacher(teacher, student, 0.0)
    np.testing.assert_array_equal(teacher.weight.numpy(), student.weight.numpy())
    student.weight.set_value(student.weight + 1)
    assert not np.allclose(teacher.weight.numpy(), student.weight.numpy())
