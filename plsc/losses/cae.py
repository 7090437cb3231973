"""Loss of CAE (context autoencoder): prediction of the masked targets plus alignment of their latents."""

from typing import Dict, Literal

import paddle
from paddle import nn
from paddle.nn import functional as F

from plsc.config.registry import LOSSES
from plsc.losses.precision import at_least_float32


def alignment_loss(predicted: paddle.Tensor, target: paddle.Tensor, kind: str = "mse") -> paddle.Tensor:
    """Distance between predicted and encoded latents of the masked patches.

    CAE, arXiv 2202.03026, section 3; no gradient flows into `target`.

    Args:
        predicted: Regressor output, (B, M, D), float.
        target: Teacher latents of the same patches, (B, M, D).
        kind: `mse`: mean squared error; `kld`: Kullback-Leibler divergence of the softmax over channels, averaged
            over all B * M * D elements as in PLSC.

    Returns:
        Scalar, float32 under every AMP level.

    Raises:
        ValueError: If the shapes differ.
    """
    if list(predicted.shape) != list(target.shape):
        raise ValueError(
            f"predicted latents have shape {list(predicted.shape)}, but their targets {list(target.shape)}; "
            "the shapes must be equal"
        )
    predicted, target = at_least_float32(predicted), at_least_float32(target).detach()
    if kind == "mse":
        return F.mse_loss(predicted, target)
    return F.kl_div(F.log_softmax(predicted, axis=-1), F.softmax(target, axis=-1), reduction="mean")


@LOSSES.register()
class CAELoss(nn.Layer):
    """Cross-entropy of the masked tokens, or squared error of the masked pixels, plus weighted alignment of latents.

    CAE, arXiv 2202.03026, section 3, equation 3; `engine_for_pretraining.train_one_epoch`.

    Args:
        alignment_weight: Factor of the alignment loss.
        alignment: Distance of latents: `mse`, or `kld` of their softmax.
        main: Prediction loss: `cross_entropy` for token ids, `mse` for pixels.

    Raises:
        ValueError: If the weight is negative.
    """

    def __init__(
        self,
        alignment_weight: float = 2.0,
        alignment: Literal["mse", "kld"] = "mse",
        main: Literal["cross_entropy", "mse"] = "cross_entropy",
    ) -> None:
        super().__init__()
        if alignment_weight < 0:
            raise ValueError(f"alignment_weight must not be negative, got {alignment_weight}")
        self.alignment_weight = alignment_weight
        self.alignment = alignment
        self.main = main

    def forward(self, outputs: Dict[str, paddle.Tensor], targets: paddle.Tensor) -> Dict[str, paddle.Tensor]:
        """Compute the losses of the masked patches.

        Args:
            outputs: Outputs of the model CAE: `logits` (B, M, K), `latent` and `latent_target` (B, M, D).
            targets: Targets of the same patches: token ids, int64 (B, M), or pixels, float (B, M, K).

        Returns:
            Scalars, float32 under every AMP level: `loss`; and its parts before weighting, `loss_main` and
            `loss_align`.

        Raises:
            ValueError: If the shape of the targets does not fit the predictions.
        """
        loss_main = self._prediction_loss(outputs["logits"], targets)
        loss_align = alignment_loss(outputs["latent"], outputs["latent_target"], self.alignment)
        loss = loss_main + self.alignment_weight * loss_align
        return {"loss": loss, "loss_main": loss_main, "loss_align": loss_align}

    def _prediction_loss(self, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        wanted = list(logits.shape) if self.main == "mse" else list(logits.shape[:2])
        if list(targets.shape) != wanted:
            raise ValueError(
                f"main: {self.main} compares predictions {list(logits.shape)} with targets {wanted}, got "
                f"{list(targets.shape)}; for token ids set main: cross_entropy, for pixels set main: mse and "
                "Model.vocab_size to the number of values per patch"
            )
        logits = at_least_float32(logits)
        if self.main == "mse":
            return F.mse_loss(logits, targets.astype(logits.dtype))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
