"""LARS: every matrix learns at a rate in proportion to its norm (You et al., arXiv 1708.03888)."""

from typing import Any, Dict, List

import paddle


class LarsOptimizer(paddle.optimizer.Optimizer):
    """SGD with momentum whose update of a matrix is scaled by trust_coefficient * |w| / |update|.

    As in MAE's and CAE's linear probes: vectors and biases are neither scaled nor decayed.

    Args:
        parameter_groups: `{"params", "weight_decay", "learning_rate"}` each; `learning_rate` is a factor.
        momentum: Of the running update.
        trust_coefficient: Scale of a matrix's update.
    """

    def __init__(self, parameter_groups: List[Dict[str, Any]], momentum: float, trust_coefficient: float) -> None:
        super().__init__(learning_rate=0.0, parameters=[p for group in parameter_groups for p in group["params"]])
        self.groups = parameter_groups
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient
        self.velocities: Dict[str, paddle.Tensor] = {}

    @paddle.no_grad()
    def step(self) -> None:
        """Updates every parameter that has a gradient."""
        for group in self.groups:
            rate = self.get_lr() * group["learning_rate"]
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, rate, group["weight_decay"])

    def _update(self, parameter: paddle.Tensor, rate: float, weight_decay: float) -> None:
        update = parameter.grad.astype(parameter.dtype)
        if parameter.ndim > 1:
            update = update + weight_decay * parameter
            weight_norm, update_norm = parameter.norm(), update.norm()
            ratio = self.trust_coefficient * weight_norm / update_norm
            usable = paddle.logical_and(weight_norm > 0, update_norm > 0)
            update = update * paddle.where(usable, ratio, paddle.ones_like(ratio))
        velocity = self.velocities.get(parameter.name)
        velocity = update if velocity is None else self.momentum * velocity + update
        self.velocities[parameter.name] = velocity
        parameter.subtract_(rate * velocity)

    def state_dict(self) -> Dict[str, paddle.Tensor]:
        """The running updates by tensor name, named as Paddle names accumulators."""
        return {f"{name}_velocity_0": value for name, value in self.velocities.items()}

    def set_state_dict(self, state: Dict[str, paddle.Tensor]) -> None:
        """Restores `state_dict()`."""
        suffix = "_velocity_0"
        self.velocities = {name[: -len(suffix)]: value for name, value in state.items() if name.endswith(suffix)}
