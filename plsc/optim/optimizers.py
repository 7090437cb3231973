"""Optimizers over a task's parameters, with their groups, clipping and a state that outlives the process.

Paddle keys an optimizer's state by tensor names such as `linear_0.w_0`, which are numbered in the order of creation;
here it is keyed by structured names, `model.head.weight/moment1`, so that it can be resumed.
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
_MASTER = "master_weight"  # float32 copies of parameters of 16 bits


class Optimizer:
    """What the optimizers share. Subclasses build `inner`, the Paddle optimizer.

    Args:
        model: The task; its trainable parameters are optimised. With `layer_decay` it must have
            `layer_index(name)` and `num_layers`; it may have `lr_scale(name)`, a factor of the learning rate.
        weight_decay: Of matrices; biases and vectors are not decayed.
        layer_decay: Factor of the learning rate from one depth to the one before it; None: one rate.
        no_weight_decay: Patterns of names that are not decayed either, such as `*.cls_token`.
        clip_norm: Largest norm of all gradients together; None: not clipped.

    Attributes:
        per_number: Numbers that the state has for each one that is trained.
        per_tensor: Further ones for each tensor.
        unmatched: Patterns of `no_weight_decay` that match neither a parameter nor a buffer, trained or not.

    Raises:
        ValueError: If there is nothing to train, or a number is out of range.
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
            raise ValueError("the task has no trainable parameter; is everything frozen?")
        self.parameters: List[paddle.Tensor] = list(self.named.values())
        self.clip_norm = clip_norm
        names = [name for part in (model.named_parameters(), model.named_buffers()) for name, _ in part]
        self.unmatched = [one for one in no_weight_decay if not any(fnmatchcase(name, one) for name in names)]
        self.groups: List[ParameterGroup] = group_parameters(
            [(name, p.shape) for name, p in self.named.items()],
            float(weight_decay),  # Paddle 2.6 takes no whole number
            no_weight_decay,
            layer_decay,
            getattr(model, "layer_index", None),
            getattr(model, "num_layers", None),
            getattr(model, "lr_scale", None),
        )

    def paddle_groups(self) -> List[Dict[str, Any]]:
        """The groups as Paddle's optimizers take them; `learning_rate` is a factor."""
        return [
            {
                "params": [self.named[name] for name in group.parameters],
                "weight_decay": group.weight_decay,
                "learning_rate": group.lr_scale,
            }
            for group in self.groups
        ]

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate of the next step."""
        self.inner.set_lr(float(lr))

    def set_progress(self, progress: float) -> None:
        """Tells before a step how much of the run is done, in [0, 1); for what changes with it besides the rate."""

    def step(self) -> None:
        """Updates the parameters."""
        self.inner.step()

    def shard(self) -> None:
        """Divides the optimizer's state among processes, as DistributedStrategy.sharding_degree says.

        Raises:
            ValueError: If this optimizer cannot be divided.
        """
        raise ValueError(
            f"DistributedStrategy.sharding_degree: {type(self).__name__} cannot be divided; use AdamW, or set it to 1"
        )

    def clear_grad(self) -> None:
        """Drops the gradients and their memory; a parameter without a gradient is not updated."""
        for parameter in self.parameters:
            parameter.clear_gradient(False)  # Paddle ignores the keyword set_to_zero here and would write zeros

    @paddle.no_grad()
    def clip_gradients(self) -> paddle.Tensor:
        """Scales all gradients in place so that their common norm is at most `clip_norm`.

        As `torch.nn.utils.clip_grad_norm_`: the factor is clip_norm / (norm + 1e-6), at most 1.

        Returns:
            The norm before clipping, a scalar on the device, at least float32.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:
            return paddle.zeros([])
        norm = _global_norm(gradients)
        if self.clip_norm is not None:
            _scale_down(gradients, self.clip_norm / (norm + 1e-6))
        return norm

    def state_numbers(self) -> int:
        """How many numbers of 32 bits the state has, before it is divided among processes or there at all."""
        return sum(self.per_number * int(np.prod(p.shape)) + self.per_tensor for p in self.parameters)

    def state_dict(self) -> Dict[str, paddle.Tensor]:
        """The optimizer's tensors by structured name and kind, `model.head.weight/moment1`, for every parameter."""
        tensors = _state_of(self.inner, self.parameters)
        return {
            f"{name}/{kind}": tensors[kind][p.name]
            for kind in tensors
            for name, p in self.named.items()
            if kind != _MASTER or p.name in tensors[kind]
        }

    def set_state_dict(self, state: Dict[str, Any]) -> None:
        """Restores `state_dict()`, given as tensors or arrays.

        Raises:
            ValueError: If the state is of another optimizer or of other parameters; they are listed.
        """
        own = self.state_dict()
        self._check_state(state, own)
        for name, tensor in own.items():
            tensor.set_value(state[name])

    def _check_state(self, state: Dict[str, Any], own: Dict[str, paddle.Tensor]) -> None:
        """Raises ValueError if `state` has not the names and shapes of `own`."""
        unknown, missing = sorted(set(state) - set(own)), sorted(set(own) - set(state))
        reshaped = [name for name in own if name in state and list(own[name].shape) != list(state[name].shape)]
        if unknown or missing or reshaped:
            raise ValueError(
                f"the optimizer state is not that of this run's {type(self).__name__}:\n"
                + _listed("not in this run", unknown)
                + _listed("missing in the state", missing)
                + _listed("of another shape", reshaped)
                + "resume with the config it was saved with"
            )


@OPTIMIZERS.register()
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), as torch.optim.AdamW computes it.

    Args:
        beta1: Share of itself that the running mean of the gradients keeps in a step.
        beta2: Likewise, of their squares.
        epsilon: Added to the root of those squares.
        weight_decay_end: Weight decay moves to this value along half a cosine; None: it stays.
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
        self.inner = MultiTensorAdamW(  # one list: fleet does not divide Paddle's parameter groups
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
        """Sets the weight decay of the next step, if it changes during the run."""
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
        """The optimizer's tensors by structured name and kind; with sharding every process must call."""
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
                if parameter.name in tensors:  # only parameters of 16 bits have a master
                    tensors[parameter.name].set_value(state[f"{name}/{kind}"])


@OPTIMIZERS.register()
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as torch.optim.SGD computes it.

    Args:
        momentum: Share of itself that the running update keeps in a step.
        nesterov: Whether to look ahead by that update (Nesterov's momentum).
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
    """Layer-wise adaptive rate scaling over SGD with momentum, for linear probes with large batches.

    Args:
        momentum: Share of itself that the running update keeps in a step.
        trust_coefficient: Size of a matrix's update in multiples of the matrix's norm.
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
    """The Euclidean norm of all gradients together, at least in float32."""
    wide = [g.astype("float32") if g.dtype in _HALF else g for g in gradients]
    return paddle.add_n([squared_l2_norm(g) for g in wide]).sqrt().reshape([])


def _scale_down(gradients: Sequence[paddle.Tensor], factor: paddle.Tensor) -> None:
    """Multiplies in place by `factor`, a scalar, if that is below 1."""
    if not factor.place.is_cpu_place():  # reading the factor would make the host wait for the device
        _multiply(gradients, factor.clip(max=1.0))
    elif float(factor) < 1.0:
        for gradient in gradients:
            gradient.scale_(float(factor))  # on a CPU by far faster than by a tensor


def _multiply(gradients: Sequence[paddle.Tensor], factor: paddle.Tensor) -> None:
    for gradient in gradients:
        gradient.multiply_(factor.astype(gradient.dtype))


def _state_of(inner: Any, parameters: Sequence[paddle.Tensor]) -> Dict[str, Dict[str, paddle.Tensor]]:
    """A Paddle optimizer's tensors by kind and parameter name; created as they start where there are none yet.

    Paddle itself creates them at a parameter's first update, so one that had no gradient so far would be missing in
    a checkpoint, and its own `state_dict` is keyed by names that another process does not reproduce.
    """
    if inner.helper is None:
        inner.helper = LayerHelper(type(inner).__name__)
    inner._create_accumulators(paddle.static.default_main_program().global_block(), list(parameters))
    masters = getattr(inner, "_master_weights", None) or {}
    keys = {p.name: masters[p.name].name if p.name in masters else p.name for p in parameters}  # Paddle's
    kinds = {
        kind: {name: tensors[key] for name, key in keys.items() if key in tensors}
        for kind, tensors in inner._accumulators.items()
    }
    return {**kinds, **({_MASTER: {name: masters[name] for name in keys if name in masters}} if masters else {})}


def _like(own: Optional[paddle.Tensor], parameter: paddle.Tensor, kind: str) -> paddle.Tensor:
    """`own`, or room for what another process keeps of that kind for a parameter."""
    if own is not None:
        return own
    half = parameter.dtype in _HALF
    shape = [1] if kind.endswith("_pow_acc") else parameter.shape
    return paddle.zeros(shape, "float32" if half else parameter.dtype)


def _listed(text: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"  {text}: {', '.join(names[:10])}{more}\n" if names else ""
