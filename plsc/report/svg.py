"""Charts as SVG text. Colors are CSS variables, so that the same chart works in light and dark pages."""

import math
from dataclasses import dataclass
from html import escape
from typing import List, Optional, Sequence, Tuple

import numpy as np

COLOURS = 7  # --c0 ... --c6
_WIDTH, _HEIGHT = 400, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 12, 34
_MOST_POINTS = 240


@dataclass
class Series:
    """A line of a chart.

    Attributes:
        name: Name in the tooltip.
        x: Ascending values.
        y: Values, as many as `x`; values that are not finite are not drawn.
        colour: Index of the color; lines beyond the palette are dashed.
        thin: Draw a thin line, to distinguish two lines of the same color.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    thin: bool = False


def line_chart(series: Sequence[Series], x_label: str, label: str) -> str:
    """Return a chart of lines with a common x axis.

    Args:
        series: Lines, at least one, with at least one finite value in total.
        x_label: Label of the x axis.
        label: Description of the chart for screen readers.
    """
    kept = [_finite(one) for one in series]
    x_axis = _Axis([np.zeros(1), *(x for x, _ in kept)], _LEFT, _WIDTH - _RIGHT, tight=True)
    y_axis = _Axis([y for _, y in kept], _HEIGHT - _BOTTOM, _TOP)
    body = _grid(x_axis, y_axis, x_label)
    for one, (xs, ys) in zip(series, kept):
        if len(xs):
            body += _line(one, x_axis.place(xs), y_axis.place(ys), xs, ys)
    return _svg(_WIDTH, _HEIGHT, label, body)


def colour(number: int) -> str:
    """Return the CSS color of a series or class."""
    return f"var(--c{number % COLOURS})"


def short(value: float) -> str:
    """Return a number as short text."""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.2g}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _finite(series: Series) -> Tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    keep = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(keep) > _MOST_POINTS:
        keep = keep[np.linspace(0, len(keep) - 1, _MOST_POINTS).astype(int)]
    return x[keep], y[keep]


class _Axis:
    """Scale from values to pixels with round ticks; a `tight` axis ends at the data."""

    def __init__(self, values: Sequence[np.ndarray], start: float, end: float, tight: bool = False) -> None:
        every = np.concatenate(list(values))
        low, high = float(every.min()), float(every.max())
        if high - low < 1e-12 * max(abs(high), 1e-6):
            margin = abs(high) * 0.1 or 1.0
            low, high = low - margin, high + margin
        step = _round_step((high - low) / 4)
        self.low = low if tight else math.floor(low / step) * step
        self.high = high if tight else math.ceil(high / step - 1e-9) * step
        first = math.ceil(self.low / step - 1e-9)
        self.ticks = [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        self.start, self.end = start, end

    def place(self, values: np.ndarray) -> np.ndarray:
        return self.start + (np.asarray(values) - self.low) / (self.high - self.low) * (self.end - self.start)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)


def _grid(x_axis: _Axis, y_axis: _Axis, x_label: str) -> str:
    parts = []
    for tick, y in zip(y_axis.ticks, y_axis.place(np.array(y_axis.ticks))):
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="end">{_tick(tick)}</text>')
    for tick, x in zip(x_axis.ticks, x_axis.place(np.array(x_axis.ticks))):
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" class="mid soft">{_tick(tick)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 3}" class="mid soft">{escape(x_label)}</text>')
    return "".join(parts)


def _tick(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-3 else f"{value:,.6g}"


def _line(series: Series, px: np.ndarray, py: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(px, py))
    dash = ' stroke-dasharray="6 3"' if series.colour >= COLOURS else ""
    paint = colour(series.colour)
    css = "line thin" if series.thin else "line"
    parts = [f'<path d="{path}" class="{css}" stroke="{paint}"{dash}/>']
    marked = len(px) <= 30 and not series.thin
    for x, y, at, value in zip(px, py, xs, ys):
        title = f"<title>{escape(series.name)}: {short(value)} at {short(at)}</title>"
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{paint}">{title}</circle>'
        parts.append(dot if marked else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="hit">{title}</circle>')
    return "".join(parts)


def scatter(points: np.ndarray, labels: np.ndarray, classes: Sequence[str], label: str) -> str:
    """Return a chart of points colored by class, with the name of each class at the median of its points.

    Args:
        points: Points, float (N, 2).
        labels: Class of each point, int (N,).
        classes: Names of the classes.
        label: Description of the chart for screen readers.
    """
    size, margin = 400, 16
    low, high = np.percentile(points, [0.5, 99.5], axis=0)  # outliers would compress all other points
    scaled = np.clip((points - low) / np.maximum(high - low, 1e-12), 0, 1) * (size - 2 * margin) + margin
    scaled[:, 1] = size - scaled[:, 1]
    present = np.unique(labels)
    parts, names = [], []
    for number in present:
        own = scaled[labels == number]
        dots = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in own)
        # color and shape distinguish the first 14 classes
        shape = "dots square" if int(number) // COLOURS % 2 else "dots"
        parts.append(f'<path d="{dots}" class="{shape}" stroke="{colour(int(number))}"/>')
        x, y = np.median(own, axis=0)
        if len(present) <= 40:
            text = escape(classes[number])
            names.append(f'<text x="{x:.0f}" y="{y + 5:.0f}" class="mid name">{text}</text>')
    return _svg(size, size, label, "".join(parts + names))


def matrix(counts: np.ndarray, classes: Sequence[str], label: str) -> str:
    """Return a confusion matrix; correct predictions have one color, wrong ones another.

    Args:
        counts: Number of images, int (C, C); rows are true classes.
        classes: Names of the classes.
        label: Description of the chart for screen readers.
    """
    count = len(classes)
    cell = max(14.0, min(36.0, 400 / count))
    names = [name if len(name) <= 10 else name[:9] + "…" for name in classes]
    left = 24 + 7.5 * max(map(len, names))
    top = 24 + 7.5 * (max(map(len, names)) if max(map(len, names)) > 2 else 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    parts = [f'<text x="{left + count * cell / 2:.0f}" y="12" class="mid soft">predicted</text>']
    parts.append(_turned(10, top + count * cell / 2, "true", "mid soft"))
    for i in range(count):
        centre = (i + 0.5) * cell
        parts.append(f'<text x="{left - 5:.1f}" y="{top + centre + 4:.1f}" class="end">{escape(names[i])}</text>')
        parts.append(_above(left + centre, top - 5, names[i]))
        for j in range(count):
            parts.append(_cell(left + j * cell, top + i * cell, cell, counts, shares, classes, (i, j)))
    return _svg(left + count * cell + 6, top + count * cell + 6, label, "".join(parts))


def _above(x: float, y: float, name: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="mid">{escape(name)}</text>'
        if len(name) <= 2
        else (_turned(x + 4, y, name, "start"))
    )


def _turned(x: float, y: float, text: str, css: str) -> str:
    return f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" class="{css}">{escape(text)}</text>'


def _cell(
    x: float,
    y: float,
    size: float,
    counts: np.ndarray,
    shares: np.ndarray,
    classes: Sequence[str],
    place: Tuple[int, int],
) -> str:
    i, j = place
    share, count = float(shares[i, j]), int(counts[i, j])
    paint = "var(--right)" if i == j else "var(--wrong)"
    strength = 0.0 if not count else 0.15 + 0.85 * (share if i == j else min(1.0, share * 4))
    title = f"true {escape(classes[i])}, predicted {escape(classes[j])}: {count} image(s) ({share:.1%} of the class)"
    rect = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size - 1:.1f}" height="{size - 1:.1f}" rx="2" class="cell"/>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size - 1:.1f}" height="{size - 1:.1f}" rx="2" fill="{paint}" '
        f'fill-opacity="{strength:.2f}"><title>{title}</title></rect>'
    )
    if not count or size < 20:
        return rect
    css = "mid small on" if strength > 0.7 else "mid small"
    return rect + f'<text x="{x + size / 2 - 0.5:.1f}" y="{y + size / 2 + 4:.1f}" class="{css}">{count}</text>'


def reliability(bins: np.ndarray, label: str) -> str:
    """Return a chart of accuracy by confidence, with the diagonal of perfect calibration.

    Args:
        bins: Number of images, mean confidence and accuracy, float (bins, 3), from plsc.evaluation.classification.
        label: Description of the chart for screen readers.
    """
    unit = np.array([0.0, 1.0])
    x_axis, y_axis = _Axis([unit], _LEFT, _WIDTH - _RIGHT, True), _Axis([unit], _HEIGHT - _BOTTOM, _TOP)
    body = _grid(x_axis, y_axis, "confidence") + f'<path class="diagonal" d="M{_LEFT} {_HEIGHT - _BOTTOM}'
    body += f'L{_WIDTH - _RIGHT} {_TOP}"/>'
    width = (_WIDTH - _RIGHT - _LEFT) / len(bins)
    most = max(float(bins[:, 0].max()), 1.0)
    for number, (count, _, accuracy) in enumerate(bins):
        if count:
            top, base = float(y_axis.place(np.array(accuracy))), _HEIGHT - _BOTTOM
            title = f"{int(count)} images with confidence up to {(number + 1) / len(bins):.0%}: accuracy {accuracy:.1%}"
            body += (
                f'<rect x="{_LEFT + number * width + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" '
                f'height="{max(base - top, 1):.1f}" fill="var(--c0)" fill-opacity="{0.35 + 0.65 * count / most:.2f}">'
                f"<title>{title}</title></rect>"
            )
    return _svg(_WIDTH, _HEIGHT, label, body)


def _svg(width: float, height: float, label: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}" '
        f'style="max-width:{max(width * 1.4, 460):.0f}px">{body}</svg>'
    )


def legend(names: Sequence[str], numbers: Optional[Sequence[int]] = None) -> str:
    """Return a list of names with their colors."""
    chosen: List[int] = list(range(len(names))) if numbers is None else list(numbers)
    items = "".join(
        f'<li><i style="background:{colour(number)}"{" class=dashed" if number >= COLOURS else ""}></i>'
        f"{escape(name)}</li>"
        for name, number in zip(names, chosen)
    )
    return f'<ul class="legend">{items}</ul>'
