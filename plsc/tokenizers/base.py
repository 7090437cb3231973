"""What tokenizers share. A tokenizer turns the images of a batch into the targets of the pretext task."""

from typing import Dict, Tuple

import paddle

Batch = Dict[str, paddle.Tensor]


def tokenizer_image(batch: Batch) -> paddle.Tensor:
    """The second crop of a batch, float (B, 3, h, w) in [0, 1].

    Raises:
        ValueError: If the batch has none, or it is not scaled yet.
    """
    if "target_image" not in batch:
        raise ValueError(
            "this tokenizer needs the second crop, target_image; use the transform TwoSizeCrop "
            "and the batch transform {name: ToFloat, key: target_image}"
        )
    image = batch["target_image"]
    if not image.is_floating_point():
        raise ValueError(
            "target_image is not scaled to [0, 1]; add the batch transform {name: ToFloat, key: target_image}"
        )
    return image


def patchify(image: paddle.Tensor, height: int, width: int) -> paddle.Tensor:
    """(B, C, H, W) -> (B, N, P * Q, C) for patches of P x Q pixels, row-major."""
    batch, channels = image.shape[:2]
    rows, columns = image.shape[2] // height, image.shape[3] // width
    x = image.reshape([batch, channels, rows, height, columns, width]).transpose([0, 2, 4, 3, 5, 1])
    return x.reshape([batch, rows * columns, height * width, channels])


def unpatchify(patches: paddle.Tensor, side: int, size: Tuple[int, int]) -> paddle.Tensor:
    """(B, N, P * P, C), as `patchify` gives them for square patches, -> (B, C, H, W)."""
    batch, channels = patches.shape[0], patches.shape[-1]
    rows, columns = size[0] // side, size[1] // side
    x = patches.reshape([batch, rows, columns, side, side, channels]).transpose([0, 5, 1, 3, 2, 4])
    return x.reshape([batch, channels, *size])
