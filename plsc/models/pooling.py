"""Features of whole images from the tokens of an encoder."""

import paddle

from plsc.models.encoder import Encoder

POOLINGS = ("mean", "cls", "tokens")


def pooled(encoder: Encoder, image: paddle.Tensor, pooling: str) -> paddle.Tensor:
    """Features of images.

    Args:
        encoder: Gives tokens (B, prefix + N, D), the class token first.
        image: Float (B, C, H, W), normalized.
        pooling: `mean` of the patch tokens, normalized after the mean; `cls`: the class token, normalized; `tokens`:
            all tokens, normalized.

    Returns:
        (B, D), or (B, prefix + N, D) for `tokens`.
    """
    tokens = encoder.forward_features(image)
    if pooling == "mean":
        return encoder.norm(tokens[:, encoder.num_prefix_tokens :].mean(axis=1))
    return encoder.norm(tokens[:, 0] if pooling == "cls" else tokens)
