"""Transforms of a batch on its device, `(batch, rng) -> batch`."""

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import paddle

from plsc.config import contract
from plsc.config.registry import BATCH_TRANSFORMS
from plsc.nn.utils import tensor_of

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Batch = Dict[str, paddle.Tensor]


class BatchTransform:
    """A change of a batch on its device.

    Attributes:
        augments: True: random augmentation, which only a training loader should have. False: part of the
            preprocessing, which predictions, exported models and `FrozenProbe` repeat.
        key: The entry of the batch that it prepares. Predictions have only `image`, so a transform of another entry
            is left out there.
    """

    _required: Tuple[str, ...] = ("augments", "__call__")

    augments: bool
    key: str = "image"

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Return the changed batch; `rng` is the generator of the step."""
        raise NotImplementedError


def check_batch_transform(transform: Any) -> None:
    """Raise ValueError for a component that is not a complete `BatchTransform`."""
    contract.derived(transform, BatchTransform)


def preparing(transforms: Sequence[BatchTransform]) -> List[BatchTransform]:
    """The transforms that belong to the preprocessing of `image`, in their order."""
    return [transform for transform in transforms if not transform.augments and transform.key == "image"]


BATCH_TRANSFORMS.require(check_batch_transform)


@BATCH_TRANSFORMS.register()
class ToFloat(BatchTransform):
    """Scales pixels from 0..255 to [0, 1].

    Args:
        key: Entry of the batch, uint8 (B, 3, H, W); becomes float32.
    """

    augments = False

    def __init__(self, key: str = "target_image") -> None:
        self.key = key

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return {**batch, self.key: pixels(batch, self.key, "ToFloat").astype("float32") / 255.0}


@BATCH_TRANSFORMS.register()
class Normalize(BatchTransform):
    """Normalizes pixels in 0..255 to zero mean and unit standard deviation, by channel.

    Args:
        mean: Mean of each channel, for pixels in [0, 1]; ImageNet's by default.
        std: Standard deviation of each channel.
        key: Entry of the batch, uint8 (B, 3, H, W); becomes float32.

    Raises:
        ValueError: If they are not of one or three channels, a deviation is not positive, or one is above 1.
    """

    augments = False

    def __init__(
        self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD, key: str = "image"
    ) -> None:
        if len(mean) not in (1, 3) or len(std) not in (1, 3) or min(std) <= 0:
            raise ValueError(
                "Normalize: mean and std are one number or three, of red, green and blue, and those of std are above "
                f"0, got mean {list(mean)}, std {list(std)}"
            )
        if not (min(mean) >= 0 and max(mean) <= 1 and max(std) <= 1):
            raise ValueError(
                "Normalize: mean and std are of pixels in [0, 1]; divide numbers for pixels in 0..255 by 255, got mean "
                f"{list(mean)}, std {list(std)}"
            )
        self.mean, self.std, self.key = tuple(mean), tuple(std), key

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        unit = pixels(batch, self.key, "Normalize").astype("float32") / 255.0
        mean, std = (tensor_of(values, "float32").reshape([-1, 1, 1]) for values in (self.mean, self.std))
        return {**batch, self.key: (unit - mean) / std}


def pixels(batch: Batch, key: str, component: str) -> paddle.Tensor:
    """The uint8 images `batch[key]`.

    Raises:
        ValueError: If the batch does not have that key, or the images are not uint8.
    """
    if key not in batch:
        raise ValueError(f"{component}: the batch has no {key!r}; it has {', '.join(sorted(batch))}")
    images = batch[key]
    if images.dtype != paddle.uint8:
        raise ValueError(f"{component}: {key!r} is {images.dtype}, not uint8; convert it only once, by one transform")
    return images
