"""Pixels as targets."""

from typing import Any, Literal, Sequence, Tuple

import numpy as np
import paddle

from plsc import checks
from plsc.config.registry import TOKENIZERS
from plsc.nn.utils import tensor_of
from plsc.tokenizers.base import Batch, Target, patchify, unpatchify


@TOKENIZERS.register()
class PixelTarget(Target):
    """Pixels of each patch, with one of four normalizations (PLSC, `target_mode rgb`).

    Args:
        patch_size: Side of a patch in pixels.
        normalize: `layernorm`: each patch to mean 0 and variance 1 (eps inside the root, biased variance); `patch`:
            the same with the unbiased variance; `channel`: each color of each patch, unbiased, eps outside the root;
            `none`.
        denorm: Undo the normalization of the image first, so that pixels are in [0, 1].
        mean: Mean of that normalization.
        std: Standard deviation of that normalization.

    Raises:
        ValueError: If a number is out of range.
    """

    kind = "values"
    image_key = "image"

    def __init__(
        self,
        patch_size: int = 16,
        normalize: Literal["layernorm", "none", "channel", "patch"] = "layernorm",
        denorm: bool = False,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        checks.at_least(1, patch_size=patch_size)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std take three numbers, those of std above 0, got {list(mean)} and {list(std)}")
        if patch_size == 1 and normalize == "channel":
            raise ValueError("normalize: channel needs more than the one pixel of patch_size 1")
        self.patch_size = patch_size
        self.width = patch_size * patch_size * 3
        self.normalize = normalize
        self.denorm = denorm
        self.mean, self.std = list(mean), list(std)

    @paddle.no_grad()
    def __call__(self, batch: Batch) -> paddle.Tensor:
        """Images of the encoder (B, 3, H, W), normalized -> (B, N, P * P * 3), channels last within a patch.

        Raises:
            ValueError: If the patches do not fill the image.
        """
        image = batch["image"]
        if image.shape[2] % self.patch_size or image.shape[3] % self.patch_size:
            height, width = image.shape[2:]
            raise ValueError(
                f"Tokenizer.patch_size {self.patch_size} does not divide images of {height} x {width} pixels"
            )
        if self.denorm:
            shape = [1, -1, 1, 1]
            mean, std = (tensor_of(v, image.dtype).reshape(shape) for v in (self.mean, self.std))
            image = image * std + mean
        pixels = patchify(image, self.patch_size, self.patch_size)  # (B, N, P * P, 3)
        mean, scale = self._moments(pixels)
        return ((pixels - mean) / scale).flatten(2)

    @paddle.no_grad()
    def decode(self, targets: paddle.Tensor, batch: Batch) -> paddle.Tensor:
        """Images (B, 3, H, W) in the range of `batch["image"]` from targets (B, N, P * P * 3).

        Mean and deviation of each patch, which the normalization removes, are taken from that image.
        """
        image = batch["image"]
        normalized = patchify(image, self.patch_size, self.patch_size)
        stretch, shift = 1.0, 0.0
        if self.denorm:
            stretch, shift = (tensor_of(values, image.dtype) for values in (self.std, self.mean))
        mean, scale = self._moments(normalized * stretch + shift)
        pixels = (targets.reshape(normalized.shape) * scale + mean - shift) / stretch
        return unpatchify(pixels, self.patch_size, tuple(image.shape[2:]))

    def _moments(self, pixels: paddle.Tensor) -> Tuple[Any, Any]:
        """Mean and scale of the normalization of pixels (B, N, P * P, 3)."""
        if self.normalize == "none":
            return 0.0, 1.0
        axes = [2] if self.normalize == "channel" else [2, 3]
        mean = pixels.mean(axis=axes, keepdim=True)
        count = np.prod([pixels.shape[axis] for axis in axes]) - (0 if self.normalize == "layernorm" else 1)
        variance = (pixels - mean).square().sum(axis=axes, keepdim=True) / float(count)
        if self.normalize == "channel":
            return mean, variance.sqrt() + 1e-6
        return mean, (variance + 1e-6).sqrt()
