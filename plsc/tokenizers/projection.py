"""Tokens without training: the nearest random code of a random projection (BEST-RQ, arXiv 2202.01855)."""

import numpy as np
import paddle

from plsc import checks
from plsc.config.registry import TOKENIZERS
from plsc.tokenizers.base import Batch, Target, patchify, tokenizer_image


@TOKENIZERS.register()
class RandomTokenizer(Target):
    """Assigns each patch the nearest of random codes, a baseline for trained tokenizers.

    Args:
        vocab_size: Number of codes.
        patch_size: Side of a patch of the second crop in pixels.
        code_dim: Width of projection and codes.
        seed: Seed of projection and codes.

    Raises:
        ValueError: If a number is out of range, or when called, if the patches do not fill the image.
    """

    kind = "ids"

    def __init__(self, vocab_size: int = 8192, patch_size: int = 8, code_dim: int = 16, seed: int = 0) -> None:
        checks.at_least(1, vocab_size=vocab_size, patch_size=patch_size, code_dim=code_dim)
        checks.at_least(0, seed=seed)
        self.vocab_size = vocab_size
        self.patch_size = patch_size
        rng = np.random.default_rng(seed)
        projection = rng.normal(size=(patch_size * patch_size * 3, code_dim)) / patch_size
        codes = rng.normal(size=(vocab_size, code_dim))
        self.projection = paddle.to_tensor(projection.astype("float32"))
        self.codes = paddle.to_tensor((codes / np.linalg.norm(codes, axis=1, keepdims=True)).astype("float32"))

    @paddle.no_grad()
    def __call__(self, batch: Batch) -> paddle.Tensor:
        """Second crops (B, 3, h, w) in [0, 1] -> token ids int64 (B, N)."""
        image = tokenizer_image(batch).astype("float32")
        if image.shape[2] % self.patch_size or image.shape[3] % self.patch_size:
            height, width = image.shape[2:]
            raise ValueError(
                f"Tokenizer.patch_size {self.patch_size} does not divide second crops of {height} x {width} pixels"
            )
        patches = patchify(image, self.patch_size, self.patch_size).flatten(2)
        centred = patches - patches.mean(axis=2, keepdim=True)
        return paddle.matmul(paddle.matmul(centred, self.projection), self.codes, transpose_y=True).argmax(axis=-1)
