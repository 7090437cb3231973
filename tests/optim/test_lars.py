"""LARS against its formula; tests/parity/test_linprobe.py compares its steps with the reference."""

import numpy as np
import pytest
from paddle import nn

from plsc.optim.optimizers import LARS

WEIGHT = np.array([[1.0, -2.0], [0.5, 3.0]])
BIAS = np.array([0.3, -0.7])


def layer(weight=WEIGHT):
    linear = nn.Linear(2, 2)
    linear.weight.set_value(weight.astype("float32"))
    linear.bias.set_value(BIAS.astype("float32"))
    return linear


def steps(linear, count=3, **options):
    """Take steps with gradients that depend on the step only."""
    optimizer = LARS(linear, **options)
    for step in range(count):
        (linear.weight * (step + 1.0)).sum().backward()
        (linear.bias * (step - 5.0)).sum().backward()
        optimizer.set_lr(0.1 * (step + 1))
        optimizer.step()
        optimizer.clear_grad()
    return linear.weight.numpy(), linear.bias.numpy()


def expected(weight, count, weight_decay, momentum=0.9, trust=0.001):
    weight, bias = weight.copy(), BIAS.copy()
    velocities = np.zeros_like(weight), np.zeros_like(bias)
    for step in range(count):
        rate = 0.1 * (step + 1)
        update = np.full_like(weight, step + 1.0) + weight_decay * weight
        weight_norm, update_norm = np.linalg.norm(weight), np.linalg.norm(update)
        if weight_norm > 0 and update_norm > 0:
            update *= trust * weight_norm / update_norm
        velocities = momentum * velocities[0] + update, momentum * velocities[1] + step - 5.0
        weight -= rate * velocities[0]
        bias -= rate * velocities[1]
    return weight, bias


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps(weight_decay):
    actual = steps(layer(), weight_decay=weight_decay)
    for ours, reference in zip(actual, expected(WEIGHT, 3, weight_decay)):
        np.testing.assert_allclose(ours, reference, rtol=1e-6)


def test_a_matrix_of_zeros_is_updated_without_scaling():
    weight, _ = steps(layer(np.zeros((2, 2))), count=1)
    np.testing.assert_allclose(weight, -0.1 * np.ones((2, 2)), rtol=1e-6)


def test_a_pattern_leaves_a_matrix_without_decay_but_scaled():
    weight, _ = steps(layer(), weight_decay=0.1, no_weight_decay=["weight"])
    np.testing.assert_allclose(weight, expected(WEIGHT, 3, 0.0)[0], rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="trust_coefficient must be above 0, got 0"):
        LARS(layer(), trust_coefficient=0)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got 1.0"):
        LARS(layer(), momentum=1.0)
