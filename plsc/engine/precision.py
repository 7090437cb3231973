"""Mixed precision: autocast around the forward pass, loss scaling around the backward pass.

The only file that imports paddle.amp. Losses and norms stay float32; tokenizers run outside autocast (`Task.prepare`).
"""

from typing import Any, ContextManager, Dict

import paddle

from plsc.settings import AMP


class Precision:
    """The precision of one run.

    Args:
        settings: The section AMP.
        log: Receives one line if the device has no mixed precision and the run goes on in float32.
    """

    def __init__(self, settings: AMP, log=print) -> None:
        self.level = settings.level
        self.dtype = settings.dtype
        if self.level != "O0" and not paddle.device.get_device().startswith("gpu"):
            log(f"AMP level {self.level} needs a GPU; this run computes in float32")
            self.level = "O0"
        if self.dtype == "auto":
            self.dtype = "bfloat16" if self.enabled and paddle.amp.is_bfloat16_supported() else "float16"
        scale = self.enabled and self.dtype == "float16"
        self.scaler = paddle.amp.GradScaler(enable=scale, init_loss_scaling=settings.init_loss_scaling)

    @property
    def enabled(self) -> bool:
        """Whether anything is computed in 16 bits."""
        return self.level != "O0"

    def autocast(self) -> ContextManager[Any]:
        """The context of a forward pass."""
        return paddle.amp.auto_cast(enable=self.enabled, level=self.level, dtype=self.dtype)

    def backward(self, loss: paddle.Tensor) -> None:
        """Adds the gradients of a scalar loss, scaled if this precision needs it."""
        (self.scaler.scale(loss) if self.scaler.is_enable() else loss).backward()

    def unscale(self, optimizer: Any) -> None:
        """Divides the gradients by the loss scale, in place and without waiting for the device."""
        if self.scaler.is_enable():
            self.scaler.unscale_(optimizer.inner)

    def step(self, optimizer: Any) -> None:
        """Updates the parameters; skipped by the scaler if a gradient overflowed."""
        if self.scaler.is_enable():
            self.scaler.step(optimizer.inner)
            self.scaler.update()
        else:
            optimizer.step()

    def state_dict(self) -> Dict[str, Any]:
        """The loss scale and its counters, as plain numbers."""
        return {key: _plain(value) for key, value in self.scaler.state_dict().items()}

    def set_state_dict(self, state: Dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        if state and self.scaler.is_enable():
            restored = dict(state)
            restored["scale"] = paddle.to_tensor([state["scale"]], dtype="float32").numpy()
            self.scaler.load_state_dict(restored)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
