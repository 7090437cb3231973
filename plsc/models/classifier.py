"""An encoder with a classification head: fine-tuning, probing, training from scratch."""

from typing import Literal

import paddle

from plsc.config import contract
from plsc.config.registry import MODELS
from plsc.models.encoder import Encoder
from plsc.models.heads import Head
from plsc.models.vit import ViT
from plsc.nn.network import Network
from plsc.nn.utils import freeze, set_training


@MODELS.register()
class Classifier(Network):
    """Classifies images by a head on pooled features of an encoder.

    CAE, `modeling_finetune.VisionTransformer`; its `fc_norm` is the final normalization of the encoder here, applied
    after the mean, so that the weights of an encoder keep their names between pre-training and fine-tuning.

    Args:
        encoder: Gives tokens of images, the class token first.
        head: Takes the pooled features, returns logits (B, C).
        pooling: `cls`: class token (B, D); `mean`: mean of the patch tokens, normalized after the mean (B, D);
            `tokens`: all tokens (B, 1 + N, D), for an attentive head; `positioned_tokens`: the same with the
            position table added once more, as PLSC's attentive probes do.
        freeze_encoder: Train only the head; the encoder stays in inference mode and gets no gradient.

    Raises:
        ValueError: If encoder or head lack members of their base class, or do not fit each other or the pooling.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: Head,
        pooling: Literal["cls", "mean", "tokens", "positioned_tokens"] = "mean",
        freeze_encoder: bool = False,
    ) -> None:
        super().__init__()
        contract.derived(encoder, Encoder)
        contract.derived(head, Head)
        if head.in_features != encoder.embed_dim:
            raise ValueError(
                f"the head takes features of width {head.in_features}, the encoder gives {encoder.embed_dim}; "
                f"set Model.head.in_features to {encoder.embed_dim}"
            )
        tokens = pooling in ("tokens", "positioned_tokens")
        if head.takes_tokens != tokens:
            wanted = "tokens" if head.takes_tokens else "mean or cls"
            raise ValueError(f"pooling: {pooling} does not go with a {type(head).__name__}; set pooling to {wanted}")
        if pooling == "positioned_tokens" and (not isinstance(encoder, ViT) or encoder.pos_embed is None):
            raise ValueError("pooling: positioned_tokens needs an encoder with positions; set pooling to tokens")
        self.encoder = encoder
        self.head = head
        self.pooling = pooling
        self.freeze_encoder = freeze_encoder
        self.image_size, self.num_classes = encoder.image_size, head.num_classes
        self.num_layers: int = encoder.num_layers
        if freeze_encoder:
            freeze(encoder)

    def layer_index(self, name: str) -> int:
        """Depth of a parameter, for layer-wise learning rates; the head has that of the encoder's last norm."""
        if name.startswith("encoder."):
            return self.encoder.layer_index(name[len("encoder.") :])
        return self.num_layers - 1

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """Images, float (B, C, H, W) -> logits (B, classes)."""
        return self.head(self.forward_features(image))

    def forward_features(self, image: paddle.Tensor) -> paddle.Tensor:
        """Images -> input of the head."""
        if not self.freeze_encoder:
            return self._pool(self.encoder.forward_features(image))
        if self.encoder.training:  # the whole model was put into training mode
            set_training(self.encoder, False)
        with paddle.no_grad():
            return self._pool(self.encoder.forward_features(image))

    def _pool(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """Tokens before the encoder's final normalization (B, 1 + N, D) -> features."""
        norm = self.encoder.norm
        if self.pooling == "cls":
            return norm(tokens[:, 0])
        if self.pooling == "mean":
            return norm(tokens[:, self.encoder.num_prefix_tokens :].mean(axis=1))
        if self.pooling == "tokens":
            return norm(tokens)
        return norm(tokens) + self.encoder.pos_embed
