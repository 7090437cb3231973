"""Scaling of the step time with image size, width and batch size, and a cost model that predicts other sizes.

Every point is a training step of the config's task with other sizes in the section Model. Token ids and batches are
random, so that only the networks and the optimizer are measured.
"""

import copy
import gc
import statistics
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import paddle

from plsc.benchmark.inputs import GivenTargets, Subject
from plsc.benchmark.step import make_step, step_activations, step_flops, time_steps
from plsc.config.run_config import RunConfig
from plsc.runtime import give_back_memory
from plsc.tasks.base import Batch

SWEEPS: Dict[str, Tuple[int, ...]] = {
    "image_size": (64, 128, 224, 320, 384),
    "width": (192, 384, 576, 768, 1024),
    "batch_size": (1, 4, 16, 64),
}
BATCH = 4  # batch size of the sweeps over image size and width
MOST_STEPS = 5
TOO_LONG = 3.0  # a point is left out if its step is expected to take more than this multiple of `seconds`
MOST_MEMORY = 0.6  # or if its activations are expected to take more than this fraction of the free memory
WIDTHS = ("embed_dim", "decoder_embed_dim", "in_features")  # keys of the section Model that a width sets
HEADS = ("num_heads", "decoder_num_heads")
WITH_GRADIENTS = 1.5  # memory of the backward pass relative to the activations


def measure_scaling(
    subject: Subject, seconds: float, sweeps: Optional[Mapping[str, Sequence[int]]] = None
) -> Dict[str, Any]:
    """Time training steps over sizes around those of the config, and fit a cost model.

    Args:
        subject: From `inputs.runnable`.
        seconds: Approximate time of a point; slower ones are left out and noted.
        sweeps: Values by `image_size`, `width` and `batch_size`; by default `SWEEPS`.

    Raises:
        ValueError: If the section Model has no image size and width to change, or the task needs batch entries that
            cannot be generated.
    """
    sizes, widths = (_values(subject.config["Model"], key) for key in ("image_size", "embed_dim"))
    if not sizes or not widths:
        raise ValueError("--phase scaling: the section Model has no image_size and embed_dim to change; leave it out")
    base = {"image_size": _side(sizes[0]), "width": widths[0], "batch_size": BATCH}
    points: List[Dict[str, Any]] = []
    for axis, values in (sweeps or SWEEPS).items():
        for value in sorted(values):
            _release()
            point = _measure({**base, axis: value}, subject, seconds, points)
            if point is not None:
                points.append({"axis": axis, **point})
    return {"base": base, "points": points, **_fits(points)}


def _measure(
    where: Dict[str, int], subject: Subject, seconds: float, points: Sequence[Mapping[str, Any]]
) -> Optional[Dict[str, Any]]:
    """Measure one point; None if it needs too much time or memory, or the model does not support its size."""
    shown = ", ".join(f"{key} {value}" for key, value in where.items())
    try:
        config, patches, masked = _resized(subject, where)
        train_step = make_step(config, [])
    except ValueError as error:
        subject.notes.append(f"scaling: no point at {shown}: {error}")
        return None
    flops = step_flops(train_step.task, masked)
    activations = step_activations(train_step.task, masked)
    rates = [p["flops"] / p["seconds_per_step"] for p in points if flops is not None]
    expected = where["batch_size"] * flops / statistics.median(rates) if rates else 0.0
    needed = WITH_GRADIENTS * where["batch_size"] * (activations or 0)
    if expected > TOO_LONG * seconds or needed > MOST_MEMORY * _free_memory():
        subject.notes.append(f"scaling: no point at {shown}: about {expected:.0f} s and {needed / 2**30:.1f} GiB")
        return None
    batch = _draw(train_step.task, where["image_size"], where["batch_size"], patches, masked)
    step = statistics.median(time_steps(lambda: train_step([batch]), seconds, least=1, most=MOST_STEPS))
    return {
        **where,
        "seconds_per_step": step,
        "seconds_per_image": step / where["batch_size"],
        "flops": None if flops is None else where["batch_size"] * flops,
        "activation_bytes": None if activations is None else where["batch_size"] * activations,
    }


def _resized(subject: Subject, where: Mapping[str, int]) -> Tuple[RunConfig, int, int]:
    """Return the config at another size, its number of patches, and that of masked ones (same fraction)."""
    config = copy.deepcopy(subject.config.tree)
    model = config["Model"]
    head_width = _values(model, "embed_dim")[0] // (_values(model, "num_heads") or [12])[0]
    values = {"image_size": where["image_size"], **dict.fromkeys(WIDTHS, where["width"])}
    values.update(dict.fromkeys(HEADS, max(1, where["width"] // head_width)))
    _set(model, values)
    patch = _side((_values(model, "patch_size") or [16])[0])
    patches = (where["image_size"] // patch) ** 2
    masked, of = subject.patches
    masked = round(patches * masked / of) if of else 0
    if config.get("Tokenizer") is not None:
        config["Tokenizer"] = {"name": GivenTargets.__name__, "vocab_size": 1, "num_targets": patches}
        vocabulary = _values(model, "vocab_size")
        config["Tokenizer"]["vocab_size"] = vocabulary[0] if vocabulary else 8192
    config["DataLoader"]["Train"]["batch_transforms"] = None
    config["DataLoader"]["Train"]["loader"]["batch_size"] = where["batch_size"]
    return RunConfig(config), patches, masked


def _values(node: Any, key: str) -> List[Any]:
    """Return all values of a key below a node, outermost first."""
    if not isinstance(node, dict):
        return []
    own = [node[key]] if node.get(key) is not None else []
    return own + [value for child in node.values() for value in _values(child, key)]


def _set(node: Any, values: Mapping[str, Any]) -> None:
    """Set keys wherever they are below a node; where there is a width, also its number of heads."""
    if not isinstance(node, dict):
        return
    for key in list(node):
        if key in values and node[key] is not None:
            node[key] = values[key]
        else:
            _set(node[key], values)
    if "embed_dim" in node:
        node["num_heads"] = values["num_heads"]


def _side(size: Any) -> int:
    return size[0] if isinstance(size, (list, tuple)) else size


def _draw(task: Any, size: int, count: int, patches: int, masked: int) -> Batch:
    """Generate a random batch with the keys that the task needs.

    Raises:
        ValueError: If the task needs a key that cannot be generated.
    """
    order = np.argsort(np.random.default_rng(0).random((count, max(patches, 1))), axis=1)
    made = {
        "image": lambda: np.random.default_rng(0).random((count, 3, size, size), dtype=np.float32),
        "label": lambda: np.zeros(count, dtype=np.int64),
        "masked_index": lambda: np.sort(order[:, :masked], axis=1),
        "visible_index": lambda: np.sort(order[:, masked:], axis=1),
    }
    unknown = [key for key in task.required_keys if key not in made]
    if unknown:
        raise ValueError(f"--phase scaling: cannot generate {', '.join(unknown)}, which {type(task).__name__} needs")
    return {key: paddle.to_tensor(made[key]()) for key in task.required_keys}


def _release() -> None:
    """Free the memory of the previous point: its step is a reference cycle, and malloc keeps freed memory."""
    gc.collect()
    give_back_memory()


def _free_memory() -> float:
    """Return the free memory in bytes; infinity on a GPU or if the system does not tell."""
    if paddle.device.get_device().startswith("gpu"):
        return float("inf")
    try:
        with open("/proc/meminfo", encoding="utf-8") as lines:
            return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")


def _fits(points: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """Fit the cost models; None if the operations of the model are unknown."""
    if not points or any(point["flops"] is None or point["activation_bytes"] is None for point in points):
        return {"cost_model": None, "cost_model_flops": None}
    both = ["flops", "activation_bytes"]
    return {"cost_model": fit(points, both), "cost_model_flops": fit(points, both[:1])}


def fit(points: Sequence[Mapping[str, Any]], features: Sequence[str]) -> Dict[str, Any]:
    """Fit seconds = a + b * flops + c * activation_bytes of a training step, with coefficients of at least 0.

    The sum of squared relative errors is minimized, so that short steps count as much as long ones.

    Args:
        points: Points with `seconds_per_step` and the features.
        features: Some of `flops` and `activation_bytes`.

    Returns:
        `seconds` (a), `seconds_per_<feature>` for each, and `mean_relative_error`.
    """
    seconds = np.array([point["seconds_per_step"] for point in points])
    columns = {"seconds": np.ones(len(points))}
    columns.update({f"seconds_per_{name}": np.array([float(p[name]) for p in points]) for name in features})
    used = list(columns)
    while True:
        scale = {name: columns[name].max() for name in used}
        table = np.stack([columns[name] / scale[name] / seconds for name in used], axis=1)
        found = np.linalg.lstsq(table, np.ones(len(points)), rcond=None)[0]
        if len(used) == 1 or found.min() >= 0:
            break
        used.pop(int(found.argmin()))  # a cost cannot be negative: drop the lowest coefficient
    result = dict.fromkeys(columns, 0.0)
    result.update({name: float(value / scale[name]) for name, value in zip(used, found)})
    predicted = sum(result[name] * column for name, column in columns.items())
    return {**result, "mean_relative_error": float(np.abs(predicted / seconds - 1).mean())}


def predict(model: Mapping[str, float], flops: float, activation_bytes: float = 0.0) -> float:
    """Return the seconds of a training step predicted by a fitted cost model."""
    per_byte = model.get("seconds_per_activation_bytes", 0.0)
    return model["seconds"] + model["seconds_per_flops"] * flops + per_byte * activation_bytes
