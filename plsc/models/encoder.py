"""Base class of encoders that give tokens."""

from typing import Tuple

from paddle import nn


class Encoder(nn.Layer):
    """A network from images to tokens.

    Attributes:
        embed_dim: Width of the tokens.
        image_size: Height and width of the images in pixels.
        grid_size: Rows and columns of patches.
    """

    embed_dim: int
    image_size: Tuple[int, int]
    grid_size: Tuple[int, int]
