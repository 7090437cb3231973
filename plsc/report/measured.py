"""What a run has measured: what it is called, which way is better, which run is the best."""

import math
from typing import Dict, List, Sequence, Tuple

import numpy as np

from plsc.runs.reader import Run, section

_NAMES = {
    "top1": "top-1 accuracy, %",
    "top5": "top-5 accuracy, %",
    "ece": "calibration error, %",
    "class_accuracy": "accuracy, mean of the classes, %",
    "knn_top1": "k-NN accuracy of frozen features, %",
    "ridge_top1": "linear accuracy of frozen features, %",
    "rankme": "effective rank of features (RankMe)",
    "feature_std": "spread of features (0: collapsed)",
    "token_accuracy": "masked tokens predicted right, %",
    "target_perplexity": "tokens in use among targets",
    "predicted_perplexity": "tokens in use among predictions",
    "codebook_perplexity": "tokens in use",
    "alignment_cosine": "cosine of predicted and target latents",
    "latent_std": "spread of target latents (0: collapsed)",
    "lr": "learning rate",
    "grad_norm": "norm of the gradients",
    "images_per_second": "throughput, images per second",
    "data_wait": "share of time waiting for data",
}
SHORT_NAMES = {  # heads of columns
    "top1": "top-1, %",
    "top5": "top-5, %",
    "knn_top1": "k-NN, %",
    "ridge_top1": "linear, %",
    "rankme": "RankMe",
    "feature_std": "spread",
}
_EVALUATIONS = ("eval", "probe")  # splits that may decide which run is the best, the first that there is


def lower_is_better(metric: str) -> bool:
    """Whether a metric is a loss or an error."""
    return "loss" in metric or "error" in metric or metric == "ece"


def main_metric(run: Run) -> str:
    """The evaluation metric that decides, `top1` if the config names none; empty if nothing was evaluated."""
    wanted = section(run.config, "Global").get("monitor") or "top1"
    deciding = deciding_split(run)
    names = [metric for split, metric in run.metrics() if split == deciding]
    return (wanted if wanted in names else names[0]) if names else ""


def deciding_split(run: Run) -> str:
    """The split whose metrics say how good a run is: that of `Global.monitor`, else the first there is."""
    return split_of(run, section(run.config, "Global").get("monitor") or "")


def split_of(run: Run, metric: str) -> str:
    """The split of evaluations that a metric is of; the first there is if it is of none."""
    there = [split for split in _EVALUATIONS if run.rows.get(split)]
    having = [split for split in there if (split, metric) in run.columns]
    return [*having, *there, _EVALUATIONS[0]][0]


def name_of(metric: str) -> str:
    """What a metric is called on the page, with its unit."""
    return _NAMES.get(metric, metric.replace("_", " "))


def in_percent(metric: str) -> bool:
    """Whether a metric is a share in percent."""
    return name_of(metric).endswith(", %")


def best(run: Run, metric: str) -> Tuple[float, float]:
    """The best value of an evaluation metric, and its epoch."""
    epochs, values = run.series(split_of(run, metric), metric)
    known = np.nan_to_num(values, nan=math.inf if lower_is_better(metric) else -math.inf, posinf=None, neginf=None)
    place = int(np.argmin(known) if lower_is_better(metric) else np.argmax(known))
    return values[place], epochs[place]


def comparable(runs: Sequence[Run]) -> List[List[Run]]:
    """Runs by task and deciding metric; the largest group of evaluated ones first."""
    groups: Dict[Tuple[str, str], List[Run]] = {}
    for run in runs:
        groups.setdefault((run.kind, main_metric(run)), []).append(run)
    return sorted(groups.values(), key=lambda group: (not main_metric(group[0]), -len(group)))


def ranked(group: Sequence[Run]) -> List[Run]:
    """Comparable runs, the best first."""
    metric = main_metric(group[0])
    if not metric:
        return list(group)
    return sorted(group, key=lambda run: best(run, metric)[0], reverse=not lower_is_better(metric))


def is_detail(name: str, metric: str) -> bool:
    """Whether a metric is another for one part of the network: `top1 cls, rate 0.1` of `top1`."""
    return name.startswith(f"{metric} ")
