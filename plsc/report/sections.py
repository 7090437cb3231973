"""Sections of a report as HTML. All text from the files of a run passes through `escape`."""

import base64
import io
import re
from html import escape
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
from PIL import Image

from plsc.config.tree import one_line
from plsc.report import svg
from plsc.report.examination import Examination, Example
from plsc.report.measured import (
    SHORT_NAMES,
    best,
    comparable,
    deciding_split,
    in_percent,
    is_detail,
    lower_is_better,
    main_metric,
    name_of,
    ranked,
)
from plsc.runs.history import changes
from plsc.runs.reader import Run

_ENGINE = ("lr", "grad_norm", "images_per_second", "skipped_steps", "data_wait")
_MATRIX_CLASSES = 30
_PAUSE = 60.0  # seconds between two rows of metrics that count as an interruption


def seconds(run: Run) -> float:
    """Return the seconds from the first row of metrics to the last, without interruptions."""
    times = np.sort([row["time"] for rows in run.rows.values() for row in rows if "time" in row])
    gaps = np.diff(times)
    if not len(gaps):
        return 0.0
    return float(gaps[gaps <= max(_PAUSE, 10 * float(np.median(gaps)))].sum())


def duration(length: float) -> str:
    """Return a text for a duration in seconds."""
    if length < 90:
        return f"{length:.0f} s"
    return f"{length / 60:.1f} min" if length < 5400 else f"{length / 3600:.1f} h"


def headline(runs: Sequence[Run]) -> str:
    """Return the summary cards: best result, length, duration, speed and device."""
    cards: List[Tuple[str, str]] = []
    group = comparable(runs)[0]
    metric = main_metric(group[0])
    if metric:
        value, name = (min if lower_is_better(metric) else max)((best(run, metric)[0], run.name) for run in group)
        unit = "%" if in_percent(metric) else ""
        of = f"best of {len(group)}: {name}" if len(group) > 1 else name
        cards.append((f"{svg.short(value)}{unit}", f"{name_of(metric).replace(', %', '')}, {of}"))
    epochs, steps = sum(_last(run, "epoch") for run in runs), sum(int(_last(run, "step")) for run in runs)
    where = f" in {len(runs)} runs" if len(runs) > 1 else ""
    cards.append((svg.short(epochs), f"epochs of training{where}, {steps:,} steps"))
    cards.append((duration(sum(map(seconds, runs))), "duration of training and evaluation"))
    speeds = [value for run in runs for value in run.series("train", "images_per_second")[1]]
    if speeds:
        cards.append((svg.short(float(np.median(speeds))), "images per second in training, median"))
    if runs[0].environment:
        device, paddle, plsc = (str(runs[0].environment.get(key, "?")) for key in ("device", "paddle", "plsc"))
        cards.append((device, f"Paddle {paddle}, plsc {plsc}"))
    shown = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in cards)
    return f"<div class=cards>{shown}</div>"


def _last(run: Run, key: str) -> float:
    return float(max((row[key] for rows in run.rows.values() for row in rows[-1:]), default=0))


def results(runs: Sequence[Run]) -> str:
    """Return tables of the evaluations, the best run first; empty if no run was evaluated."""
    tables = [_result_table(group) for group in comparable(runs) if main_metric(group[0])]
    return f"<h2 id=results>Results</h2>{''.join(tables)}" if tables else ""


def _result_table(runs: Sequence[Run]) -> str:
    metric = main_metric(runs[0])
    deciding = {run.name: deciding_split(run) for run in runs}
    names = dict.fromkeys(name for run in runs for split, name in run.metrics() if split == deciding[run.name])
    others = [name for name in names if name != metric and not is_detail(name, metric)]
    top = 100.0 if in_percent(metric) else max(abs(best(run, metric)[0]) for run in runs) or 1.0
    rows, compared = [], len(runs) > 1
    colours = {run.name: svg.colour(number) for number, run in enumerate(runs)}
    for run in ranked(runs):
        value, epoch = best(run, metric)
        width = max(100 * abs(value) / top, 1)
        css = "n top" if not rows else "n"
        bar = f"<div style='width:{width:.1f}%;background:{colours[run.name]}'></div>"
        last = [run.series(deciding[run.name], name)[1][-1:] for name in (metric, *others)]
        cells = [svg.short(epoch), *(svg.short(found[0]) if found else "–" for found in last)]
        rows.append(
            f"<tr><td class=wrap>{escape(run.name)}</td><td class='{css}'>{svg.short(value)}</td>"
            + f"<td class=bar>{bar}</td>" * compared
            + "".join(f"<td class=n>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    short, *shorts = (SHORT_NAMES.get(name, name_of(name)) for name in (metric, *others))
    names = [f"best {short}", *[""] * compared, "at epoch", f"last {short}", *shorts]
    header = "".join(f"<th class=n>{escape(name)}</th>" for name in names)
    details = "".join(_details(run, metric) for run in ranked(runs))
    return f"<div class=scroll><table><tr><th>{_title(runs[0])}</th>{header}</tr>{''.join(rows)}</table></div>{details}"


def _details(run: Run, metric: str) -> str:
    """Return the last values of a metric for each part of a network, the best first; empty if there are no parts."""
    last = run.rows.get(deciding_split(run), [{}])[-1]
    found = [(name, value) for name, value in last.items() if is_detail(name, metric)]
    if not found:
        return ""
    found.sort(key=lambda item: item[1], reverse=not lower_is_better(metric))
    rows = "".join(
        f"<tr><td class=wrap>{escape(name[len(metric) + 1 :])}</td><td class=n>{svg.short(value)}</td></tr>"
        for name, value in found
    )
    title = f"{name_of(metric)}: each of the {len(found)} parts of {run.name}"
    return f"<details><summary>{escape(title)}</summary><table>{rows}</table></details>"


def _title(run: Run) -> str:
    return escape(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", run.kind).capitalize())


def curves(runs: Sequence[Run]) -> str:
    """Return charts of all metrics by epoch; runs of the same task share their charts."""
    parts = [
        "<h2 id=curves>Curves</h2><p class=soft>Each chart shows one metric by epoch. If a metric was measured in "
        "training and in evaluation, the thin line shows training and the thick line evaluation. Hover over a line for "
        "its values.</p>"
    ]
    for group in comparable(runs):
        own, engine = [], []
        main = main_metric(group[0])
        found = dict.fromkeys(name for run in group for _, name in run.metrics() if not is_detail(name, main))
        for metric in sorted(found, key=lambda metric: metric != main):
            (engine if metric in _ENGINE else own).append(_chart(group, metric))
        names = [run.name for run in group]
        who = svg.legend(names) if len(group) > 1 else f"<p class=soft>{escape(names[0])}</p>"
        parts.append(f"<h3 class=task>{_title(group[0])}</h3>{who}<div class=charts>{''.join(own)}</div>")
        if engine:
            more = "Learning rate, gradients and throughput"
            parts.append(f"<details><summary>{more}</summary><div class=charts>{''.join(engine)}</div></details>")
    return "".join(parts)


def _chart(group: Sequence[Run], metric: str) -> str:
    splits = dict.fromkeys(split for run in group for split in run.rows if (split, metric) in run.columns)
    lines = []
    for split in sorted(splits, key=lambda split: split != "train"):  # evaluation lines are drawn on top
        for number, run in enumerate(group):
            thin = split == "train" and len(splits) > 1
            lines.append(svg.Series(f"{run.name}, {split}", *run.series(split, metric), number, thin))
    if not any(np.isfinite(np.asarray(line.y, dtype=float)).any() for line in lines):
        return ""
    name = name_of(metric)
    return f"<figure class=card><h3>{escape(name)}</h3>{svg.line_chart(lines, 'epoch', f'{name} by epoch')}</figure>"


def damaged(runs: Sequence[Run]) -> str:
    """Return notes about files of the runs that could not be read."""
    return "".join(f"<p class=soft>{escape(run.name)}: {escape(note)}</p>" for run in runs for note in run.damaged)


def pictures(run: Run, most: int = 6) -> str:
    """Return at most `most` figures that a run has written during training; empty if there are none."""
    if not run.pictures:
        return ""
    chosen = np.unique(np.linspace(0, len(run.pictures) - 1, most).round().astype(int))
    parts = []
    for picture in (run.pictures[i] for i in chosen):
        rows = "".join(f"<span>{escape(name)}</span>" for name in picture.rows)
        source = "data:image/png;base64," + base64.b64encode(picture.path.read_bytes()).decode()
        parts.append(
            f"<figure class='card strip'><figcaption>after step {picture.step:,}</figcaption><div class=rows>"
            f'<div class=soft>{rows}</div><img class=pixels src="{source}" alt="figures of the run at this step">'
            "</div></figure>"
        )
    return f"<h2>Figures from training: {escape(run.name)}</h2><div class=strips>{''.join(parts)}</div>"


def examination(run: Run, found: Examination, unfolded: bool = True) -> str:
    """Return confusion matrix, calibration, examples and features of a network; empty without any result."""
    cards = []
    if found.matrix is not None:
        cards += [_confusions(found), _calibration(found)]
    if found.points is not None:
        cards.append(_embedding(found))
    examples = _examples("Wrong predictions with the highest confidence", found.worst)
    examples += _examples("Correct predictions with the highest confidence", found.best)
    notes = "".join(f"<p class=soft>{escape(note)}</p>" for note in found.notes)
    if not (cards or examples or notes):
        return ""
    images = f"<p class=soft>{escape(found.images)}</p>" if found.images else ""
    title = f"<summary><h2>Predictions and features: {escape(run.name)}</h2></summary>"
    body = f"{images}{notes}<div class=wide>{''.join(cards)}{examples}</div>"
    return f"<details class=seen{' open' * unfolded}>{title}{body}</details>"


def _confusions(found: Examination) -> str:
    counts, classes = found.matrix, found.classes
    wrong = counts * (1 - np.eye(len(classes), dtype=np.int64))
    order = [divmod(int(place), len(classes)) for place in np.argsort(-wrong, axis=None)[:8]]
    rows = "".join(
        f"<tr><td class=wrap>{escape(classes[i])}</td><td class=wrap>{escape(classes[j])}</td>"
        f"<td class=n>{int(wrong[i, j])}</td><td class=n>{wrong[i, j] / max(int(counts[i].sum()), 1):.1%}</td></tr>"
        for i, j in order
        if wrong[i, j]
    )
    accuracy = np.trace(counts) / max(int(counts.sum()), 1)
    chart = ""
    if len(classes) <= _MATRIX_CLASSES:
        chart = svg.matrix(counts, classes, "number of images by true class and predicted class")
        chart += (
            "<p class=soft>Rows are true classes, columns are predicted classes. Each cell is the number of images; "
            "cells on the diagonal are correct predictions.</p>"
        )
    header = "<tr><th>true class</th><th>predicted class</th><th class=n>images</th><th class=n>% of class</th></tr>"
    table = f"<table>{header}{rows}</table>"
    lists = f"<details><summary>Most frequent confusions</summary>{table}</details>" if rows else ""
    lists += f"<details><summary>Accuracy of each class</summary>{class_table(found)}</details>"
    return f"<figure class=card><h3>Confusion matrix: accuracy {accuracy:.1%}</h3>{chart}{lists}</figure>"


def class_table(found: Examination) -> str:
    """Return a table with the accuracy of every class, the lowest first."""
    totals, right = found.matrix.sum(axis=1), np.diag(found.matrix)
    order = sorted(range(len(totals)), key=lambda i: right[i] / max(int(totals[i]), 1))
    rows = "".join(
        f"<tr><td class=wrap>{escape(found.classes[i])}</td><td class=n>{int(totals[i])}</td>"
        f"<td class=n>{f'{right[i] / totals[i]:.1%}' if totals[i] else '-'}</td></tr>"
        for i in order
    )
    return f"<table><tr><th>class</th><th class=n>images</th><th class=n>accuracy</th></tr>{rows}</table>"


def _calibration(found: Examination) -> str:
    chart = svg.reliability(found.bins, "accuracy by confidence")
    return (
        f"<figure class=card><h3>Calibration: expected calibration error {found.ece:.1f}%</h3>{chart}"
        "<p class=soft>Accuracy of the images in each bin of confidence, which is the probability of the predicted "
        "class. The dashed line is perfect calibration; below it, the network is overconfident. Faint bars have few "
        "images. The expected calibration error is the mean difference between confidence and accuracy.</p></figure>"
    )


def _embedding(found: Examination) -> str:
    chart = svg.scatter(
        found.points, found.point_labels, found.classes, "features of the encoder in two dimensions, colored by class"
    )
    return (
        f"<figure class=card><h3>Features of the encoder</h3>{chart}<p class=soft>Each point is the mean of the patch "
        f"tokens of one image ({len(found.points):,} images), projected {escape(found.embedding)}. Colors are classes; "
        "the name of a class is at the median of its points.</p></figure>"
    )


def _examples(title: str, examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    figures = []
    for one in examples:
        said = f"{one.predicted}, {one.confidence:.0%}"
        caption = said if one.label == one.predicted else f"{one.label}, predicted as {said}"
        small = " class=pixels" if max(one.image.shape[:2]) < 84 else ""
        figures.append(
            f'<figure title="{escape(one.file)}"><img{small} src="{png(one.image)}" alt="{escape(one.label)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return f"<section class=card><h3>{title}</h3><div class=thumbs>{''.join(figures)}</div></section>"


def png(image: np.ndarray, largest: int = 160) -> str:
    """Return an image, uint8 (H, W, 3), as a data URL of a PNG with at most `largest` pixels per side."""
    picture = Image.fromarray(image)
    picture.thumbnail((largest, largest))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def configs(runs: Sequence[Run]) -> str:
    """Return the differences between the configs of the runs, and each config with the origin of its values."""
    parts = ["<h2 id=configs>Configuration</h2>"]
    flat = [dict(_leaves(run.config, "")) for run in runs]
    if len(runs) > 1:
        keys = [key for key in dict.fromkeys(k for one in flat for k in one) if _differs(key, flat)]
        head = "".join(f"<th>{escape(run.name)}</th>" for run in runs)
        cells = {key: "".join(f"<td class=wrap>{escape(_value(one, key))}</td>" for one in flat) for key in keys}
        rows = "".join(f"<tr><td>{escape(key)}</td>{values}</tr>" for key, values in cells.items())
        table = f"<div class=scroll><table><tr><th>key</th>{head}</tr>{rows}</table></div>"
        parts.append(f"<details><summary>Differences between the runs ({len(keys)} keys)</summary>{table}</details>")
    for run in runs:
        parts.append(_config(run.name, run.config_text))
        for past, changed in changes(run.history, run.config):
            head = "<tr><th>key</th><th>before</th><th>after</th></tr>"
            cells = ["".join(f"<td class=wrap>{escape(cell)}</td>" for cell in row) for row in changed]
            rows = "".join(f"<tr>{row}</tr>" for row in cells)
            parts.append(_config(f"{run.name} {past}", past.text, f"<table>{head}{rows}</table>"))
    return "".join(parts)


def _config(title: str, text: str, before: str = "") -> str:
    lines = "\n".join(map(_config_line, text.splitlines()))
    return f"<details><summary>{escape(title)}</summary>{before}<pre>{lines}</pre></details>"


def _config_line(line: str) -> str:
    text, mark, origin = line.rpartition("  # ")
    return f"{escape(text)}  <span class=soft># {escape(origin)}</span>" if mark else escape(line)


def _leaves(node: Any, path: str) -> List[Tuple[str, Any]]:
    if isinstance(node, Mapping):
        return [leaf for key, value in node.items() for leaf in _leaves(value, f"{path}.{key}" if path else str(key))]
    return [(path, node)]


def _differs(key: str, flat: Sequence[Dict[str, Any]]) -> bool:
    return any(one.get(key) != flat[0].get(key) or (key in one) != (key in flat[0]) for one in flat)


def _value(flat: Dict[str, Any], key: str) -> str:
    return one_line(flat[key]) if key in flat else "–"


def environments(runs: Sequence[Run]) -> str:
    """Return the environments of the runs; runs with the same environment share a table."""
    groups: Dict[str, List[str]] = {}
    for run in runs:
        facts = {key: value for key, value in run.environment.items() if key not in ("command", "runtime")}
        facts.update(run.environment.get("runtime", {}))
        cells = ((escape(str(key)), escape(str(value))) for key, value in facts.items())
        rows = "".join(f"<tr><th>{key}</th><td class=wrap>{value}</td></tr>" for key, value in cells)
        groups.setdefault(rows, []).append(run.name)
    parts = ["<h2 id=environment>Environment</h2>"]
    for rows, names in groups.items():
        parts.append(f"<details><summary>{escape(', '.join(names))}</summary><table>{rows}</table></details>")
    commands = "\n".join(escape(" ".join(map(str, run.environment.get("command", [])))) for run in runs)
    parts.append(f"<details><summary>Commands</summary><pre>{commands}</pre></details>")
    return "".join(parts)
