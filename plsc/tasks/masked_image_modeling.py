"""Pre-training by predicting what is behind the masked patches: tokens or pixels, and for CAE their latents."""

from typing import Any, Dict, Optional, Sequence

import numpy as np
import paddle
from paddle import nn

from plsc.registry import TASKS
from plsc.tasks.base import Batch, Task


@TASKS.register()
class MaskedImageModeling(Task):
    """Predicts the targets of masked patches from the visible ones.

    Args:
        model: Takes (image, visible_index, masked_index), returns a dict with `logits` (B, M, K) and whatever else
            the loss needs. One with a teacher has `update_teacher()`.
        tokenizer: Takes a batch, returns the targets of all patches: token ids (B, N) or pixels (B, N, P).
        loss: Takes the model's outputs and the targets of the masked patches, returns a dict of scalars with `loss`.
    """

    required_keys = ("image", "visible_index", "masked_index")

    def __init__(self, model: nn.Layer, tokenizer: Any, loss: Any) -> None:
        super().__init__(model)
        _check_vocabulary(model, tokenizer)
        self._tokenizer = [tokenizer]  # in a list: its frozen weights are not part of the checkpoint
        self.loss = loss

    @property
    def tokenizer(self) -> Any:
        """What makes the targets; not trained and not saved."""
        return self._tokenizer[0]

    def prepare(self, batch: Batch) -> Batch:
        targets = self.tokenizer(batch)
        patches = int(np.prod(self.encoder.grid_size))
        if targets.shape[1] != patches:
            raise ValueError(
                f"the tokenizer gives {targets.shape[1]} targets an image, but the encoder has {patches} patches "
                f"(grid {tuple(self.encoder.grid_size)}); the second crop's size divided by the tokenizer's "
                "stride must be that grid"
            )
        return {**batch, "targets": _take(targets, batch["masked_index"])}

    def forward(self, batch: Batch) -> Dict[str, paddle.Tensor]:
        outputs = self.model(batch["image"], batch["visible_index"], batch["masked_index"])
        return self.loss(outputs, batch["targets"])

    def on_weights_loaded(self, names: Sequence[str]) -> None:
        """A teacher that did not come with the encoder's weights starts as a copy of it."""
        if hasattr(self.model, "reset_teacher") and not any(name.startswith("model.teacher.") for name in names):
            self.model.reset_teacher()

    def before_step(self, progress: float) -> None:
        """Moves the teacher: before the optimizer's update, so it stays one update behind, as in the reference."""
        if hasattr(self.model, "update_teacher"):
            self.model.update_teacher()

    def pictures(self, batch: Batch) -> Dict[str, np.ndarray]:
        """The images, the images without their masked patches, and the tokens predicted there decoded to pixels."""
        image = batch.get("target_image", batch["image"])
        shown = _rows(image)
        pictures = {"original": shown, "masked": _blank(shown, batch, self.encoder.grid_size)}
        ids = self._predicted_ids(batch)
        if ids is not None and hasattr(self.tokenizer, "decode"):
            tokens = self.tokenizer(batch)
            pictures["tokenized"] = _rows(self.tokenizer.decode(tokens))
            rows = paddle.arange(tokens.shape[0]).unsqueeze(1).expand_as(batch["masked_index"])
            where = paddle.stack([rows, batch["masked_index"]], axis=-1)
            mixed = paddle.scatter_nd_add(tokens, where, ids - _take(tokens, batch["masked_index"]))
            pictures["reconstructed"] = _rows(self.tokenizer.decode(mixed))
        return pictures

    def _predicted_ids(self, batch: Batch) -> Optional[paddle.Tensor]:
        if not getattr(self.tokenizer, "vocab_size", None):
            return None
        outputs = self.model(batch["image"], batch["visible_index"], batch["masked_index"])
        return outputs["logits"].argmax(axis=-1)  # (B, M)


def _check_vocabulary(model: nn.Layer, tokenizer: Any) -> None:
    width, wanted = getattr(model, "vocab_size", None), getattr(tokenizer, "vocab_size", None)
    if width and wanted and width != wanted:
        raise ValueError(
            f"the tokenizer has {wanted} tokens, but the model's head predicts {width}; "
            f"set Model.vocab_size to {wanted}"
        )


def _take(targets: paddle.Tensor, index: paddle.Tensor) -> paddle.Tensor:
    """(B, N) or (B, N, P) at (B, M) -> (B, M) or (B, M, P)."""
    if targets.ndim == 3:
        index = index.unsqueeze(-1).expand([*index.shape, targets.shape[-1]])
    return paddle.take_along_axis(targets, index, 1)


def _rows(image: paddle.Tensor) -> np.ndarray:
    """(B, 3, H, W), stretched to [0, 1] if it is normalised -> uint8 (B, H, W, 3)."""
    pixels = image.astype("float32").transpose([0, 2, 3, 1]).numpy()
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > 1:
        pixels = (pixels - low) / max(high - low, 1e-6)
    return (pixels * 255).round().astype("uint8")


def _blank(shown: np.ndarray, batch: Batch, grid: Any) -> np.ndarray:
    """Masked patches in mid-grey."""
    mask = np.zeros((len(shown), grid[0] * grid[1]), dtype=bool)
    np.put_along_axis(mask, batch["masked_index"].numpy(), True, axis=1)
    height, width = shown.shape[1] // grid[0], shown.shape[2] // grid[1]
    large = mask.reshape(-1, *grid).repeat(height, axis=1).repeat(width, axis=2)
    return np.where(large[..., None], np.uint8(127), shown)
