"""Random changes of colour."""

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
    """Changes brightness, contrast, saturation and hue, in random order.

    As torchvision does it. Each of the first three is multiplied by a factor from [max(0, 1 - x), 1 + x].

    Args:
        brightness: Strength x, at least 0; 0: none.
        contrast: Likewise.
        saturation: Likewise.
        hue: Greatest rotation of the hue, as a share of the circle, in [0, 0.5].

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
    """One of PIL's enhancements, such as ImageEnhance.Color, of any image."""
    return by_pillow(lambda image: kind(image).enhance(factor), lambda image: _blend(image, kind, factor))


def by_pillow(change: Callable[[Image.Image], Image.Image], fast: Optional[Fast] = None) -> Change:
    """A change of PIL images as one of any image.

    Args:
        change: What PIL does.
        fast: The same for a `FastImage`; without it, PIL does it there as well.
    """

    def apply(image: AnyImage) -> AnyImage:
        if not isinstance(image, FastImage):
            return change(image)
        return image.by_pillow(change) if fast is None else fast(image)

    return apply


def _blend(image: FastImage, kind: Any, factor: float) -> FastImage:
    """An enhancement by OpenCV: the image against what it would be at factor 0."""
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
    smooth = pixels.copy()  # Sharpness: PIL leaves the border as it is
    smooth[1:-1, 1:-1] = cv2.filter2D(pixels, -1, _SMOOTH)[1:-1, 1:-1]
    return image.blend(smooth, factor)


def _rotate_hue(share: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        hue, saturation, value = image.convert("HSV").split()
        shift = int(share * 255) % 256
        hue = hue.point([(level + shift) % 256 for level in range(256)])
        return Image.merge("HSV", (hue, saturation, value)).convert("RGB")

    return by_pillow(change)
