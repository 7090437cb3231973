"""Base class of targets, and helpers for it. A target turns the images of a batch into what a model predicts."""

from typing import Any, Dict, Literal, Optional, Tuple

import paddle

from plsc.config import contract
from plsc.config.registry import TOKENIZERS

Batch = Dict[str, paddle.Tensor]


class Target:
    """Targets of the patches of a batch: token ids, or values such as pixels.

    Attributes:
        kind: `ids`: the targets are token ids; `values`: they are real numbers.
        vocab_size: Number of tokens, for `ids`.
        width: Values per patch P, for `values`.
        image_key: Entry of the batch that the targets describe.
    """

    _required: Tuple[str, ...] = ("kind", "__call__")

    kind: Literal["ids", "values"]
    vocab_size: Optional[int] = None
    width: Optional[int] = None
    image_key: str = "target_image"

    def __call__(self, batch: Batch) -> paddle.Tensor:
        """Targets of all patches, row-major: ids int64 (B, N), or values float (B, N, P)."""
        raise NotImplementedError

    def decode(self, targets: paddle.Tensor, batch: Batch) -> Optional[paddle.Tensor]:
        """Images (B, 3, h, w) of targets, in the range of `batch[image_key]`; None if they cannot be shown."""
        return None


def check_target(target: Any) -> None:
    """Raise ValueError for a component that is not a complete `Target`."""
    contract.derived(target, Target)
    name = type(target).__name__
    if target.kind not in ("ids", "values"):
        raise ValueError(f"{name}.kind must be 'ids' or 'values', got {target.kind!r}")
    size = "vocab_size" if target.kind == "ids" else "width"
    if (target.vocab_size if target.kind == "ids" else target.width) is None:
        raise ValueError(f"{name} gives {target.kind}, but its {size} is None; set {size} in its constructor")


TOKENIZERS.require(check_target)


def tokenizer_image(batch: Batch) -> paddle.Tensor:
    """The second crop of a batch, float (B, 3, h, w) in [0, 1].

    Raises:
        ValueError: If the batch does not have it, or it is not scaled yet.
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
