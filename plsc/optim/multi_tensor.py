"""AdamW that updates many parameters by one kernel call."""

from typing import Any, Dict, Hashable, List, Optional, Sequence, Tuple

import paddle
from paddle import _C_ops
from paddle.base.layer_helper import LayerHelper

_CHUNK = 65536  # elements per GPU block
_HAS_AMSGRAD = hasattr(paddle.optimizer.AdamW, "_moment2_acc_max_str")  # Paddle 3 has one more state and one more flag
_KINDS = ("_moment1_acc_str", "_moment2_acc_str", "_beta1_pow_acc_str", "_beta2_pow_acc_str")

Pair = Tuple[paddle.Tensor, Optional[paddle.Tensor]]


class MultiTensorAdamW(paddle.optimizer.AdamW):
    """AdamW by Paddle's kernel `fused_adam`: one call per group of parameters instead of one per parameter.

    Paddle's `use_multi_tensor` supports only Adam, with one learning rate for all parameters. Here a group consists of
    the parameters with the same factor of the learning rate, weight decay, dtype and number of updates: two groups per
    network, or two per depth with layer decay. On a CPU the results are bit-equal to Paddle's AdamW.

    Args:
        **arguments: Arguments of `paddle.optimizer.AdamW`; `parameters` is a list of tensors, not groups. `grad_clip`,
            `lr_ratio` and `amsgrad` are not supported.
    """

    helper: Any  # of Paddle's Optimizer

    def __init__(self, **arguments: Any) -> None:
        assert not arguments.keys() & {"grad_clip", "lr_ratio", "amsgrad"}
        super().__init__(**arguments)
        self._updates: Dict[str, Tuple[float, int]] = {}  # name -> (power of beta1 when it was read, updates since)

    def forget_updates(self) -> None:
        """Read the powers of the betas again at the next step; call this after changing the state."""
        self._updates.clear()

    def _apply_optimize(
        self, loss: Any, startup_program: Any, params_grads: Sequence[Pair], param_group_idx: int = 0
    ) -> None:
        """Update the parameters that have a gradient; called by Paddle's `step` and by fleet's sharding."""
        pairs = [(parameter, gradient) for parameter, gradient in params_grads if gradient is not None]
        if self.helper is None:  # required by Paddle 2
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
        """Key of a parameter's group; the kernel reads the powers of the betas of the first parameter only."""
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
