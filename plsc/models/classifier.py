"""An encoder with a classification head: fine-tuning, probing, training from scratch."""

from typing import Literal

import paddle
from paddle import nn

from plsc.config.registry import MODELS
from plsc.models.vit import ViT
from plsc.nn.utils import freeze, set_training


@MODELS.register()
class Classifier(nn.Layer):
    """Classifies images with a head on pooled features of an encoder.

    CAE, `modeling_finetune.VisionTransformer`; its `fc_norm` is the encoder's final normalisation here, applied
    after the mean, so that an encoder moves from pre-training to fine-tuning without renaming.

    Args:
        encoder: Turns images into tokens, the class token first.
        head: Takes what pooling gives, returns logits (B, C).
        pooling: `cls`: class token (B, D); `mean`: mean of the patch tokens, normalised after the mean (B, D);
            `tokens`: all tokens (B, 1 + N, D), for an attentive head; `positioned_tokens`: the same with the
            position table added once more, as PLSC's attentive probes do.
        freeze_encoder: Train the head only; the encoder stays in inference mode and gets no gradient.

    Raises:
        ValueError: If head and pooling do not fit the encoder or each other.
    """

    def __init__(
        self,
        encoder: ViT,
        head: nn.Layer,
        pooling: Literal["cls", "mean", "tokens", "positioned_tokens"] = "mean",
        freeze_encoder: bool = False,
    ) -> None:
        super().__init__()
        width = getattr(head, "in_features", encoder.embed_dim)
        if width != encoder.embed_dim:
            raise ValueError(
                f"the head takes features of width {width}, the encoder gives {encoder.embed_dim}; "
                f"set Model.head.in_features to {encoder.embed_dim}"
            )
        tokens = pooling in ("tokens", "positioned_tokens")
        if getattr(head, "takes_tokens", tokens) != tokens:
            wanted = "tokens" if head.takes_tokens else "mean or cls"
            raise ValueError(f"pooling: {pooling} does not go with a {type(head).__name__}; set pooling to {wanted}")
        if pooling == "positioned_tokens" and encoder.pos_embed is None:
            raise ValueError("pooling: positioned_tokens needs an encoder with positions; set pooling to tokens")
        self.encoder = encoder
        self.head = head
        self.pooling = pooling
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            freeze(encoder)

    @property
    def num_layers(self) -> int:
        """How many depths `layer_index` tells apart."""
        return self.encoder.num_layers

    def layer_index(self, name: str) -> int:
        """The depth of a parameter, for layer-wise learning rates; the head is as deep as the encoder's last norm."""
        if name.startswith("encoder."):
            return self.encoder.layer_index(name[len("encoder.") :])
        return self.num_layers - 1

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """Images, float (B, C, H, W) -> logits (B, classes)."""
        return self.head(self.forward_features(image))

    def forward_features(self, image: paddle.Tensor) -> paddle.Tensor:
        """Images -> what the head takes."""
        if not self.freeze_encoder:
            return self._pool(self.encoder.forward_features(image))
        if self.encoder.training:  # the whole model was put into training mode
            set_training(self.encoder, False)
        with paddle.no_grad():
            return self._pool(self.encoder.forward_features(image))

    def _pool(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """Tokens before the encoder's final normalisation (B, 1 + N, D) -> features."""
        norm = self.encoder.norm
        if self.pooling == "cls":
            return norm(tokens[:, 0])
        if self.pooling == "mean":
            return norm(tokens[:, 1:].mean(axis=1))
        if self.pooling == "tokens":
            return norm(tokens)
        return norm(tokens) + self.encoder.pos_embed
