"""Patch embedding: image to one token per patch."""

from typing import Optional, Tuple

import paddle
from paddle import nn

from plsc.nn.functional import linear


def gather_tokens(tokens: paddle.Tensor, index: paddle.Tensor) -> paddle.Tensor:
    """Gather tokens by index per sample: (B, N, D), int64 (B, M) -> (B, M, D)."""
    batch, count, width = tokens.shape
    rows = index + paddle.arange(batch, dtype=index.dtype).unsqueeze(1) * count
    return paddle.gather(tokens.reshape([batch * count, width]), rows.flatten()).reshape([batch, -1, width])


class PatchEmbed(nn.Layer):
    """Divides an image into patches and maps each patch linearly to a token.

    The weights have the layout of a convolution with stride = kernel size. It is computed as a matmul, so that only
    the requested patches are computed.

    Args:
        image_size: Height and width in pixels.
        patch_size: Height and width of a patch in pixels.
        in_channels: Number of image channels C.
        embed_dim: Token width D.

    Raises:
        ValueError: If the image size is not a multiple of the patch size.
    """

    def __init__(
        self, image_size: Tuple[int, int], patch_size: Tuple[int, int], in_channels: int, embed_dim: int
    ) -> None:
        super().__init__()
        if image_size[0] % patch_size[0] or image_size[1] % patch_size[1]:
            raise ValueError(
                f"image_size {image_size} is not a multiple of patch_size {patch_size}; "
                "change one of them so that patches fill the height and the width"
            )
        self.image_size = image_size
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.grid_size = (image_size[0] // patch_size[0], image_size[1] // patch_size[1])
        self.proj = nn.Conv2D(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    @property
    def num_patches(self) -> int:
        """Number of patches N of an image."""
        return self.grid_size[0] * self.grid_size[1]

    def forward(self, image: paddle.Tensor, index: Optional[paddle.Tensor] = None) -> paddle.Tensor:
        """Embed patches.

        Args:
            image: Float (B, C, H, W).
            index: Row-major positions of the patches to embed, int64 (B, M); by default all N.

        Returns:
            Tokens (B, N, D) or (B, M, D).

        Raises:
            ValueError: If the image is not float, or has another size or number of channels than the model.
        """
        if not image.is_floating_point():
            raise ValueError(f"images are {image.dtype}, not float; add the batch transform {{name: Normalize}}")
        if image.shape[1] != self.in_channels:
            raise ValueError(
                f"the model was built for images of {self.in_channels} channels, got {image.shape[1]}; "
                f"set Model's in_channels to {image.shape[1]}"
            )
        if tuple(image.shape[2:]) != self.image_size:
            raise ValueError(
                f"the model was built for images of {self.image_size} (height, width), got {tuple(image.shape[2:])}; "
                "change the crop size of the transforms or Model's image_size"
            )
        patches = self._patches(image)
        if index is not None:
            patches = gather_tokens(patches, index)
        weight = self.proj.weight.flatten(1).t()  # (D, C, p, p) -> (C p p, D)
        return linear(patches, weight, self.proj.bias)

    def _patches(self, image: paddle.Tensor) -> paddle.Tensor:
        """Split into patches, in the order of the weights: (B, C, H, W) -> (B, N, C p p)."""
        batch, channels = image.shape[:2]
        (rows, columns), (height, width) = self.grid_size, self.patch_size
        image = image.reshape([batch, channels, rows, height, columns, width])
        return image.transpose([0, 2, 4, 1, 3, 5]).reshape([batch, rows * columns, channels * height * width])
