"""AdamW that updates many parameters by one call."""

from typing import Any, Dict, Hashable, List, Optional, Sequence, Tuple

import paddle
from paddle import _C_ops
from paddle.base.layer_helper import LayerHelper

_CHUNK = 65536  # numbers that one block of a GPU treats
_HAS_AMSGRAD = hasattr(paddle.optimizer.AdamW, "_moment2_acc_max_str")  # Paddle 3: one state and one switch more
_KINDS = ("_moment1_acc_str", "_moment2_acc_str", "_beta1_pow_acc_str", "_beta2_pow_acc_str")

Pair = Tuple[paddle.Tensor, Optional[paddle.Tensor]]


class MultiTensorAdamW(paddle.optimizer.AdamW):
    """Paddle's AdamW by its kernel `fused_adam`: a call for all parameters that are treated alike, not for each.

    Paddle's own `use_multi_tensor` is for Adam only and has one learning rate for all parameters. Here those with the
    same factor of the learning rate, decay, type and number of updates go together, which is all of a network in two
    calls, or two for each depth with layer decay. On a CPU the numbers are those of Paddle's AdamW, bit for bit.

    Args:
        **arguments: As Paddle's; `parameters` is a list, not groups. No `grad_clip`, `lr_ratio` or `amsgrad`.
    """

    helper: Any  # of Paddle's Optimizer

    def __init__(self, **arguments: Any) -> None:
        assert not arguments.keys() & {"grad_clip", "lr_ratio", "amsgrad"}
        super().__init__(**arguments)
        self._updates: Dict[str, Tuple[float, int]] = {}  # power of beta1 when it was read, and updates since

    def forget_updates(self) -> None:
        """Called when the state was changed from outside: the powers of the betas are read again."""
        self._updates.clear()

    def _apply_optimize(
        self, loss: Any, startup_program: Any, params_grads: Sequence[Pair], param_group_idx: int = 0
    ) -> None:
        """Updates the parameters that have a gradient; called by Paddle's `step` and by fleet's sharding."""
        pairs = [(parameter, gradient) for parameter, gradient in params_grads if gradient is not None]
        if self.helper is None:  # Paddle 2 wants one
            self.helper = LayerHelper(type(self).__name__)
        self._create_global_learning_rate()
        self._create_accumulators(
            paddle.static.default_main_program().global_block(), [parameter for parameter, _ in pairs]
        )
        alike: Dict[Hashable, List[Pair]] = {}
        for pair in pairs:
            alike.setdefault(self._treatment(pair[0]), []).append(pair)
        for group in alike.values():
            self._update(group)

    def _treatment(self, parameter: paddle.Tensor) -> Hashable:
        """What must be equal for parameters of one call; the kernel reads the powers of the first only."""
        if parameter.name not in self._updates:
            power = self._get_accumulator_master(self._beta1_pow_acc_str, parameter)
            self._updates[parameter.name] = (float(power.item()), 0)
        start, updates = self._updates[parameter.name]
        factor = parameter.optimize_attr["learning_rate"]
        return factor, self._apply_decay_param_fun(parameter.name), parameter.dtype, start, updates

    def _update(self, group: Sequence[Pair]) -> None:
        parameters = [parameter for parameter, _ in group]
        for parameter in parameters:
            start, updates = self._updates[parameter.name]
            self._updates[parameter.name] = (start, updates + 1)
        first = parameters[0]
        has_master = self._multi_precision and first.dtype in (paddle.float16, paddle.bfloat16)
        moment1, moment2, power1, power2 = (
            [self._get_accumulator_master(getattr(self, kind), parameter) for parameter in parameters]
            for kind in _KINDS
        )
        _C_ops.fused_adam_(
            parameters,
            [gradient for _, gradient in group],
            self._create_param_lr(group[0]),
            moment1,
            moment2,
            *([None] if _HAS_AMSGRAD else []),
            power1,
            power2,
            [self._master_weights[parameter.name] for parameter in parameters] if has_master else None,
            None,
            self._beta1,
            self._beta2,
            self._epsilon,
            _CHUNK,
            self._weight_decay,
            self._apply_decay_param_fun(first.name),
            has_master,
            False,
            *([False] if _HAS_AMSGRAD else []),
        )
