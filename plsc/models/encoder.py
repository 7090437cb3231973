"""Base class of encoders that give tokens."""

from typing import List, Optional, Tuple

import paddle
from paddle import nn

from plsc.config import contract
from plsc.config.registry import MODELS
from plsc.nn.network import Network


class Encoder(Network):
    """A network from images to tokens, which can be pre-trained, probed, exported and drawn.

    Attributes:
        embed_dim: Width D of the tokens.
        image_size: Height and width of the images in pixels.
        patch_size: Height and width of a patch in pixels.
        grid_size: Rows and columns of patches; their product is N.
        num_prefix_tokens: Number of tokens before those of the patches; the first is the class token.
        num_layers: Number of depths that `layer_index` distinguishes.
        blocks: Layers that follow each other; each one returns tokens (B, prefix + N, D).
        norm: Normalization after the last block.
    """

    _required: Tuple[str, ...] = ("embed_dim", "image_size", "patch_size", "grid_size", "num_prefix_tokens")
    _required += ("num_layers", "blocks", "norm", "forward_features")

    embed_dim: int
    image_size: Tuple[int, int]
    patch_size: Tuple[int, int]
    grid_size: Tuple[int, int]
    num_prefix_tokens: int
    num_layers: int
    blocks: nn.LayerList
    norm: nn.Layer

    @property
    def encoder(self) -> "Encoder":
        """The encoder itself."""
        return self

    def forward(self, image: paddle.Tensor, visible_index: Optional[paddle.Tensor] = None) -> paddle.Tensor:
        """Encode images, or some of their patches.

        Args:
            image: Float (B, C, H, W), normalized.
            visible_index: Row-major positions of the patches to encode, int64 (B, V); by default all N.

        Returns:
            Normalized tokens, (B, prefix + N, D) or (B, prefix + V, D).
        """
        return self.norm(self.forward_features(image, visible_index))

    def forward_features(self, image: paddle.Tensor, visible_index: Optional[paddle.Tensor] = None) -> paddle.Tensor:
        """Tokens as in `forward`, before the final normalization."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward_features(image, visible_index)")

    def last_blocks(self, image: paddle.Tensor, count: int) -> List[paddle.Tensor]:
        """Tokens after each of the last `count` blocks, all with the final normalization, the last block last.

        Args:
            image: Float (B, C, H, W), normalized.
            count: From 1 to the number of blocks.

        Returns:
            List of `count` tensors (B, prefix + N, D).
        """
        outputs: List[paddle.Tensor] = []
        hooks = [block.register_forward_post_hook(lambda _, __, y: outputs.append(y)) for block in self.blocks[-count:]]
        try:
            self.forward_features(image)
        finally:
            for hook in hooks:
                hook.remove()
        return [self.norm(x) for x in outputs]


def check_model(model: nn.Layer) -> None:
    """Raise ValueError if a layer lacks a member that its base class requires."""
    contract.provides(model, nn.Layer)


MODELS.require(check_model)
