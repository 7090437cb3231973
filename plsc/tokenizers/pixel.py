"""Pixels as targets."""

from typing import Literal, Sequence, Tuple

import paddle

from plsc.registry import TOKENIZERS
from plsc.tokenizers.base import Batch, patchify


@TOKENIZERS.register()
class PixelTarget:
    """The pixels of each patch, normalised in one of four ways (PLSC, `target_mode rgb`).

    Args:
        patch_size: Side of a patch in pixels.
        normalize: `layernorm`: each patch to mean 0 and variance 1 (eps inside the root, biased variance); `patch`:
            the same with the unbiased variance; `channel`: each colour of each patch, unbiased, eps outside the root;
            `none`.
        denorm: Undo the normalisation of the image first, so that pixels are in [0, 1].
        mean: Of that normalisation.
        std: Of that normalisation.

    Raises:
        ValueError: If the patch size is not positive.
    """

    vocab_size = None

    def __init__(
        self,
        patch_size: int = 16,
        normalize: Literal["layernorm", "none", "channel", "patch"] = "layernorm",
        denorm: bool = False,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        if patch_size < 1:
            raise ValueError(f"patch_size must be at least 1, got {patch_size}")
        self.patch_size = patch_size
        self.normalize = normalize
        self.denorm = denorm
        self.mean, self.std = list(mean), list(std)

    @paddle.no_grad()
    def __call__(self, batch: Batch) -> paddle.Tensor:
        """The encoder's images (B, 3, H, W), normalised -> (B, N, P * P * 3), channels last within a patch.

        Raises:
            ValueError: If the patches do not fill the image.
        """
        image = batch["image"]
        if image.shape[2] % self.patch_size or image.shape[3] % self.patch_size:
            raise ValueError(
                f"Tokenizer.patch_size {self.patch_size} does not divide images of {image.shape[2:]} pixels"
            )
        if self.denorm:
            shape = [1, -1, 1, 1]
            mean, std = (paddle.to_tensor(v, dtype=image.dtype).reshape(shape) for v in (self.mean, self.std))
            image = image * std + mean
        pixels = patchify(image, self.patch_size, self.patch_size)  # (B, N, P * P, 3)
        if self.normalize == "none":
            return pixels.flatten(2)
        if self.normalize == "channel":
            centred, variance = _moments(pixels, unbiased=True)
            return (centred / (variance.sqrt() + 1e-6)).flatten(2)
        centred, variance = _moments(pixels.flatten(2), unbiased=self.normalize == "patch")
        return centred / (variance + 1e-6).sqrt()


def _moments(values: paddle.Tensor, unbiased: bool) -> Tuple[paddle.Tensor, paddle.Tensor]:
    """Values minus their mean over axis 2, and their variance there."""
    centred = values - values.mean(axis=2, keepdim=True)
    count = values.shape[2] - (1 if unbiased else 0)
    return centred, centred.square().sum(axis=2, keepdim=True) / float(count)
