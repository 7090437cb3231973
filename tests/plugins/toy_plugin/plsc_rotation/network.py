"""A small convolutional network, which plsc does not have."""

import paddle
from paddle import nn

from plsc.config.registry import MODELS
from plsc.nn.network import Network


@MODELS.register()
class ConvEncoder(nn.Layer):
    """Three strided convolutions and a mean over positions.

    Args:
        width: Channels of the first convolution; each further one doubles them.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width]
        blocks = [
            nn.Sequential(nn.Conv2D(before, after, 3, stride=2, padding=1), nn.BatchNorm2D(after), nn.ReLU())
            for before, after in zip(widths, widths[1:])
        ]
        self.blocks = nn.Sequential(*blocks)
        self.embed_dim = widths[-1]

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """(B, 3, H, W) -> (B, 4 * width)."""
        return self.blocks(image).mean(axis=[2, 3])


@MODELS.register()
class RotationNet(Network):
    """An encoder and a linear layer with one output for each of four rotations.

    Args:
        encoder: Takes images (B, 3, H, W), returns features (B, `embed_dim`).
    """

    def __init__(self, encoder: nn.Layer) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.embed_dim, 4)

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """(B, 3, H, W) -> (B, 4)."""
        return self.head(self.encoder(image))
