"""An encoder's tokens as features of the whole image."""

from typing import Any

import paddle

POOLINGS = ("mean", "cls", "tokens")


def pooled(encoder: Any, image: paddle.Tensor, pooling: str) -> paddle.Tensor:
    """Features of images.

    Args:
        encoder: Has `forward_features`, which gives tokens (B, 1 + N, D), the class token first, and `norm`.
        image: What it takes.
        pooling: `mean` of the patch tokens, normalised after the mean; `cls`: the class token, normalised; `tokens`:
            all of them, normalised.

    Returns:
        (B, D), or (B, 1 + N, D) for `tokens`.
    """
    tokens = encoder.forward_features(image)
    if pooling == "mean":
        return encoder.norm(tokens[:, 1:].mean(axis=1))
    return encoder.norm(tokens[:, 0] if pooling == "cls" else tokens)
