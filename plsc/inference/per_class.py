"""Evaluation of a classifier by class, with confusions and calibration."""

from typing import Any, Dict, List, Optional

import numpy as np

from plsc.checkpoint.reader import Checkpoint
from plsc.config import registry
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigError
from plsc.data.bad_images import tell
from plsc.engine import consistency
from plsc.engine.device import join_job
from plsc.engine.parts import build_list, build_loader, build_metrics, evaluation_set
from plsc.evaluation.classification import class_accuracy
from plsc.evaluation.evaluate import evaluate
from plsc.evaluation.metrics import Calibration, ClassAccuracy
from plsc.inference.predictor import class_names
from plsc.inference.restore import restore_task
from plsc.nn.precision import Precision
from plsc.text import distinguishable

_CONFUSIONS = 10
_MATRIX_CLASSES = 20
_PERCENT = ("top", "ece", "class_accuracy")  # how the names of metrics in percent begin


def evaluate_in_detail(config: RunConfig, checkpoint: Checkpoint, ema: bool = False) -> Dict[str, Any]:
    """Evaluate a classifier.

    Args:
        config: Checked by plsc.config.schema; the one the checkpoint was trained with.
        checkpoint: The checkpoint.
        ema: Evaluate the moving average of the weights.

    Returns:
        `metrics` by name; `classes`: a list of {name, images, accuracy}; `confusion_matrix`: images by class and
        predicted class; `calibration`: a list of {images, confidence, accuracy}, one for each bin of confidence.

    Raises:
        ConfigError: If the config has no evaluation set.
        ValueError: If the network does not classify.
    """
    if config["DataLoader"].get("Eval") is None:
        raise ConfigError("DataLoader.Eval: the config has no evaluation set; give one with -o DataLoader.Eval=...")
    join_job(config)
    consistency.agree_on_checkpoint("the checkpoint", lambda: checkpoint)
    restored = restore_task(config, checkpoint, ema)
    classes, heads = restored.task.num_classes, restored.task.head_names
    if heads is not None:
        raise ValueError(
            f"{checkpoint} holds {len(heads)} classifiers and none of them is selected; leave --details out"
        )
    if classes is None:
        kind = type(restored.task).__name__
        raise ValueError(f"{checkpoint} is a run of {kind}, which does not classify; leave --details out")
    dataset = evaluation_set(config, restored.task, (restored.classes, str(checkpoint)), tell)
    loader = build_loader(config, "Eval", dataset=dataset, task=restored.task)
    consistency.agree_on_data(Eval=loader.dataset)
    matrix, calibration = ClassAccuracy(classes), Calibration()
    metrics = evaluate(
        restored.task,
        loader,
        build_list(registry.BATCH_TRANSFORMS, config["DataLoader"]["Eval"].get("batch_transforms")),
        [*build_metrics(config, restored.task), matrix, calibration],
        Precision(config.amp),
    )
    return _as_data(metrics, matrix.matrix(), calibration.bins(), class_names(restored))


def _as_data(
    metrics: Dict[str, float], matrix: np.ndarray, bins: np.ndarray, names: Optional[List[str]]
) -> Dict[str, Any]:
    known = distinguishable(names or [])
    shown = [*known, *(str(number) for number in range(len(known), len(matrix)))]
    accuracy = [None if np.isnan(value) else float(value) for value in class_accuracy(matrix)]
    counts = matrix.sum(axis=1).tolist()
    return {
        "metrics": metrics,
        "classes": [dict(zip(("name", "images", "accuracy"), row)) for row in zip(shown, counts, accuracy)],
        "confusion_matrix": matrix.tolist(),
        "calibration": [dict(zip(("images", "confidence", "accuracy"), row)) for row in bins.tolist()],
    }


def table(found: Dict[str, Any]) -> str:
    """Format the result of `evaluate_in_detail`: classes, the lowest accuracy first, and frequent confusions."""
    rows = sorted((one for one in found["classes"] if one["images"]), key=lambda one: one["accuracy"])
    width = max(len("class"), *(len(one["name"]) for one in rows))
    lines = [f"{'class':<{width}}  images       %", "-" * (width + 16)]
    lines += [f"{one['name']:<{width}}  {one['images']:>6}  {one['accuracy']:6.1f}" for one in rows]
    names = [one["name"] for one in found["classes"]]
    wrong = np.array(found["confusion_matrix"])
    np.fill_diagonal(wrong, 0)
    order = [divmod(int(place), len(names)) for place in np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]]
    confusions = [f"{wrong[i, j]:>6}  {names[i]} taken for {names[j]}" for i, j in order if wrong[i, j]]
    lines += ["", "images  most frequent confusions", *confusions] if confusions else []
    lines += ["", *_matrix(names, found["confusion_matrix"])] if len(names) <= _MATRIX_CLASSES else []
    units = {name: "%" if name.startswith(_PERCENT) else "" for name in found["metrics"]}
    metrics = [f"{name} {value:.4g}{units[name]}" for name, value in found["metrics"].items()]
    return "\n".join([*lines, "", "  ".join(metrics)])


def _matrix(names: List[str], counts: List[List[int]]) -> List[str]:
    """Classes in rows, predicted classes in columns; a dot for 0."""
    short = [name[:8] for name in names]
    width = max(len(text) for text in [*short, *(str(count) for row in counts for count in row)])
    rows = [[str(count) if count else "." for count in row] for row in counts]
    head = " ".join(f"{text:>{width}}" for text in short)
    label = max(8, width)
    lines = [f"{name:<{label}}  {' '.join(f'{cell:>{width}}' for cell in row)}" for name, row in zip(short, rows)]
    return ["classes in rows, what they are taken for in columns", " " * (label + 2) + head, *lines]
