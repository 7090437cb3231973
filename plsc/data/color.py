"""Random color changes."""

from typing import Any, Callable, Dict, List, Optional

import numpy as np
from PIL import Image, ImageEnhance

from plsc.config.registry import TRANSFORMS
from plsc.data.fast_image import AnyImage, FastImage
from plsc.data.transforms import check_range, map_images

Sample = Dict[str, Any]
Change = Callable[[AnyImage], AnyImage]
Fast = Callable[[FastImage], FastImage]

_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13  # ImageFilter.SMOOTH


@TRANSFORMS.register()
class ColorJitter:
    """Randomly changes brightness, contrast, saturation and hue, in random order.

    The same as torchvision's ColorJitter. Brightness, contrast and saturation are each multiplied by a factor drawn
    uniformly from [max(0, 1 - x), 1 + x], where x is the strength.

    Args:
        brightness: Strength, at least 0; 0: no change.
        contrast: Strength, at least 0; 0: no change.
        saturation: Strength, at least 0; 0: no change.
        hue: Largest rotation of the hue, as a fraction of the color circle, in [0, 0.5].

    Raises:
        ValueError: If a strength is out of range.
    """

    def __init__(
        self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.0
    ) -> None:
        check_range("ColorJitter", "hue", hue, 0.0, 0.5)
        self.strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, strength in self.strengths.items():
            check_range("ColorJitter", name, strength, 0.0, float("inf"))
        self.hue = hue

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        changes = self._draw(rng)
        for place in rng.permutation(len(changes)):
            sample = map_images(sample, changes[place])
        return sample

    def _draw(self, rng: np.random.Generator) -> List[Change]:
        kinds = {
            "brightness": ImageEnhance.Brightness,
            "contrast": ImageEnhance.Contrast,
            "saturation": ImageEnhance.Color,
        }
        changes = [
            enhanced(kinds[name], rng.uniform(max(0.0, 1.0 - strength), 1.0 + strength))
            for name, strength in self.strengths.items()
            if strength > 0
        ]
        return [*changes, _rotate_hue(rng.uniform(-self.hue, self.hue))] if self.hue > 0 else changes


def enhanced(kind: Any, factor: float) -> Change:
    """Return a PIL enhancement, such as ImageEnhance.Color, that accepts any image."""
    return by_pillow(lambda image: kind(image).enhance(factor), lambda image: _blend(image, kind, factor))


def by_pillow(change: Callable[[Image.Image], Image.Image], fast: Optional[Fast] = None) -> Change:
    """Make a function of PIL images accept any image.

    Args:
        change: The function of PIL images.
        fast: The same function for `FastImage`; by default `change` is used through PIL.
    """

    def apply(image: AnyImage) -> AnyImage:
        if not isinstance(image, FastImage):
            return change(image)
        return image.by_pillow(change) if fast is None else fast(image)

    return apply


def _blend(image: FastImage, kind: Any, factor: float) -> FastImage:
    """Apply an enhancement by OpenCV: blend the image with its version at factor 0."""
    import cv2

    pixels = np.asarray(image)
    if kind is ImageEnhance.Brightness:
        return image.table((np.arange(256) * factor).clip(0, 255).astype(np.uint8))
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if kind is ImageEnhance.Contrast:
        mean = int(cv2.mean(grey)[0] + 0.5)
        return image.table((mean + factor * (np.arange(256) - mean)).clip(0, 255).astype(np.uint8))
    if kind is ImageEnhance.Color:
        return image.blend(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), factor)
    smooth = pixels.copy()  # Sharpness: PIL does not change the border
    smooth[1:-1, 1:-1] = cv2.filter2D(pixels, -1, _SMOOTH)[1:-1, 1:-1]
    return image.blend(smooth, factor)


def _rotate_hue(share: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        hue, saturation, value = image.convert("HSV").split()
        shift = int(share * 255) % 256
        hue = hue.point([(level + shift) % 256 for level in range(256)])
        return Image.merge("HSV", (hue, saturation, value)).convert("RGB")

    return by_pillow(change)
