"""Pre-training by predicting what is behind the masked patches: tokens or pixels, and for CAE their latents."""

from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np
import paddle
from paddle import nn

from plsc.config.registry import TASKS
from plsc.nn.measures import deviation, mean_cosine, perplexity
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
        return {**self.loss(outputs, batch["targets"]), **_measures(outputs, batch["targets"])}

    def on_weights_loaded(self, names: Sequence[str]) -> None:
        """A teacher that did not come with the encoder's weights starts as a copy of it."""
        if hasattr(self.model, "reset_teacher") and not any(name.startswith("model.teacher.") for name in names):
            self.model.reset_teacher()

    def before_step(self, progress: float) -> None:
        """Moves the teacher: before the optimizer's update, so it stays one update behind, as in the reference."""
        if hasattr(self.model, "update_teacher"):
            self.model.update_teacher()

    def pictures(self, batch: Batch) -> Dict[str, np.ndarray]:
        """The images, the images without their masked patches, their targets, and what is predicted behind the masks.

        Tokens are decoded to pixels; `reconstructed` and `predicted` have the visible patches' own targets.
        """
        of_pixels = hasattr(self.tokenizer, "decode_like")
        image = batch["image"] if of_pixels else batch.get("target_image", batch["image"])
        low, high = _range(image)
        shown = _rows(image, low, high)
        pictures = {"original": shown, "masked": _blank(shown, batch, self.encoder.grid_size)}
        decode, captions = self._decoder(batch)
        if decode is None:
            return pictures
        targets = self.tokenizer(batch)
        outputs = self.model(batch["image"], batch["visible_index"], batch["masked_index"])["logits"]  # (B, M, K)
        predicted = outputs.argmax(axis=-1) if targets.ndim == 2 else outputs.astype(targets.dtype)
        for caption, values in zip(captions, (targets, _put(targets, predicted, batch["masked_index"]))):
            pictures[caption] = _rows(decode(values), low, high)
        return pictures

    def _decoder(self, batch: Batch) -> Tuple[Optional[Callable[[paddle.Tensor], paddle.Tensor]], Tuple[str, str]]:
        """Targets to images, and what to call the images of the true and of the predicted ones."""
        if hasattr(self.tokenizer, "decode"):
            return self.tokenizer.decode, ("tokenized", "reconstructed")
        if hasattr(self.tokenizer, "decode_like"):
            return lambda targets: self.tokenizer.decode_like(targets, batch), ("targets", "predicted")
        return None, ("", "")


@paddle.no_grad()
def _measures(outputs: Dict[str, paddle.Tensor], targets: paddle.Tensor) -> Dict[str, paddle.Tensor]:
    """What tells whether the pretext task is learned and whether something collapses; nothing is learned from it.

    Of tokens: `token_accuracy` in percent and how many of them are in use, among targets and predictions
    (`target_perplexity`, `predicted_perplexity`; few predicted ones: the network names the same everywhere). Of
    latents, if there are any: `alignment_cosine` with their targets, and `latent_std`, which falls to 0 if all targets
    become the same.
    """
    found: Dict[str, paddle.Tensor] = {}
    if targets.ndim == 2:
        predicted, size = outputs["logits"].argmax(axis=-1), outputs["logits"].shape[-1]
        found["token_accuracy"] = 100.0 * (predicted == targets).astype("float32").mean()
        found["target_perplexity"] = perplexity(targets, size)
        found["predicted_perplexity"] = perplexity(predicted, size)
    if "latent" in outputs and "latent_target" in outputs:
        found["alignment_cosine"] = mean_cosine(outputs["latent"], outputs["latent_target"])
        found["latent_std"] = deviation(outputs["latent_target"])
    return found


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


def _put(targets: paddle.Tensor, values: paddle.Tensor, index: paddle.Tensor) -> paddle.Tensor:
    """Targets (B, N) or (B, N, P) with those at `index` (B, M) replaced by `values` (B, M) or (B, M, P)."""
    rows = paddle.arange(targets.shape[0]).unsqueeze(1).expand_as(index)
    where = paddle.stack([rows, index], axis=-1)
    return paddle.scatter_nd_add(targets, where, values - _take(targets, index))


def _range(image: paddle.Tensor) -> Tuple[float, float]:
    """What is black and what is white: 0 and 1, or of a normalised image its extremes."""
    low, high = float(image.min()), float(image.max())
    return (low, high) if low < 0 or high > 1 else (0.0, 1.0)


def _rows(image: paddle.Tensor, low: float, high: float) -> np.ndarray:
    """(B, 3, H, W) -> uint8 (B, H, W, 3)."""
    pixels = image.astype("float32").transpose([0, 2, 3, 1]).numpy()
    return (((pixels - low) / max(high - low, 1e-6)).clip(0, 1) * 255).round().astype("uint8")


def _blank(shown: np.ndarray, batch: Batch, grid: Any) -> np.ndarray:
    """Masked patches in mid-grey."""
    mask = np.zeros((len(shown), grid[0] * grid[1]), dtype=bool)
    np.put_along_axis(mask, batch["masked_index"].numpy(), True, axis=1)
    height, width = shown.shape[1] // grid[0], shown.shape[2] // grid[1]
    large = mask.reshape(-1, *grid).repeat(height, axis=1).repeat(width, axis=2)
    return np.where(large[..., None], np.uint8(127), shown)
