"""LARS: layer-wise adaptive rate scaling (You et al., arXiv 1708.03888)."""

from typing import Any, Dict, List

import paddle

VELOCITY = "velocity"


class LarsOptimizer(paddle.optimizer.Optimizer):
    """SGD with momentum; the update of each matrix is scaled by trust_coefficient * |w| / |update|.

    As in the linear probes of MAE and CAE (`util/lars.py`), vectors and biases are neither scaled nor decayed.

    Args:
        parameter_groups: Dicts with `params`, `weight_decay` and `learning_rate`, a factor of the learning rate.
        momentum: Momentum of the velocity.
        trust_coefficient: Norm of a matrix's update / norm of the matrix.
    """

    def __init__(self, parameter_groups: List[Dict[str, Any]], momentum: float, trust_coefficient: float) -> None:
        super().__init__(learning_rate=0.0, parameters=[p for group in parameter_groups for p in group["params"]])
        self.groups = parameter_groups
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient

    @paddle.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.groups:
            rate = self.get_lr() * group["learning_rate"]
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, rate, group["weight_decay"])

    def _update(self, parameter: paddle.Tensor, rate: float, weight_decay: float) -> None:
        update = parameter.grad
        if parameter.ndim > 1:
            if weight_decay:
                update = update + weight_decay * parameter
            weight_norm, update_norm = parameter.norm(), update.norm()
            ratio = self.trust_coefficient * weight_norm / update_norm
            usable = paddle.logical_and(weight_norm > 0, update_norm > 0)
            update = update * paddle.where(usable, ratio, paddle.ones_like(ratio))
        self._create_accumulators(None, [parameter])
        velocity = self._accumulators[VELOCITY][parameter.name]
        velocity.scale_(self.momentum).add_(
            update
        )  # a separate tensor, as the gradient's memory is freed after the step
        parameter.subtract_(rate * velocity)

    def _create_accumulators(self, block: Any, parameters: List[paddle.Tensor]) -> None:
        """Create zero velocities for parameters without one; the method name is Paddle's."""
        velocities = self._accumulators[VELOCITY]
        for parameter in parameters:
            if parameter.name not in velocities:
                velocities[parameter.name] = paddle.zeros_like(parameter)
