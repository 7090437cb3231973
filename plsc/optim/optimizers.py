"""Optimizers over a task's parameters, with parameter groups, gradient clipping and a state for resuming.

Paddle keys an optimizer's state by tensor names such as `linear_0.w_0`, which are numbered in the order of creation;
here it is keyed by structured names, `model.head.weight/moment1`, so that another process can load it.
"""

from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import paddle
from paddle import nn
from paddle._C_ops import squared_l2_norm
from paddle.base.layer_helper import LayerHelper

from plsc import checks, distributed
from plsc.config.registry import OPTIMIZERS
from plsc.optim.lars import LarsOptimizer
from plsc.optim.multi_tensor import MultiTensorAdamW
from plsc.optim.param_groups import ParameterGroup, group_parameters
from plsc.optim.schedules import cosine

_HALF = (paddle.float16, paddle.bfloat16)
_MASTER = "master_weight"  # float32 copies of 16-bit parameters


class Optimizer:
    """Base class of optimizers. Subclasses build `inner`, the Paddle optimizer.

    Args:
        model: Task whose trainable parameters are optimized. With `layer_decay` it must have `layer_index(name)` and
            `num_layers`; it may have `lr_scale(name)`, a factor of the learning rate.
        weight_decay: Weight decay of matrices; biases and vectors are not decayed.
        layer_decay: Factor of the learning rate from one depth to the previous one; None: the same rate everywhere.
        no_weight_decay: Patterns of further parameter names that are not decayed, such as `*.cls_token`.
        clip_norm: Largest global norm of the gradients; None: no clipping.

    Attributes:
        per_number: Elements of the state per trained element.
        per_tensor: Additional elements of the state per trained tensor.
        unmatched: Patterns of `no_weight_decay` that match neither a parameter nor a buffer, trained or not.

    Raises:
        ValueError: If there are no trainable parameters, or an argument is out of range.
    """

    inner: Any
    per_number, per_tensor = 1, 0

    def __init__(
        self,
        model: nn.Layer,
        weight_decay: float = 0.0,
        layer_decay: Optional[float] = None,
        no_weight_decay: Sequence[str] = (),
        clip_norm: Optional[float] = None,
    ) -> None:
        checks.at_least(0, weight_decay=weight_decay)
        if clip_norm is not None:
            checks.above(0, clip_norm=clip_norm)
        self.named = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
        if not self.named:
            raise ValueError("the task has no trainable parameter; check the section Freeze")
        self.parameters: List[paddle.Tensor] = list(self.named.values())
        self.clip_norm = clip_norm
        names = [name for part in (model.named_parameters(), model.named_buffers()) for name, _ in part]
        self.unmatched = [one for one in no_weight_decay if not any(fnmatchcase(name, one) for name in names)]
        self.groups: List[ParameterGroup] = group_parameters(
            [(name, p.shape) for name, p in self.named.items()],
            float(weight_decay),  # Paddle 2.6 does not accept integers
            no_weight_decay,
            layer_decay,
            getattr(model, "layer_index", None),
            getattr(model, "num_layers", None),
            getattr(model, "lr_scale", None),
        )

    def paddle_groups(self) -> List[Dict[str, Any]]:
        """Parameter groups in Paddle's format; `learning_rate` is a factor."""
        return [
            {
                "params": [self.named[name] for name in group.parameters],
                "weight_decay": group.weight_decay,
                "learning_rate": group.lr_scale,
            }
            for group in self.groups
        ]

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next step."""
        self.inner.set_lr(float(lr))

    def set_progress(self, progress: float) -> None:
        """Set the progress of the run before a step, in [0, 1); used by settings that change during the run."""

    def step(self) -> None:
        """Update the parameters."""
        self.inner.step()

    def shard(self) -> None:
        """Divide the optimizer's state among processes, for DistributedStrategy.sharding_degree.

        Raises:
            ValueError: If this optimizer does not support it.
        """
        raise ValueError(
            f"DistributedStrategy.sharding_degree: {type(self).__name__} does not support sharding; use AdamW, or set "
            "sharding_degree to 1"
        )

    def clear_grad(self) -> None:
        """Free the gradients; parameters without a gradient are not updated."""
        for parameter in self.parameters:
            parameter.clear_gradient(False)  # Paddle ignores the keyword set_to_zero and would write zeros

    @paddle.no_grad()
    def clip_gradients(self) -> paddle.Tensor:
        """Scale all gradients in place so that their global norm is at most `clip_norm`.

        As in `torch.nn.utils.clip_grad_norm_`, the factor is min(1, clip_norm / (norm + 1e-6)).

        Returns:
            Norm before clipping, a scalar on the device, float32 or float64.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:
            return paddle.zeros([])
        norm = _global_norm(gradients)
        if self.clip_norm is not None:
            _scale_down(gradients, self.clip_norm / (norm + 1e-6))
        return norm

    def state_numbers(self) -> int:
        """Number of 32-bit elements of the whole state, without sharding; the state does not have to exist yet."""
        return sum(self.per_number * int(np.prod(p.shape)) + self.per_tensor for p in self.parameters)

    def state_dict(self) -> Dict[str, paddle.Tensor]:
        """State tensors of every parameter by structured name and kind, such as `model.head.weight/moment1`."""
        tensors = _state_of(self.inner, self.parameters)
        return {
            f"{name}/{kind}": tensors[kind][p.name]
            for kind in tensors
            for name, p in self.named.items()
            if kind != _MASTER or p.name in tensors[kind]
        }

    def set_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore the state of `state_dict()`, given as tensors or arrays.

        Raises:
            ValueError: If the state belongs to another optimizer or other parameters; the message lists them.
        """
        own = self.state_dict()
        self._check_state(state, own)
        for name, tensor in own.items():
            tensor.set_value(state[name])

    def _check_state(self, state: Dict[str, Any], own: Dict[str, paddle.Tensor]) -> None:
        """Raise ValueError unless `state` has the names and shapes of `own`."""
        unknown, missing = sorted(set(state) - set(own)), sorted(set(own) - set(state))
        reshaped = [name for name in own if name in state and list(own[name].shape) != list(state[name].shape)]
        if unknown or missing or reshaped:
            raise ValueError(
                f"the optimizer state does not fit this run's {type(self).__name__}:\n"
                + _listed("not in this run", unknown)
                + _listed("missing in the state", missing)
                + _listed("of another shape", reshaped)
                + "resume with the config it was saved with"
            )


@OPTIMIZERS.register()
class AdamW(Optimizer):
    """Adam with decoupled weight decay, equal to torch.optim.AdamW.

    Loshchilov and Hutter, arXiv 1711.05101.

    Args:
        beta1: Decay rate of the running mean of the gradients, in [0, 1).
        beta2: Decay rate of the running mean of the squared gradients, in [0, 1).
        epsilon: Added to the square root of the second moment.
        weight_decay_end: Weight decay at the end of the run, reached along half a cosine; None: constant.
    """

    per_number, per_tensor = 2, 2  # moments, powers of the betas

    def __init__(
        self,
        model: nn.Layer,
        weight_decay: float = 0.05,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        layer_decay: Optional[float] = None,
        no_weight_decay: Sequence[str] = (),
        clip_norm: Optional[float] = None,
        weight_decay_end: Optional[float] = None,
    ) -> None:
        super().__init__(model, weight_decay, layer_decay, no_weight_decay, clip_norm)
        checks.share_below_one(beta1=beta1, beta2=beta2)
        checks.above(0, epsilon=epsilon)
        if weight_decay_end is not None:
            checks.at_least(0, weight_decay_end=weight_decay_end)
        self.weight_decay_end = weight_decay_end
        self.weight_decay_start = weight_decay
        self._progress_is_known = False
        decayed = {self.named[name].name for group in self.groups if group.decayed for name in group.parameters}
        for group in self.groups:
            for name in group.parameters:
                self.named[name].optimize_attr["learning_rate"] = group.lr_scale
        self.inner = MultiTensorAdamW(  # one list, as fleet does not shard Paddle's parameter groups
            learning_rate=0.0,
            beta1=float(beta1),
            beta2=float(beta2),
            epsilon=float(epsilon),
            weight_decay=float(weight_decay),
            parameters=self.parameters,
            apply_decay_param_fun=lambda name: name in decayed,
        )
        self._sharded: Optional[distributed.ShardedOptimizer] = None

    def set_progress(self, progress: float) -> None:
        """Set the weight decay of the next step, if it changes during the run."""
        self._progress_is_known = True
        if self.weight_decay_end is None:
            return
        self.inner._weight_decay = value = cosine(progress, self.weight_decay_start, self.weight_decay_end, 1)
        for group in self.groups:
            if group.decayed:
                group.weight_decay = value

    def step(self) -> None:
        assert self._progress_is_known or self.weight_decay_end is None, "weight_decay_end: call set_progress first"
        (self._sharded or self.inner).step()

    def shard(self) -> None:
        self._sharded = distributed.ShardedOptimizer(self.inner)

    def state_dict(self) -> Dict[str, paddle.Tensor]:
        """State tensors by structured name and kind; with sharding a collective call."""
        if self._sharded is None:
            return super().state_dict()
        mine = {name: p for name, p in self.named.items() if self._sharded.is_mine(p)}
        tensors = _state_of(self.inner, list(mine.values()))
        state = {}
        half = {name for name, p in self.named.items() if p.dtype in _HALF}
        masters = half if self.inner._multi_precision else set()
        for kind in sorted({*tensors, *([_MASTER] if masters else [])}):
            for name, parameter in self.named.items():
                if kind == _MASTER and name not in masters:
                    continue
                own = tensors[kind][parameter.name] if name in mine else None
                state[f"{name}/{kind}"] = self._sharded.gather(parameter, partial(_like, own, parameter, kind))
        return state

    def set_state_dict(self, state: Dict[str, Any]) -> None:
        self.inner.forget_updates()
        if self._sharded is None:
            super().set_state_dict(state)
            return
        self._check_state(state, self.state_dict())
        mine = {name: p for name, p in self.named.items() if self._sharded.is_mine(p)}
        for kind, tensors in _state_of(self.inner, list(mine.values())).items():
            for name, parameter in mine.items():
                if parameter.name in tensors:  # only 16-bit parameters have a master weight
                    tensors[parameter.name].set_value(state[f"{name}/{kind}"])


@OPTIMIZERS.register()
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, equal to torch.optim.SGD.

    Args:
        momentum: Momentum factor, in [0, 1).
        nesterov: Use Nesterov momentum.
    """

    def __init__(
        self,
        model: nn.Layer,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        layer_decay: Optional[float] = None,
        no_weight_decay: Sequence[str] = (),
        clip_norm: Optional[float] = None,
    ) -> None:
        super().__init__(model, weight_decay, layer_decay, no_weight_decay, clip_norm)
        checks.share_below_one(momentum=momentum)
        self.inner = paddle.optimizer.Momentum(
            learning_rate=0.0, momentum=float(momentum), use_nesterov=nesterov, parameters=self.paddle_groups()
        )


@OPTIMIZERS.register()
class LARS(Optimizer):
    """LARS: layer-wise adaptive rate scaling for SGD with momentum, used by linear probes with large batches.

    You et al., arXiv 1708.03888; reference: `util/lars.py` of MAE and CAE.

    Args:
        momentum: Momentum factor, in [0, 1).
        trust_coefficient: Norm of a matrix's update / norm of the matrix.
    """

    def __init__(
        self,
        model: nn.Layer,
        momentum: float = 0.9,
        trust_coefficient: float = 0.001,
        weight_decay: float = 0.0,
        no_weight_decay: Sequence[str] = (),
        clip_norm: Optional[float] = None,
    ) -> None:
        super().__init__(model, weight_decay, None, no_weight_decay, clip_norm)
        checks.share_below_one(momentum=momentum)
        checks.above(0, trust_coefficient=trust_coefficient)
        self.inner = LarsOptimizer(self.paddle_groups(), momentum, trust_coefficient)


def _global_norm(gradients: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """Global Euclidean norm of the gradients, float32 or float64."""
    wide = [g.astype("float32") if g.dtype in _HALF else g for g in gradients]
    return paddle.add_n([squared_l2_norm(g) for g in wide]).sqrt().reshape([])


def _scale_down(gradients: Sequence[paddle.Tensor], factor: paddle.Tensor) -> None:
    """Multiply in place by `factor`, a scalar, if it is below 1."""
    if not factor.place.is_cpu_place():  # reading the factor would synchronize with the device
        _multiply(gradients, factor.clip(max=1.0))
    elif float(factor) < 1.0:
        for gradient in gradients:
            gradient.scale_(float(factor))  # on a CPU much faster than by a tensor


def _multiply(gradients: Sequence[paddle.Tensor], factor: paddle.Tensor) -> None:
    for gradient in gradients:
        gradient.multiply_(factor.astype(gradient.dtype))


def _state_of(inner: Any, parameters: Sequence[paddle.Tensor]) -> Dict[str, Dict[str, paddle.Tensor]]:
    """State tensors of a Paddle optimizer by kind and parameter name; missing ones are created with initial values.

    Paddle creates them at a parameter's first update, so parameters without a gradient so far would be missing in a
    checkpoint. Paddle's own `state_dict` is keyed by names that another process does not reproduce.
    """
    if inner.helper is None:
        inner.helper = LayerHelper(type(inner).__name__)
    inner._create_accumulators(paddle.static.default_main_program().global_block(), list(parameters))
    masters = getattr(inner, "_master_weights", None) or {}
    keys = {p.name: masters[p.name].name if p.name in masters else p.name for p in parameters}  # Paddle's keys
    kinds = {
        kind: {name: tensors[key] for name, key in keys.items() if key in tensors}
        for kind, tensors in inner._accumulators.items()
    }
    return {**kinds, **({_MASTER: {name: masters[name] for name in keys if name in masters}} if masters else {})}


def _like(own: Optional[paddle.Tensor], parameter: paddle.Tensor, kind: str) -> paddle.Tensor:
    """Return `own`, or zeros of its shape if another process holds that state."""
    if own is not None:
        return own
    half = parameter.dtype in _HALF
    shape = [1] if kind.endswith("_pow_acc") else parameter.shape
    return paddle.zeros(shape, "float32" if half else parameter.dtype)


def _listed(text: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"  {text}: {', '.join(names[:10])}{more}\n" if names else ""
