"""RandAugment (arXiv 1909.13719) as in timm; used by the fine-tuning recipes."""

import math
import re
from typing import Any, Callable, Dict, List, Literal, Sequence, Tuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from plsc.config.registry import TRANSFORMS
from plsc.data.batch_transforms import IMAGENET_MEAN
from plsc.data.color import Change, by_pillow, enhanced
from plsc.data.fast_image import AnyImage, FastImage
from plsc.data.transforms import map_images

Sample = Dict[str, Any]
Warp = Dict[str, Any]  # interpolation, and fill color of pixels from outside the image
Operation = Callable[[float, np.random.Generator, Warp], Change]

_HIGHEST = 10.0


@TRANSFORMS.register()
class RandAugment:
    """RandAugment: random color and geometric operations, each applied with probability 1/2.

    RandAugment, arXiv 1909.13719, as implemented in timm: operations are drawn with replacement from the fifteen
    operations of timm's increasing set.

    Args:
        policy: In timm's notation: m is the magnitude in [0, 10], mstd its standard deviation, n the number of
            operations per image (default 2), and inc1 the increasing set of operations, the only one implemented.
        interpolation: Filter of rotation, shear and translation; `random`: bilinear or bicubic.
        fill: Color of pixels from outside the image, three values in [0, 1]; by default ImageNet's mean.

    Raises:
        ValueError: If the policy is not valid, or `fill` is not three values in [0, 1].
    """

    def __init__(
        self,
        policy: str = "rand-m9-mstd0.5-inc1",
        interpolation: Literal["bilinear", "bicubic", "random"] = "bicubic",
        fill: Sequence[float] = IMAGENET_MEAN,
    ) -> None:
        self.num_operations, self.magnitude, self.deviation = _read_policy(policy)
        names = ("bilinear", "bicubic") if interpolation == "random" else (interpolation,)
        self.filters = [Image.Resampling[name.upper()] for name in names]
        if len(fill) != 3 or not all(0 <= channel <= 1 for channel in fill):
            raise ValueError(f"RandAugment: fill must be three values in [0, 1] (red, green, blue), got {list(fill)}")
        self.fill = tuple(min(255, round(255 * channel)) for channel in fill)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for name in rng.choice(sorted(OPERATIONS), self.num_operations):
            if rng.random() < 0.5:
                warp = {"resample": self.filters[rng.integers(len(self.filters))], "fillcolor": self.fill}
                level = min(_HIGHEST, max(0.0, rng.normal(self.magnitude, self.deviation))) / _HIGHEST
                sample = map_images(sample, OPERATIONS[name](level, rng, warp))
        return sample


def _read_policy(policy: str) -> Tuple[int, float, float]:
    """Parse a policy in timm's notation: (operations per image, magnitude, its standard deviation)."""
    kind, *parts = policy.split("-")
    matches = [re.fullmatch(r"(m|mstd|n|inc)(\d+(?:\.\d+)?)", part) for part in parts]
    if kind != "rand" or not all(matches):
        raise ValueError(
            f"RandAugment: the policy {policy!r} is not of the form rand-m9-mstd0.5-inc1 (m: magnitude, mstd: its "
            "standard deviation, n: operations per image, inc1: the increasing set)"
        )
    values = {match[1]: float(match[2]) for match in matches if match}
    if values.get("inc") != 1:
        raise ValueError(f"RandAugment: the policy {policy!r} must end in -inc1; the other set is not implemented")
    number, magnitude = values.get("n", 2.0), values.get("m", _HIGHEST)
    if magnitude > _HIGHEST or number != int(number):
        raise ValueError(f"RandAugment: in the policy {policy!r} m must be at most 10 and n a whole number")
    return int(number), magnitude, values.get("mstd", 0.0)


def _signed(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value


def _without_level(change: Callable[[Image.Image], Image.Image]) -> Operation:
    return lambda level, rng, warp: by_pillow(change)


def _enhanced(kind: Any) -> Operation:
    def operation(level: float, rng: np.random.Generator, warp: Warp) -> Change:
        return enhanced(kind, 1.0 + _signed(0.9 * level, rng))

    return operation


def _posterize(level: float, rng: np.random.Generator, warp: Warp) -> Change:
    kept = 256 - 2 ** (
        4 + int(4 * level)
    )  # from the four highest bits down to 0 bits, which ImageOps.posterize refuses
    return _table([value & kept for value in range(256)])


def _solarize(level: float, rng: np.random.Generator, warp: Warp) -> Change:
    threshold = 256 - int(256 * level)
    return _table([value if value < threshold else 255 - value for value in range(256)])


def _solarize_add(level: float, rng: np.random.Generator, warp: Warp) -> Change:
    added = int(110 * level)
    return _table([min(255, value + added) if value < 128 else value for value in range(256)])


def _table(values: List[int]) -> Change:
    """Return a change that maps each value by a lookup table."""
    return by_pillow(lambda image: image.point(values * 3), lambda image: image.table(np.array(values, dtype=np.uint8)))


def _rotate(level: float, rng: np.random.Generator, warp: Warp) -> Change:
    degrees = _signed(30.0 * level, rng)
    fill = warp["fillcolor"]
    return by_pillow(lambda image: image.rotate(degrees, **warp), lambda image: _turned(image, degrees, fill))


def _turned(image: FastImage, degrees: float, fill: Tuple[int, ...]) -> FastImage:
    """Rotate about the center by an affine warp."""
    angle = -math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    x, y = image.width / 2, image.height / 2
    matrix = (cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y)
    return image.warp(matrix, fill)


def _affine(strength: float, matrix: Callable[[float, AnyImage], Tuple[float, ...]]) -> Operation:
    """Return an affine operation: output (x, y) is input (a x + b y + c, d x + e y + f), amount +-strength * level."""

    def operation(level: float, rng: np.random.Generator, warp: Warp) -> Change:
        amount = _signed(strength * level, rng)
        return by_pillow(
            lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix(amount, image), **warp),
            lambda image: image.warp(matrix(amount, image), warp["fillcolor"]),
        )

    return operation


OPERATIONS: Dict[str, Operation] = {
    "AutoContrast": _without_level(ImageOps.autocontrast),
    "Brightness": _enhanced(ImageEnhance.Brightness),
    "Color": _enhanced(ImageEnhance.Color),
    "Contrast": _enhanced(ImageEnhance.Contrast),
    "Equalize": _without_level(ImageOps.equalize),
    "Invert": _without_level(ImageOps.invert),
    "Posterize": _posterize,
    "Rotate": _rotate,
    "Sharpness": _enhanced(ImageEnhance.Sharpness),
    "ShearX": _affine(0.3, lambda amount, image: (1, amount, 0, 0, 1, 0)),
    "ShearY": _affine(0.3, lambda amount, image: (1, 0, 0, amount, 1, 0)),
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "TranslateX": _affine(0.45, lambda amount, image: (1, 0, amount * image.width, 0, 1, 0)),
    "TranslateY": _affine(0.45, lambda amount, image: (1, 0, 0, 0, 1, amount * image.height)),
}
