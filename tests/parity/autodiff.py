"""Reverse-mode differentiation of NumPy arrays in float64, for the oracle of the golden sets."""

import numpy as np
from scipy.special import erf as _erf


class Var:
    """Array with the backward functions of its parents.

    Args:
        value: Array, kept as float64.
        parents: Pairs (Var, function from the gradient of this array to that of the parent).
    """

    __array_priority__ = 1000

    def __init__(self, value, parents=()):
        self.value = np.asarray(value, np.float64)
        self.parents = parents
        self.grad = None

    @property
    def shape(self):
        return self.value.shape

    def __add__(self, other):
        other = as_var(other)
        return Var(self.value + other.value, ((self, _fit(self)), (other, _fit(other))))

    __radd__ = __add__

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + (-as_var(other))

    def __mul__(self, other):
        other = as_var(other)
        mine, others = _fit(self), _fit(other)
        return Var(
            self.value * other.value,
            ((self, lambda g: mine(g * other.value)), (other, lambda g: others(g * self.value))),
        )

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self * as_var(other) ** -1.0

    def __pow__(self, power):
        return Var(self.value**power, ((self, lambda g: g * power * self.value ** (power - 1)),))

    def __matmul__(self, other):
        other = as_var(other)
        mine, others = _fit(self), _fit(other)
        return Var(
            self.value @ other.value,
            (
                (self, lambda g: mine(g @ np.swapaxes(other.value, -1, -2))),
                (other, lambda g: others(np.swapaxes(self.value, -1, -2) @ g)),
            ),
        )

    def __getitem__(self, index):
        def scatter(g):
            whole = np.zeros(self.shape)
            np.add.at(whole, index, g)
            return whole

        return Var(self.value[index], ((self, scatter),))

    def reshape(self, *shape):
        return Var(self.value.reshape(shape), ((self, lambda g: g.reshape(self.shape)),))

    def transpose(self, *axes):
        return Var(self.value.transpose(axes), ((self, lambda g: g.transpose(np.argsort(axes))),))

    def sum(self, axis=None, keepdims=False):
        def spread(g):
            g = g if keepdims or axis is None else np.expand_dims(g, axis)
            return np.broadcast_to(g, self.shape)

        return Var(self.value.sum(axis, keepdims=keepdims), ((self, spread),))

    def mean(self, axis=None, keepdims=False):
        total = self.sum(axis, keepdims)
        return total * (total.value.size / self.value.size)

    def backward(self):
        """Set `grad` of all arrays that this scalar depends on."""
        order, seen = [], set()

        def visit(node):
            stack = [(node, False)]
            while stack:
                current, done = stack.pop()
                if done:
                    order.append(current)
                elif id(current) not in seen:
                    seen.add(id(current))
                    stack.append((current, True))
                    stack.extend((parent, False) for parent, _ in current.parents)

        visit(self)
        self.grad = np.ones(self.shape)
        for node in reversed(order):
            for parent, function in node.parents:
                gradient = function(node.grad)
                parent.grad = gradient if parent.grad is None else parent.grad + gradient


def as_var(value):
    return value if isinstance(value, Var) else Var(value)


def _fit(var):
    """Return a function that sums a gradient over the axes along which `var` was broadcast."""

    def fit(g):
        g = g.sum(axis=tuple(range(g.ndim - var.value.ndim)))
        axes = tuple(i for i, length in enumerate(var.shape) if length == 1 and g.shape[i] != 1)
        return g.sum(axis=axes, keepdims=True)

    return fit


def concat(parts, axis):
    parts = [as_var(part) for part in parts]
    ends = np.cumsum([part.shape[axis] for part in parts])
    slices = [slice(end - part.shape[axis], end) for part, end in zip(parts, ends)]

    def cut(where):
        return lambda g: np.take(g, np.arange(where.start, where.stop), axis)

    return Var(np.concatenate([part.value for part in parts], axis), tuple(zip(parts, map(cut, slices))))


def exp(x):
    value = np.exp(x.value)
    return Var(value, ((x, lambda g: g * value),))


def log(x):
    return Var(np.log(x.value), ((x, lambda g: g / x.value),))


def erf(x):
    return Var(_erf(x.value), ((x, lambda g: g * 2 / np.sqrt(np.pi) * np.exp(-(x.value**2))),))


def detach(x):
    return Var(x.value)
