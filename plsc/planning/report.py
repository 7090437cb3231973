"""A plan as text and as plain data."""

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from plsc.planning import duration as durations
from plsc.planning import memory as sizes
from plsc.planning.devices import GIB
from plsc.planning.duration import Cluster
from plsc.planning.memory import Variant
from plsc.planning.work import Work

SMALL_BUCKET = 25  # MiB: advised size of messages that are sent early
Measured = Optional[Mapping[str, Any]]


def variants(work: Work, cluster: Cluster) -> List[Variant]:
    """List the variants to compare, that of the config first."""
    flash = cluster.device.flash
    shares = sorted({1, work.sharding, cluster.devices if cluster.devices > 1 else 1})
    levels = [("O0", ()), ("O1", ()), ("O1", work.recomputable), ("O2", ())]
    if not cluster.device.half:
        levels = [("O0", ()), ("O0", work.recomputable)]
    own = Variant(work.level if cluster.device.half else "O0", work.recomputed, work.sharding, flash)
    others = [Variant(level, again, share, flash) for share in shares for level, again in levels]
    return list(dict.fromkeys([own, *others]))


def plan(work: Work, cluster: Cluster, measured: Measured = None) -> Dict[str, Any]:
    """Compute the plan as plain data, the content of `text` for programs.

    Returns:
        `work`, `cluster`, `variants`: a list of dicts with `memory` (bytes by purpose), `largest_batch`, `fits`,
        `seconds` of a step by purpose, `images_per_second`, `hours`; `advice`: sentences; `notes`.
    """
    rows = [_variant(work, variant, cluster, measured) for variant in variants(work, cluster)]
    steps = work.plan.stop_step
    return {
        "work": {
            "trained_parameters": work.trained,
            "training_flops_per_image": work.training,
            "tokenizer_flops_per_image": work.targets,
            "batch": work.batch,
            "accumulate": work.plan.accumulate,
            "global_batch": work.plan.global_batch_size,
            "steps": steps,
        },
        "cluster": {
            "device_memory": int(cluster.device.memory * GIB),
            "devices": cluster.devices,
            "nodes": cluster.nodes,
            "link_gb_per_s": cluster.slowest_link,
        },
        "variants": rows,
        "advice": _advice(work, rows, cluster),
        "notes": list(work.notes),
    }


def _variant(work: Work, variant: Variant, cluster: Cluster, measured: Measured) -> Dict[str, Any]:
    rows = sizes.memory(work, variant, work.batch, cluster.processes)
    seconds = durations.step(work, variant, cluster, measured if variant.level == "O0" else None)
    largest = sizes.largest_batch(work, variant, cluster.device, cluster.processes)
    return {
        "name": variant.name,
        "level": variant.level,
        "recompute": bool(variant.recomputed),
        "sharding_degree": variant.sharding,
        "memory": rows,
        "largest_batch": largest,
        "fits": largest >= work.batch,
        "flops_per_step": seconds.operations,
        "all_reduce_bytes": seconds.bytes_sent,
        "seconds": {
            "tokenizer": seconds.targets,
            "forward and backward": seconds.compute,
            "update": seconds.update,
            "all-reduce": seconds.reduce,
            "hidden": seconds.hidden,
            "step": seconds.total,
        },
        "images_per_second": work.plan.global_batch_size / seconds.total,
        "hours": seconds.total * work.plan.stop_step / 3600,
    }


def _advice(work: Work, rows: Sequence[Mapping[str, Any]], cluster: Cluster) -> List[str]:
    own = rows[0]
    advice = []
    if not own["fits"]:
        fitting = [row for row in rows[1:] if row["fits"]]
        if own["largest_batch"]:
            batch = _divisor(work, own["largest_batch"], cluster)
            advice.append(
                f"does not fit: DataLoader.Train.loader.batch_size={batch} does, "
                f"with Global.global_batch_size={work.plan.global_batch_size} for the same training"
            )
        if fitting:
            advice.append(f"{'or' if advice else 'does not fit:'} {_settings(work, fitting[0], own)}")
        if not advice:
            advice.append("does not fit with any of these settings: use devices with more memory, or a smaller model")
    if own["level"] == "O0" and cluster.device.half > 1.2 * cluster.device.single:
        faster = own["hours"] / next(row["hours"] for row in rows if row["level"] == "O1")
        advice.append(f"AMP.level=O1 would be about {faster:.1f} times as fast")
    advice += _overlap(work, own, cluster)
    if own["fits"] and own["recompute"] and any(_without_recompute(row, own) for row in rows):
        advice.append("fits without recompute: DistributedStrategy.recompute=[] saves a forward pass a step")
    return advice


def _overlap(work: Work, own: Mapping[str, Any], cluster: Cluster) -> List[str]:
    if work.overlap or own["recompute"] or not own["fits"] or not cluster.device.half:
        return []
    small = replace(work, overlap=True, bucket=SMALL_BUCKET * 2**20)
    variant = Variant(own["level"], (), own["sharding_degree"], cluster.device.flash)
    if sizes.largest_batch(small, variant, cluster.device, cluster.processes) < work.batch:
        return []
    seconds = own["seconds"]
    gradients = own["memory"]["gradients"]
    saved = durations.hideable(small, seconds["all-reduce"], seconds["forward and backward"], gradients)
    if saved < 0.05 * seconds["step"]:
        return []
    return [
        f"DistributedStrategy.overlap=true with bucket_mb={SMALL_BUCKET} could hide {1e3 * saved:,.1f} ms of the "
        "all-reduce"
    ]


def _divisor(work: Work, largest: int, cluster: Cluster) -> int:
    """The largest micro-batch, at most `largest`, that divides a device's part of the global batch."""
    share = work.plan.global_batch_size // cluster.processes
    return next(batch for batch in range(min(largest, share), 0, -1) if share % batch == 0)


def _settings(work: Work, row: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Settings that turn the config into a variant."""
    wanted = []
    if row["level"] != own["level"]:
        wanted.append(f"AMP.level={row['level']}")
    if row["recompute"] and not own["recompute"]:
        wanted.append("DistributedStrategy.recompute of the layers below")
        if work.overlap:
            wanted.append("DistributedStrategy.overlap=false")
    if row["sharding_degree"] != own["sharding_degree"]:
        wanted.append(f"DistributedStrategy.sharding_degree={row['sharding_degree']}")
    return f"{', '.join(wanted)} fits as well" if wanted else "without recompute it fits as well"


def _without_recompute(row: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    same = row["level"] == own["level"] and row["sharding_degree"] == own["sharding_degree"]
    return same and not row["recompute"] and row["fits"]


def text(work: Work, cluster: Cluster, gpu: str, measured: Measured = None) -> str:
    """Format the plan as text."""
    data = plan(work, cluster, measured)
    rows = data["variants"]
    head = [
        f"{cluster.nodes} x {cluster.devices} {gpu}, {cluster.device.memory:g} GiB each",
        f"global batch {work.plan.global_batch_size:,} = {work.batch} a device x {cluster.processes} devices x "
        f"{work.plan.accumulate} micro-batches; {work.plan.stop_step:,} steps ({work.plan.epochs:.4g} epochs)",
        f"{work.trained:,} trained parameters; {(work.training + work.targets) / 1e9:.4g} GFLOPs an image in a "
        f"training step, of them {work.targets / 1e9:.3g} for the tokenizer",
    ]
    parts = ["\n".join(head)]
    for share in sorted({row["sharding_degree"] for row in rows}):
        of_share = [row for row in rows if row["sharding_degree"] == share]
        title = "GiB a device" + (f", optimizer shared by {share} (sharding_degree: {share})" if share > 1 else "")
        parts.append(_table(title, of_share, rows[0], with_time=share == rows[0]["sharding_degree"]))
    parts.append(_communication(rows[0], cluster))
    if work.recomputable:
        parts.append("recompute: " + ", ".join(_patterns(work.recomputable)))
    parts += [f"advice: {sentence}" for sentence in data["advice"]]
    parts += [f"note: {note}" for note in data["notes"]]
    return "\n\n".join(parts)


def _patterns(names: Sequence[str]) -> List[str]:
    return list(dict.fromkeys(f"{name.rsplit('.', 1)[0]}.*" for name in names))


def _table(title: str, rows: Sequence[Mapping[str, Any]], own: Mapping[str, Any], with_time: bool) -> str:
    """Format memory and speed, one column per variant; a star marks that of the config."""
    purposes = [name for name in rows[0]["memory"] if any(row["memory"][name] for row in rows)]
    lines: List[Tuple[str, List[str]]] = [(title, [row["name"] + ("*" if row is own else "") for row in rows])]
    for purpose in purposes:
        lines.append((purpose, [f"{row['memory'][purpose] / GIB:.3f}" for row in rows]))
    lines.append(("largest batch", [f"{row['largest_batch']:,}" if row["largest_batch"] else "none" for row in rows]))
    lines.append(("fits", ["yes" if row["fits"] else "NO" for row in rows]))
    lines += _time_lines(rows) if with_time else []
    left = max(len(name) for name, _ in lines)
    widths = [max(len(cells[column]) for _, cells in lines) for column in range(len(rows))]
    drawn = []
    for name, cells in lines:
        aligned = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths))
        drawn.append(f"{name:<{left}}  {aligned}")
    drawn.insert(1, "-" * len(drawn[0]))
    return "\n".join(drawn)


def _time_lines(rows: Sequence[Mapping[str, Any]]) -> List[Tuple[str, List[str]]]:
    lines = [("TFLOPs a step", [f"{row['flops_per_step'] / 1e12:,.4g}" for row in rows])]
    purposes = ["tokenizer", "forward and backward", "update", "all-reduce", "hidden", "step"]
    if not any(row["seconds"]["hidden"] for row in rows):
        purposes.remove("hidden")
    for purpose in purposes:
        lines.append((f"ms: {purpose}", [f"{1e3 * row['seconds'][purpose]:,.1f}" for row in rows]))
    lines.append(("images/s", [f"{row['images_per_second']:,.4g}" for row in rows]))
    lines.append(("hours", [f"{row['hours']:,.4g}" for row in rows]))
    return lines


def _communication(own: Mapping[str, Any], cluster: Cluster) -> str:
    if cluster.processes == 1:
        return "one device: nothing is sent"
    seconds = own["seconds"]
    shown = seconds["all-reduce"] - seconds["hidden"]
    hidden = f", of which the backward pass hides {1e3 * seconds['hidden']:,.1f} ms" if seconds["hidden"] else ""
    return (
        f"all-reduce: {own['all_reduce_bytes'] / 1e6:,.0f} MB a step and device, {1e3 * seconds['all-reduce']:,.1f} ms "
        f"at {cluster.slowest_link:g} GB/s{hidden}; {shown / seconds['step']:.0%} of the step"
    )
