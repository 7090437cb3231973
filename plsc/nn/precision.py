"""Mixed precision: autocast around the forward pass, loss scaling around the backward pass.

The only file that imports paddle.amp. Losses and norms stay float32; tokenizers run outside autocast (`Task.prepare`).
"""

from typing import Any, Callable, ContextManager, Dict, Optional, Sequence

import paddle
from paddle import nn

from plsc.config.settings import AMP


class LossScale:
    """Dynamic loss scale, which prevents underflow of float16 gradients.

    It is halved after a step whose gradients overflowed, and doubled after `growth_steps` steps without overflow
    (Micikevicius et al., arXiv 1710.03740). Paddle's GradScaler checks only the parameters of its own process, which
    are not all parameters under sharding, and does nothing on a CPU, so it cannot be tested there.

    Args:
        initial: Initial factor, at least 1.
        growth_steps: Steps without overflow after which the factor is doubled.
    """

    LARGEST = 2.0**24

    def __init__(self, initial: float, growth_steps: int = 2000) -> None:
        self.value = float(initial)
        self.growth_steps = growth_steps
        self.good_steps = 0

    def succeeded(self) -> None:
        """Update the factor after a step with finite gradients."""
        self.good_steps += 1
        if self.good_steps >= self.growth_steps:
            self.value, self.good_steps = min(2 * self.value, self.LARGEST), 0

    def overflowed(self) -> bool:
        """Halve the factor after non-finite gradients; return False if it is 1 already, so it is not the cause."""
        if self.value <= 1.0:
            return False
        self.value, self.good_steps = max(self.value / 2, 1.0), 0
        return True


class Precision:
    """Mixed-precision settings of one run: autocast, loss scaling, master weights.

    Args:
        settings: The section AMP.
        log: Called with one line if the device does not support mixed precision and the run uses float32.
    """

    def __init__(self, settings: AMP, log: Callable[[str], Any] = print) -> None:
        self.level = settings.level
        self.dtype = settings.dtype
        if self.level != "O0" and not paddle.device.get_device().startswith("gpu"):
            log(f"AMP level {self.level} needs a GPU; this run uses float32")
            self.level = "O0"
        if self.dtype == "auto":
            self.dtype = "bfloat16" if self.enabled and paddle.amp.is_bfloat16_supported() else "float16"
        self.loss_scale: Optional[LossScale] = None
        if self.enabled and self.dtype == "float16":
            self.loss_scale = LossScale(settings.init_loss_scaling, settings.growth_steps)

    @property
    def enabled(self) -> bool:
        """True if some operations are computed in 16 bits."""
        return self.level != "O0"

    def prepare(self, task: nn.Layer, optimizer: Any) -> None:
        """Under O2, cast trained parameters to 16 bits, with float32 master weights in the optimizer.

        Layers without trained parameters, such as a teacher, keep float32: an EMA update is too small for 16 bits.
        """
        if self.level != "O2":
            return
        fixed = [part for part in task.sublayers() if all(p.stop_gradient for p in part.parameters())]
        paddle.amp.decorate(
            models=task,
            optimizers=optimizer.inner,
            level="O2",
            dtype=self.dtype,
            master_weight=True,
            excluded_layers=[*fixed, nn.LayerNorm],
        )

    def autocast(self) -> ContextManager[Any]:
        """Autocast context of a forward pass."""
        return paddle.amp.auto_cast(enable=self.enabled, level=self.level, dtype=self.dtype)

    def backward(self, loss: paddle.Tensor) -> None:
        """Accumulate the gradients of a scalar loss, multiplied by the loss scale if there is one."""
        (loss if self.loss_scale is None else loss * self.loss_scale.value).backward()

    @paddle.no_grad()
    def unscale(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Divide the gradients by the loss scale, in place."""
        if self.loss_scale is None:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.scale_(1.0 / self.loss_scale.value)

    def overflowed(self) -> bool:
        """Handle non-finite gradients: reduce the loss scale and return True, or return False if that cannot help."""
        return self.loss_scale is not None and self.loss_scale.overflowed()

    def succeeded(self) -> None:
        """Update the loss scale after a step with finite gradients."""
        if self.loss_scale is not None:
            self.loss_scale.succeeded()

    def state_dict(self) -> Dict[str, Any]:
        """Loss scale and its counter as plain values; empty without a loss scale."""
        scale = self.loss_scale
        return {} if scale is None else {"scale": scale.value, "good_steps": scale.good_steps}

    def set_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore the state of `state_dict()`; an empty state leaves the initial value."""
        if state and self.loss_scale is not None:
            self.loss_scale.value, self.loss_scale.good_steps = float(state["scale"]), int(state["good_steps"])
