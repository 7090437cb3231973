"""Optimizers over a task's parameters, with their groups, clipping and a state that outlives the process.

Paddle keys an optimizer's state by tensor names such as `linear_0.w_0`, which are numbered in the order of creation;
here it is keyed by structured names, `model.head.weight/moment1_0`, so that it can be resumed.
"""

from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import paddle
from paddle import nn

from plsc.optim.lars import LarsOptimizer
from plsc.optim.param_groups import ParameterGroup, group_parameters
from plsc.registry import OPTIMIZERS


class Optimizer:
    """What the optimizers share. Subclasses build `inner`, the Paddle optimizer.

    Args:
        model: The task; its trainable parameters are optimised. With `layer_decay` it must have
            `layer_index(name)` and `num_layers`.
        weight_decay: Of matrices; biases and vectors are not decayed.
        layer_decay: Factor of the learning rate from one depth to the one before it; None: one rate.
        no_weight_decay: Patterns of names that are not decayed either.
        clip_norm: Largest norm of all gradients together; None: not clipped.

    Raises:
        ValueError: If there is nothing to train, or a number is out of range.
    """

    inner: Any

    def __init__(
        self,
        model: nn.Layer,
        weight_decay: float = 0.0,
        layer_decay: Optional[float] = None,
        no_weight_decay: Sequence[str] = (),
        clip_norm: Optional[float] = None,
    ) -> None:
        if weight_decay < 0 or (clip_norm is not None and clip_norm <= 0):
            raise ValueError(
                f"weight_decay must be at least 0 and clip_norm above 0 (or null), got {weight_decay} and {clip_norm}"
            )
        self.named = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
        if not self.named:
            raise ValueError("the task has no trainable parameter; is everything frozen?")
        self.parameters: List[paddle.Tensor] = list(self.named.values())
        self.clip_norm = clip_norm
        self.groups: List[ParameterGroup] = group_parameters(
            [(name, p.shape) for name, p in self.named.items()],
            weight_decay,
            no_weight_decay,
            layer_decay,
            getattr(model, "layer_index", None),
            getattr(model, "num_layers", None),
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
        self.inner.set_lr(lr)

    def step(self) -> None:
        """Updates the parameters."""
        self.inner.step()

    def clear_grad(self) -> None:
        """Drops the gradients."""
        for parameter in self.parameters:
            parameter.clear_gradient(set_to_zero=False)

    def clip_gradients(self) -> paddle.Tensor:
        """Scales all gradients in place so that their common norm is at most `clip_norm`.

        Returns:
            The norm before clipping, a scalar on the device.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = _global_norm(gradients)
        if self.clip_norm is not None:
            factor = paddle.clip(self.clip_norm / (norm + 1e-6), max=1.0)  # torch.nn.utils.clip_grad_norm_
            with paddle.no_grad():
                for gradient in gradients:
                    gradient.multiply_(factor.astype(gradient.dtype))
        return norm

    def state_dict(self) -> Dict[str, paddle.Tensor]:
        """The optimizer's tensors by structured name and kind: `model.head.weight/moment1_0`."""
        structured = {p.name: name for name, p in self.named.items()}
        tensors = {}
        for key, value in _flatten(self.inner.state_dict()).items():
            tensor_name, kind = _split(key, structured)
            if tensor_name is not None:
                tensors[f"{structured[tensor_name]}/{kind}"] = value
        return tensors

    def set_state_dict(self, state: Dict[str, Any]) -> None:
        """Restores `state_dict()`, given as tensors or arrays.

        Raises:
            ValueError: If the state is of other parameters; they are listed.
        """
        unknown = sorted({key.rsplit("/", 1)[0] for key in state} - set(self.named))
        missing = sorted(set(self.named) - {key.rsplit("/", 1)[0] for key in state}) if state else []
        if unknown or missing:
            raise ValueError(
                f"the optimizer state is of another model: it has {unknown[:5] or 'nothing'} that this run has not, "
                f"and lacks {missing[:5] or 'nothing'}; resume with the config it was saved with"
            )
        restored: Dict[str, Any] = {}
        for key, value in state.items():
            name, kind = key.rsplit("/", 1)
            tensor = paddle.to_tensor(value)
            if kind == "master_weight":
                restored.setdefault("master_weights", {})[self.named[name].name] = tensor
            else:
                tensor.name = f"{self.named[name].name}_{kind}"
                restored[tensor.name] = tensor
        self.inner.set_state_dict(restored)


@OPTIMIZERS.register()
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), as torch.optim.AdamW computes it."""

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
    ) -> None:
        super().__init__(model, weight_decay, layer_decay, no_weight_decay, clip_norm)
        self.inner = paddle.optimizer.AdamW(
            learning_rate=0.0,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            parameters=self.paddle_groups(),
        )


@OPTIMIZERS.register()
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as torch.optim.SGD computes it."""

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
        self.inner = paddle.optimizer.Momentum(
            learning_rate=0.0, momentum=momentum, use_nesterov=nesterov, parameters=self.paddle_groups()
        )


@OPTIMIZERS.register()
class LARS(Optimizer):
    """Layer-wise adaptive rate scaling over SGD with momentum, for linear probes with large batches."""

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
        self.inner = LarsOptimizer(self.paddle_groups(), momentum, trust_coefficient)


def _global_norm(gradients: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """The Euclidean norm of all gradients together, at least in float32."""
    squares = [(g if g.dtype == paddle.float64 else g.astype("float32")).square().sum() for g in gradients]
    return paddle.add_n(squares).sqrt()


def _flatten(state: Dict[str, Any]) -> Dict[str, paddle.Tensor]:
    masters = {f"{name}_master_weight": value for name, value in state.get("master_weights", {}).items()}
    return {**{key: value for key, value in state.items() if isinstance(value, (paddle.Tensor, np.ndarray))}, **masters}


def _split(key: str, structured: Dict[str, str]) -> Any:
    """`linear_0.w_0_moment1_0` -> (`linear_0.w_0`, `moment1_0`); the longest tensor name that fits."""
    parts = key.split("_")
    for end in range(len(parts) - 1, 0, -1):
        if "_".join(parts[:end]) in structured:
            return "_".join(parts[:end]), "_".join(parts[end:])
    return None, None
