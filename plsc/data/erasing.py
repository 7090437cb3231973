"""Random erasing: a rectangle of noise in some images of a batch."""

import math
from typing import Optional, Tuple

import numpy as np

from plsc.config.registry import BATCH_TRANSFORMS
from plsc.data.batch_transforms import Batch, BatchTransform
from plsc.data.transforms import check_range
from plsc.nn.utils import tensor_of

_ATTEMPTS = 10


@BATCH_TRANSFORMS.register()
class RandomErasing(BatchTransform):
    """Replaces a rectangle in some images by standard normal noise, one value for each pixel and channel.

    Zhong et al., arXiv 1708.04896, in timm's `pixel` mode with one rectangle per image. It works on batches after
    Normalize, because the noise has the distribution of normalized pixels. It uses the random numbers of the step:
    those of the images would need `index`, and reading it back from the device would block in every step.

    Args:
        probability: Probability that an image gets a rectangle.
        min_area: Smallest fraction of the image's area.
        max_area: Largest fraction of the image's area.
        min_aspect: Smallest height / width; the largest is its inverse. The logarithm is uniform.

    Raises:
        ValueError: If an argument is out of range.
    """

    augments = True

    def __init__(
        self, probability: float = 0.25, min_area: float = 0.02, max_area: float = 1 / 3, min_aspect: float = 0.3
    ) -> None:
        check_range("RandomErasing", "probability", probability, 0.0, 1.0)
        check_range("RandomErasing", "min_aspect", min_aspect, 0.01, 1.0)
        if not 0 < min_area <= max_area <= 1:
            raise ValueError(
                f"RandomErasing: needs 0 < min_area <= max_area <= 1, got min_area {min_area} and max_area {max_area}"
            )
        self.probability, self.min_area, self.max_area = probability, min_area, max_area
        self.min_aspect = min_aspect

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Erase parts of `image`, float (B, 3, H, W).

        Raises:
            ValueError: If the images are not normalized yet.
        """
        image = batch["image"]
        if not image.is_floating_point():
            raise ValueError(f"RandomErasing: images are {image.dtype}; put Normalize before it")
        size, channels, height, width = image.shape
        image = image.clone()
        for place in np.flatnonzero(rng.random(size) < self.probability).tolist():
            box = self.draw_box(height, width, rng)
            if box is not None:
                top, left, high, wide = box
                noise = rng.standard_normal((channels, high, wide), dtype=np.float32)
                image[place, :, top : top + high, left : left + wide] = tensor_of(noise, image.dtype)
        return {**batch, "image": image}

    def draw_box(self, height: int, width: int, rng: np.random.Generator) -> Optional[Tuple[int, int, int, int]]:
        """Draw a rectangle smaller than the image, (top, left, height, width); None if ten draws were too large."""
        border = math.log(self.min_aspect)
        for _ in range(_ATTEMPTS):
            area = height * width * rng.uniform(self.min_area, self.max_area)
            aspect = math.exp(rng.uniform(border, -border))
            high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if high < height and wide < width:
                top = int(rng.integers(0, height - high, endpoint=True))
                return top, int(rng.integers(0, width - wide, endpoint=True)), high, wide
        return None
