"""Result of a benchmark as a table, a comparison with an earlier result, and charts."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from plsc.benchmark.scaling import predict
from plsc.checkpoint.replace import PNG_START, begins_with, check_file
from plsc.runs.directory import replacing

Result = Mapping[str, Any]
# Figures of the table: place in the results, name, unit, and whether a higher value is better.
FIGURES: Tuple[Tuple[str, str, str, bool], ...] = (
    ("step.images_per_second", "training step", "img/s", True),
    ("step.seconds_per_step", "one step", "s", False),
    ("step.gflops", "arithmetic", "GFLOP/s", True),
    ("step.product_gflops", "matmul on this machine", "GFLOP/s", True),
    ("step.share_of_product", "fraction of that matmul", "", True),
    ("step.peak_resident_mib", "peak memory, process", "MiB", False),
    ("step.peak_tensors_mib", "peak memory, tensors", "MiB", False),
    ("data.images_per_second_per_core", "data, one core", "img/s", True),
    ("data.plain_images_per_second_per_core", "plain pipeline by Pillow", "img/s", True),
    ("data.times_plain", "ratio of the two", "times", True),
    ("data.loader_images_per_second", "data, loader", "img/s", True),
    ("startup.help_seconds", "--help", "s", False),
    ("startup.import_paddle_seconds", "import of Paddle", "s", False),
    ("startup.first_step_seconds", "to the end of the first step", "s", False),
)
# Figures that measure the machine, not this code.
NOT_OURS = ("step.product_gflops", "data.plain_images_per_second_per_core", "startup.import_paddle_seconds")
SAME = ("cpu", "cores", "threads", "gpu", "paddle")
STAGES = (("step", "stage"), ("data", "transform"))
# Colors of Okabe and Ito, distinguishable with color vision deficiency.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
SMALL_SHARE = 0.0005  # stages below this fraction of the time are not shown
ALWAYS = ("data wait", "targets")  # stages that are always shown


def _at(result: Result, place: str) -> Optional[float]:
    node: Any = result["results"]
    for key in place.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def table(result: Result) -> str:
    """Return the figures, the stages and the notes as text."""
    machine = result["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, {machine['gpu'] or 'no GPU'}; "
        f"Paddle {machine['paddle']}; batch {result['measured']['batch_size']}",
        "",
    ]
    for place, name, unit, _ in FIGURES:
        value = _at(result, place)
        if value is not None:
            lines.append(f"{name:<30} {_number(value, unit)}")
    for phase, kind in STAGES:
        lines += _stage_rows(result, phase, kind)
    lines += _scaling_rows(result)
    return "\n".join([*lines, *([""] if result["notes"] else []), *(f"note: {note}" for note in result["notes"])])


def _number(value: float, unit: str) -> str:
    return f"{value:>10.1%}" if not unit else f"{value:>10.4g} {unit}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}" if seconds >= 1 else f"{seconds * 1e3:.3g}"


def _stages(result: Result, phase: str, kind: str) -> Dict[str, Tuple[float, float]]:
    """Return seconds and fraction of the time by stage, without small stages."""
    found = result["results"].get(phase, {})
    shares = found.get(f"{kind}_shares", {})
    seconds = found.get("stage_seconds" if phase == "step" else "transform_seconds_per_image", {})
    return {name: (seconds[name], share) for name, share in shares.items() if share >= SMALL_SHARE or name in ALWAYS}


def _stage_rows(result: Result, phase: str, kind: str) -> Iterator[str]:
    stages = _stages(result, phase, kind)
    if stages:
        yield f"\n{f'time of the {phase}':<30} {'':>10} {'ms' if phase == 'step' else 'ms per image':>12}"
    for name, (seconds, share) in stages.items():
        yield f"  {name:<28} {share:>10.1%} {_milliseconds(seconds):>12}"


def _scaling_rows(result: Result) -> Iterator[str]:
    scaling = result["results"].get("scaling")
    if not scaling:
        return
    yield f"\n{'image size':>10} {'width':>6} {'batch':>6} {'ms per image':>12} {'predicted':>10}"
    for point in scaling["points"]:
        shown = predicted_per_image(scaling, point)
        yield (
            f"{point['image_size']:>10} {point['width']:>6} {point['batch_size']:>6} "
            f"{_milliseconds(point['seconds_per_image']):>12} {'' if shown is None else _milliseconds(shown):>10}"
        )
    model = scaling["cost_model"]
    if model:
        yield (
            f"seconds of a step = {model['seconds']:.3g} + {model['seconds_per_flops']:.3g} x operations + "
            f"{model['seconds_per_activation_bytes']:.3g} x bytes of activations "
            f"(mean relative error {model['mean_relative_error']:.0%})"
        )


def predicted_per_image(scaling: Mapping[str, Any], point: Mapping[str, Any]) -> Optional[float]:
    """Return the seconds per image predicted by the cost model; None if no model was fitted."""
    if not scaling["cost_model"]:
        return None
    return predict(scaling["cost_model"], point["flops"], point["activation_bytes"]) / point["batch_size"]


def compare(result: Result, reference: Result) -> Tuple[str, Optional[float]]:
    """Compare the figures with those of another result; a ratio above 1 means faster, or less memory.

    Returns:
        The comparison as text, and the lowest ratio of the figures that measure this code; None if the results have
        no figure in common.

    Raises:
        ValueError: If the reference is not a result of a benchmark.
    """
    if not isinstance(reference, Mapping) or not {"machine", "results", "measured"} <= set(reference):
        raise ValueError("--against: not the benchmark.json of an earlier benchmark")
    lines = [f"{'':<30} {'now':>10} {'then':>10} {'ratio':>8}  (above 1: better)"]
    lowest: Optional[float] = None
    for place, name, _, more_is_better in FIGURES:
        now, then = _at(result, place), _at(reference, place)
        if not now or not then:
            continue
        ratio = now / then if more_is_better else then / now
        lines.append(f"{name:<30} {now:>10.4g} {then:>10.4g} {ratio:>8.3f}")
        if place not in NOT_OURS:
            lowest = ratio if lowest is None else min(lowest, ratio)
    for kind in ("machine", "measured"):
        keys = SAME if kind == "machine" else reference[kind]
        changed = [key for key in keys if result[kind].get(key) != reference[kind].get(key)]
        lines += [f"{key} differs: {result[kind].get(key)}, was {reference[kind].get(key)}" for key in changed]
    return "\n".join(lines), lowest


def draw(result: Result, folder: Path) -> List[Path]:
    """Draw `benchmark.png` (stages) and `scaling.png`, those that have data; return their paths."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    found = {phase: _stages(result, phase, kind) for phase, kind in STAGES}
    panels = {phase: stages for phase, stages in found.items() if stages}
    drawn = [_draw_stages(result, panels, folder / "benchmark.png")] if panels else []
    if result["results"].get("scaling", {}).get("points"):
        drawn.append(_draw_scaling(result["results"]["scaling"], folder / "scaling.png"))
    return drawn


def _draw_stages(result: Result, panels: Mapping[str, Mapping[str, Tuple[float, float]]], path: Path) -> Path:
    from matplotlib import pyplot

    heights = [len(stages) + 1.5 for stages in panels.values()]
    figure, axes = pyplot.subplots(
        len(panels),
        1,
        figsize=(9, 0.36 * sum(heights) + 1.2),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )
    for axis, (phase, stages) in zip(axes[:, 0], panels.items()):
        bars = [100 * share for _, share in stages.values()]
        axis.barh(list(stages), bars, color=BLUE if phase == "step" else ORANGE)
        for row, (seconds, share) in enumerate(stages.values()):
            axis.text(100 * share, row, f"  {share:.1%}   {_milliseconds(seconds)} ms", va="center", fontsize=9)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.3 * max(bars))
        axis.set_title(_title(result, phase), loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("percentage of the time")
    return _save(figure, path)


def _title(result: Result, phase: str) -> str:
    found, machine = result["results"][phase], result["machine"]
    if phase == "data":
        return f"Data, one core: {found['images_per_second_per_core']:.3g} img/s, time per image"
    share = found["share_of_product"]
    rate = "" if share is None else f", {found['gflops']:.0f} GFLOP/s = {share:.0%} of a matmul"
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
    return f"Training step, batch {found['batch_size']}: {found['images_per_second']:.3g} img/s{rate}\n{where}"


def _draw_scaling(scaling: Mapping[str, Any], path: Path) -> Path:
    from matplotlib import pyplot

    labels = {"image_size": "image size, px", "width": "width", "batch_size": "batch"}
    figure, axes = pyplot.subplots(1, len(labels), figsize=(11, 3.6), sharey=True, layout="constrained")
    for axis, (key, label) in zip(axes, labels.items()):
        points = [point for point in scaling["points"] if point["axis"] == key]
        values = [point[key] for point in points]
        measured = [point["seconds_per_image"] * 1e3 for point in points]
        axis.plot(values, measured, "o", color=BLUE, label="measured", markersize=7)
        if scaling["cost_model"]:
            fitted = [predicted_per_image(scaling, point) * 1e3 for point in points]
            axis.plot(values, fitted, "--", color=ORANGE, label="fitted cost model")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        _label_ticks(axis, values)
        axis.set_xlabel(f"{label}  ({_others(scaling['base'], key)})")
        axis.grid(True, which="major", color=GREY, alpha=0.25)
    axes[0].set_ylabel("ms per image, training step")
    axes[0].legend()
    return _save(figure, path)


def _label_ticks(axis: Any, values: Sequence[int]) -> None:
    axis.set_xticks(values, [str(value) for value in values])
    axis.minorticks_off()


def _others(base: Mapping[str, int], key: str) -> str:
    short = {"image_size": "{} px", "width": "width {}", "batch_size": "batch {}"}
    return ", ".join(text.format(base[name]) for name, text in short.items() if name != key)


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    check_file(path, begins_with(PNG_START), "a PNG image")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
    pyplot.close(figure)
    return path
