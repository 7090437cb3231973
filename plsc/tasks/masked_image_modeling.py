"""Pre-training by predicting the masked patches: their tokens or pixels, and for CAE their latents."""

from typing import Any, Dict, Sequence

import numpy as np
import paddle

from plsc.config import contract
from plsc.config.registry import TASKS
from plsc.nn.measures import deviation, mean_cosine, perplexity
from plsc.nn.network import Network
from plsc.tasks.base import Batch, Task
from plsc.tokenizers.base import Target


@TASKS.register()
class MaskedImageModeling(Task):
    """Predicts the targets of masked patches from the visible ones.

    Args:
        model: Takes (image, visible_index, masked_index), returns a dict with `logits` (B, M, K) and further outputs
            that the loss needs.
        tokenizer: Takes a batch, returns the targets of all patches: token ids (B, N) or values (B, N, P).
        loss: Takes the outputs of the model and the targets of the masked patches, returns a dict of scalars with
            `loss`.

    Raises:
        ValueError: If the model or the tokenizer lacks members of its base class, or their vocabularies differ.
    """

    required_keys = ("image", "visible_index", "masked_index")

    def __init__(self, model: Network, tokenizer: Target, loss: Any) -> None:
        super().__init__(model)
        contract.derived(model, Network)
        contract.derived(tokenizer, Target)
        _check_vocabulary(model, tokenizer)
        self._tokenizer = [tokenizer]  # in a list: its frozen weights are not part of the checkpoint
        self.loss = loss

    @property
    def tokenizer(self) -> Target:
        """The source of the targets; not trained and not saved."""
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
        """Make the teacher a copy of the encoder, unless the weights contain a teacher."""
        if not any(name.startswith("model.teacher.") for name in names):
            self.model.reset_teacher()

    def before_step(self, progress: float) -> None:
        """Move the teacher before the update of the optimizer: it stays one update behind, as in the reference."""
        self.model.update_teacher()

    def pictures(self, batch: Batch) -> Dict[str, paddle.Tensor]:
        """The images, their masks, their targets, and the prediction of the masked patches.

        Targets are decoded to pixels; in the prediction the visible patches have their own targets.
        """
        target = self.tokenizer
        image = batch.get(target.image_key, batch["image"])
        found = {"original": image, "masked": _mask(batch, self.encoder.grid_size)}
        targets = target(batch)
        shown = target.decode(targets, batch)
        if shown is None:
            return found
        outputs = self.model(batch["image"], batch["visible_index"], batch["masked_index"])["logits"]  # (B, M, K)
        predicted = outputs.argmax(axis=-1) if target.kind == "ids" else outputs.astype(targets.dtype)
        decoded = target.decode(_put(targets, predicted, batch["masked_index"]), batch)
        captions = ("tokenized", "reconstructed") if target.kind == "ids" else ("targets", "predicted")
        return {**found, **dict(zip(captions, (shown, decoded)))}


@paddle.no_grad()
def _measures(outputs: Dict[str, paddle.Tensor], targets: paddle.Tensor) -> Dict[str, paddle.Tensor]:
    """Measures of progress in the pretext task and of collapse, without gradient.

    For tokens: `token_accuracy` in percent, and the perplexity of targets and predictions (`target_perplexity`,
    `predicted_perplexity`; a low one of the predictions: the network predicts the same few tokens everywhere). For
    latents, if the model has them: `alignment_cosine` with their targets, and `latent_std`, which falls to 0 if all
    targets become equal.
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


def _check_vocabulary(model: Network, tokenizer: Target) -> None:
    width, wanted = model.vocab_size, tokenizer.vocab_size
    if width is not None and wanted is not None and width != wanted:
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


def _mask(batch: Batch, grid: Sequence[int]) -> paddle.Tensor:
    """Masks of a batch, bool (B, rows, columns)."""
    index = batch["masked_index"]
    ones = paddle.ones(index.shape, "int32")
    mask = paddle.put_along_axis(paddle.zeros([index.shape[0], grid[0] * grid[1]], "int32"), index, ones, 1)
    return mask.astype("bool").reshape([-1, *grid])
