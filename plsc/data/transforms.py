"""Transforms of one sample, `(sample, rng) -> sample`: crops, flips, sizes.

A sample's images are PIL images, or `FastImage`s with the same methods. All random numbers come from `rng`. A transform
changes every image of the sample in the same way, except for the random crops, which read `image` only.
"""

import math
from typing import Any, Callable, Dict, Literal, Optional, Tuple, Union

import numpy as np
from PIL import Image

from plsc.config.registry import TRANSFORMS
from plsc.data.fast_image import AnyImage, FastImage
from plsc.data.images import LIMIT, ImageSizeError, pixel_limit

Sample = Dict[str, Any]
Size = Union[int, Tuple[int, int]]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Region = Tuple[int, int, int, int]  # left, top, width, height
Box = Tuple[int, int, int, int]  # left, top, right, bottom

_ATTEMPTS = 10
_MOST_BETWEEN = 2**25  # pixels of an intermediate image; only images with extreme aspect ratios need more
_SUPPORT = 3  # radius in pixels of the widest filter, lanczos
_RATIOS = (1e-3, 1e3)


def map_images(sample: Sample, change: Callable[[AnyImage], AnyImage]) -> Sample:
    """Apply `change` to each image of a sample."""
    images = (Image.Image, FastImage)
    return {key: change(value) if isinstance(value, images) else value for key, value in sample.items()}


@TRANSFORMS.register()
class RandomHorizontalFlip:
    """Mirrors the images left to right with a given probability.

    Args:
        probability: Probability of the flip, in [0, 1].
    """

    def __init__(self, probability: float = 0.5) -> None:
        check_range("RandomHorizontalFlip", "probability", probability, 0.0, 1.0)
        self.probability = probability

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.probability:
            return sample
        return map_images(sample, lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


class RandomRegion:
    """Draws a random region by its area and aspect ratio.

    Args:
        scale: Smallest and largest fraction of the image's area, in (0, 1].
        ratio: Smallest and largest width / height; drawn log-uniformly.
        fit: Treatment of a region larger than the image. `retry`: draw again, up to ten times, then take the largest
            central region (timm, torchvision). `clamp`: cut it to the image (the reference's linear probe).

    Raises:
        ValueError: If `scale` or `ratio` is not ascending or out of range.
    """

    def __init__(
        self, scale: Tuple[float, float], ratio: Tuple[float, float], fit: Literal["retry", "clamp"] = "retry"
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be two fractions of the area, 0 < least <= greatest <= 1, got {list(scale)}")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be two values of width / height, 0 < least <= greatest, got {list(ratio)}")
        check_range("ratio", "its least value", ratio[0], *_RATIOS)
        check_range("ratio", "its greatest value", ratio[1], *_RATIOS)
        self.scale, self.ratio, self.fit = (scale[0], scale[1]), (ratio[0], ratio[1]), fit

    def __call__(self, width: int, height: int, rng: np.random.Generator) -> Region:
        """Draw a region (left, top, width, height) of a `width` x `height` image."""
        for _ in range(_ATTEMPTS):
            wide, high = self._draw(width * height, rng)
            if self.fit == "clamp":
                wide, high = min(wide, width), min(high, height)
            if 0 < wide <= width and 0 < high <= height:
                left = int(rng.integers(0, width - wide, endpoint=True))
                return left, int(rng.integers(0, height - high, endpoint=True)), wide, high
        return self._central(width, height)

    def _draw(self, area: int, rng: np.random.Generator) -> Tuple[int, int]:
        target = area * rng.uniform(*self.scale)
        aspect = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        return round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))

    def _central(self, width: int, height: int) -> Region:
        wide, high = width, height
        if width / height < self.ratio[0]:
            high = max(1, round(width / self.ratio[0]))
        elif width / height > self.ratio[1]:
            wide = max(1, round(height * self.ratio[1]))
        return (width - wide) // 2, (height - high) // 2, wide, high


@TRANSFORMS.register()
class RandomResizedCrop:
    """Crops a random region and resizes it.

    Args:
        size: Size of the result in pixels: one number for a square, or [height, width].
        scale: Smallest and largest fraction of the image's area, in (0, 1].
        ratio: Smallest and largest width / height of the region.
        interpolation: Filter of the resizing.
        fit: Regions larger than the image: `retry` as in fine-tuning, or `clamp` as in the reference's linear probe.
    """

    def __init__(
        self,
        size: Size = 224,
        scale: Tuple[float, float] = (0.08, 1.0),
        ratio: Tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: Interpolation = "bicubic",
        fit: Literal["retry", "clamp"] = "retry",
    ) -> None:
        self.size = _width_height("RandomResizedCrop", size)
        self.region = RandomRegion(scale, ratio, fit)
        self.interpolation = interpolation

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        image = sample["image"]
        region = self.region(image.width, image.height, rng)
        return {**sample, "image": crop_and_resize(image, region, self.size, self.interpolation)}


@TRANSFORMS.register()
class TwoSizeCrop:
    """Crops one random region and resizes it twice: `image` for the encoder, `target_image` for the tokenizer.

    CAE, arXiv 2202.03026, section 4.1; reference: RandomResizedCropAndInterpolationWithTwoPic.

    Args:
        size: Size of `image` in pixels: one number for a square, or [height, width].
        second_size: Size of `target_image`.
        scale: Smallest and largest fraction of the image's area, in (0, 1].
        ratio: Smallest and largest width / height of the region.
        interpolation: Filter for `image`.
        second_interpolation: Filter for `target_image`.
    """

    def __init__(
        self,
        size: Size = 224,
        second_size: Size = 112,
        scale: Tuple[float, float] = (0.08, 1.0),
        ratio: Tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: Interpolation = "bicubic",
        second_interpolation: Interpolation = "lanczos",
    ) -> None:
        self.size = _width_height("TwoSizeCrop", size)
        self.second_size = _width_height("TwoSizeCrop", second_size)
        self.region = RandomRegion(scale, ratio)
        self.interpolation = interpolation
        self.second_interpolation = second_interpolation

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        image = sample["image"]
        region = self.region(image.width, image.height, rng)
        first = crop_and_resize(image, region, self.size, self.interpolation)
        if isinstance(image, FastImage):
            second = first.resize(self.second_size, _filter(self.second_interpolation))
        else:
            second = crop_and_resize(image, region, self.second_size, self.second_interpolation)
        return {**sample, "image": first, "target_image": second}


@TRANSFORMS.register()
class Resize:
    """Resizes the images.

    Args:
        size: Size in pixels: [height, width]; or one number for the shorter side, which keeps the aspect ratio.
        interpolation: Filter of the resizing.
    """

    def __init__(self, size: Size, interpolation: Interpolation = "bicubic") -> None:
        _width_height("Resize", size)
        self.size = size
        self.interpolation = interpolation

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        def change(image: AnyImage) -> AnyImage:
            size = _shorter_side(image, self.size) if isinstance(self.size, int) else (self.size[1], self.size[0])
            return image if image.size == size else resize(image, size, self.interpolation)

        return map_images(sample, change)


@TRANSFORMS.register()
class CenterCrop:
    """Resizes the shorter side to crop size / `crop_ratio`, then crops the center.

    Of very thin images, which would be huge after the resizing, only the region of the crop is resized.

    Args:
        size: Size of the result in pixels: one number for a square, or [height, width].
        crop_ratio: Crop size / shorter side after resizing; usually 224 / 256 at 224 px and 1.0 from 384 px on.
            null: crop without resizing.
        interpolation: Filter of the resizing.

    Raises:
        ValueError: When called, if the image is smaller than the crop.
    """

    def __init__(
        self, size: Size = 224, crop_ratio: Optional[float] = 0.875, interpolation: Interpolation = "bicubic"
    ) -> None:
        self.width, self.height = _width_height("CenterCrop", size)
        if crop_ratio is not None:
            check_range("CenterCrop", "crop_ratio", crop_ratio, 0.01, 1.0)
        self.crop_ratio = crop_ratio
        self.interpolation = interpolation

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return map_images(sample, self._crop)

    def _crop(self, image: AnyImage) -> AnyImage:
        width, height = image.size
        if self.crop_ratio is not None:
            width, height = _shorter_side(image, int(max(self.width, self.height) / self.crop_ratio))
        if width < self.width or height < self.height:
            raise ValueError(
                f"the image has {width} x {height} pixels, smaller than the crop of {self.width} x "
                f"{self.height}; set crop_ratio, or put a Resize before it"
            )
        left, top = round((width - self.width) / 2), round((height - self.height) / 2)
        part = (left, top, left + self.width, top + self.height)
        if self.crop_ratio is None:
            return image.crop(part)
        if width * height > _MOST_BETWEEN:
            return _part_of_resized(image, (width, height), part, self.interpolation)
        return resize(image, (width, height), self.interpolation).crop(part)


def crop_and_resize(image: AnyImage, region: Region, size: Tuple[int, int], interpolation: str) -> AnyImage:
    """Crop a region and resize it.

    The region is cropped first, as in the reference: resizing with a box would let the filter read pixels outside.

    Args:
        image: Image of any size.
        region: (left, top, width, height) in pixels.
        size: (width, height) of the result.
        interpolation: Name of a filter.
    """
    left, top, width, height = region
    return resize(image.crop((left, top, left + width, top + height)), size, interpolation)


def resize(image: AnyImage, size: Tuple[int, int], interpolation: str) -> AnyImage:
    """Resize an image, with bounded memory.

    Args:
        image: Image of any size.
        size: (width, height) of the result.
        interpolation: Name of a filter.

    Raises:
        ImageSizeError: If the result would have more pixels than an image may have.
    """
    width, height = size
    limit = pixel_limit()
    if limit is not None and width * height > limit:
        raise ImageSizeError(
            f"{image.width:,} x {image.height:,} pixels would become {width:,} x {height:,}, but the limit is "
            f"{limit:,} pixels; remove the image, crop it before the resizing, or set {LIMIT} in the environment"
        )
    if isinstance(image, Image.Image) and width * image.height > _MOST_BETWEEN and height < image.height:
        image = image.resize((image.width, height), _filter(interpolation))  # Pillow would resize the width first
    return image.resize(size, _filter(interpolation))


def _part_of_resized(image: AnyImage, size: Tuple[int, int], part: Box, interpolation: str) -> AnyImage:
    """Compute `image.resize(size).crop(part)`, within one gray level, without the whole resized image.

    Pillow does this for both decoders; it resizes from a box with fractional coordinates.
    """
    scales = (image.width / size[0], image.height / size[1]) * 2
    box = [edge * scale for edge, scale in zip(part, scales)]
    reach = [math.ceil(_SUPPORT * max(scale, 1.0)) + 1 for scale in scales]
    left, top = (max(0, math.floor(box[axis]) - reach[axis]) for axis in (0, 1))
    right, bottom = (min(image.size[axis], math.ceil(box[2 + axis]) + reach[axis]) for axis in (0, 1))
    # relative to the crop: Pillow stores boxes as float32, which is exact for small values only
    inner = (box[0] - left, box[1] - top, min(box[2] - left, right - left), min(box[3] - top, bottom - top))
    target = (part[2] - part[0], part[3] - part[1])

    def change(cut: Image.Image) -> Image.Image:
        return cut.resize(target, _filter(interpolation), inner)

    cut = image.crop((left, top, right, bottom))
    return cut.by_pillow(change) if isinstance(cut, FastImage) else change(cut)


def check_range(component: str, argument: str, value: float, least: float, greatest: float) -> None:
    """Raise ValueError unless least <= value <= greatest."""
    if not least <= value <= greatest:
        raise ValueError(f"{component}: {argument} must be in [{least}, {greatest}], got {value}")


def _filter(name: str) -> Image.Resampling:
    return Image.Resampling[name.upper()]


def _width_height(component: str, size: Size) -> Tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"{component}: a size must be at least 1 pixel, got {size}")
    return width, height


def _shorter_side(image: AnyImage, length: int) -> Tuple[int, int]:
    """(width, height) for a shorter side of `length`; the longer side is rounded down, as in torchvision."""
    if image.width <= image.height:
        return length, int(length * image.height / image.width)
    return int(length * image.width / image.height), length
