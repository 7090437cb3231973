"""Random changes of colour."""

from typing import Any, Callable, Dict, List

import numpy as np
from PIL import Image, ImageEnhance

from plsc.data.transforms import check_range, map_images
from plsc.registry import TRANSFORMS

Sample = Dict[str, Any]
Change = Callable[[Image.Image], Image.Image]


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
            _enhance(kinds[name], rng.uniform(max(0.0, 1.0 - strength), 1.0 + strength))
            for name, strength in self.strengths.items()
            if strength > 0
        ]
        return [*changes, _rotate_hue(rng.uniform(-self.hue, self.hue))] if self.hue > 0 else changes


def _enhance(kind: Any, factor: float) -> Change:
    return lambda image: kind(image).enhance(factor)


def _rotate_hue(share: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        hue, saturation, value = image.convert("HSV").split()
        shift = int(share * 255) % 256
        hue = hue.point([(level + shift) % 256 for level in range(256)])
        return Image.merge("HSV", (hue, saturation, value)).convert("RGB")

    return change
