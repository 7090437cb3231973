"""Pictures in rows and columns with captions, as one image."""

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK, _SOFT = (255, 255, 255), (28, 32, 36), (100, 107, 115)
_GAP = 10
_LEAST_SIDE = 112  # smaller images are enlarged, pixel by pixel
# Anchors of cividis, which looks the same to everybody (Nunez et al., arXiv 1712.01662).
_HEAT = ((0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (200, 184, 102), (254, 232, 56))


def font(size: int) -> Any:
    """PIL's own font; old versions have it in one size only."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def heat(values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1], (H, W) -> colours from dark blue to yellow, uint8 (H, W, 3)."""
    at = np.linspace(0, 1, len(_HEAT))
    channels = [np.interp(values, at, [anchor[i] for anchor in _HEAT]) for i in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def overlay(image: np.ndarray, weights: np.ndarray, strength: float = 0.65) -> np.ndarray:
    """Weights of patches (h, w) as colors over an image uint8 (H, W, 3); the largest weight is the brightest."""
    scaled = (weights - weights.min()) / max(float(weights.max() - weights.min()), 1e-12)
    height, width = image.shape[:2]
    large = Image.fromarray((scaled * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    colours = heat(np.asarray(large) / 255.0).astype(np.float64)
    grey = image.astype(np.float64).mean(axis=2, keepdims=True)
    return (strength * colours + (1 - strength) * grey).round().astype(np.uint8)


def mark(image: np.ndarray, box: Tuple[int, int, int, int]) -> np.ndarray:
    """An image with a frame around (left, top, right, bottom)."""
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).rectangle(box, outline=(213, 94, 0), width=max(1, image.shape[0] // 100))
    return np.asarray(picture)


def sheet(
    rows: Sequence[Tuple[str, Sequence[np.ndarray]]],
    title: str,
    columns: Optional[Sequence[str]] = None,
    note: str = "",
) -> Image.Image:
    """Pictures in rows.

    Args:
        rows: Caption and images uint8 (H, W, 3) of each row, from the top.
        title: Above everything.
        columns: Captions of the columns.
        note: Under everything.
    """
    cell = max([_LEAST_SIDE, *(max(p.shape[:2]) for _, pictures in rows for p in pictures)])
    cell = min(cell, 256)
    small, large = font(15), font(20)
    left = _GAP * 2 + max([_width(caption, small) for caption, _ in rows] + [0])
    across = max(len(pictures) for _, pictures in rows)
    top = 54 + (24 if columns else 0)
    width = left + across * (cell + _GAP) + _GAP
    width = max(width, _width(title, large) + 3 * _GAP)
    notes = _wrapped(note, small, width - 3 * _GAP)
    canvas = Image.new("RGB", (width, top + len(rows) * (cell + _GAP) + 22 * len(notes) + _GAP), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, 14), title, _INK, large)
    for column, caption in enumerate(columns or ()):
        draw.text((left + column * (cell + _GAP), top - 22), _cut(caption, small, cell), _SOFT, small)
    for number, (caption, pictures) in enumerate(rows):
        y = top + number * (cell + _GAP)
        draw.text((_GAP, y + cell // 2 - 8), caption, _INK, small)
        for column, picture in enumerate(pictures):
            canvas.paste(_fitted(picture, cell), (left + column * (cell + _GAP), y))
    for line, text in enumerate(notes):
        draw.text((_GAP, canvas.height - 22 * (len(notes) - line) - 4), text, _SOFT, small)
    return canvas


def _fitted(picture: np.ndarray, cell: int) -> Image.Image:
    image = Image.fromarray(picture)
    factor = cell / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS)


def _width(text: str, face: Any) -> int:
    return int(face.getlength(text))


def _cut(text: str, face: Any, width: int) -> str:
    if _width(text, face) <= width:
        return text
    while text and _width(text + "...", face) > width:
        text = text[:-1]
    return text + "..."


def _wrapped(text: str, face: Any, width: int) -> List[str]:
    lines: List[str] = []
    for word in text.split():
        if lines and _width(f"{lines[-1]} {word}", face) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
