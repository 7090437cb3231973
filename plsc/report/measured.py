"""Metrics of a run: their names, the better direction, and the ranking of runs."""

import math
from typing import Dict, List, Sequence, Tuple

import numpy as np

from plsc.runs.reader import Run, section

_NAMES = {
    "top1": "top-1 accuracy, %",
    "top5": "top-5 accuracy, %",
    "ece": "expected calibration error (ECE), %",
    "class_accuracy": "mean per-class accuracy, %",
    "knn_top1": "k-NN accuracy of frozen features, %",
    "ridge_top1": "linear classifier accuracy of frozen features, %",
    "rankme": "effective rank of features (RankMe)",
    "feature_std": "standard deviation of features (0: collapsed)",
    "token_accuracy": "accuracy of predicted tokens of masked patches, %",
    "target_perplexity": "perplexity of target tokens (number in use)",
    "predicted_perplexity": "perplexity of predicted tokens (number in use)",
    "codebook_perplexity": "perplexity of the codebook (number of tokens in use)",
    "alignment_cosine": "cosine similarity of predicted and target latents",
    "latent_std": "standard deviation of target latents (0: collapsed)",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "images_per_second": "throughput, images per second",
    "data_wait": "fraction of time spent waiting for data",
}
SHORT_NAMES = {  # column headers
    "top1": "top-1, %",
    "top5": "top-5, %",
    "knn_top1": "k-NN, %",
    "ridge_top1": "linear, %",
    "rankme": "RankMe",
    "feature_std": "feature std",
}
_EVALUATIONS = ("eval", "probe")  # splits that can rank runs, in order of preference


def lower_is_better(metric: str) -> bool:
    """Return True if a metric is a loss or an error."""
    return "loss" in metric or "error" in metric or metric == "ece"


def main_metric(run: Run) -> str:
    """Return the metric that ranks runs: `Global.monitor`, else `top1`, else the first; empty if none was evaluated."""
    wanted = section(run.config, "Global").get("monitor") or "top1"
    deciding = deciding_split(run)
    names = [metric for split, metric in run.metrics() if split == deciding]
    return (wanted if wanted in names else names[0]) if names else ""


def deciding_split(run: Run) -> str:
    """Return the split that ranks runs: the split of `Global.monitor`, else the first one that the run has."""
    return split_of(run, section(run.config, "Global").get("monitor") or "")


def split_of(run: Run, metric: str) -> str:
    """Return the evaluation split that has a metric, else the first evaluation split of the run."""
    there = [split for split in _EVALUATIONS if run.rows.get(split)]
    having = [split for split in there if (split, metric) in run.columns]
    return [*having, *there, _EVALUATIONS[0]][0]


def name_of(metric: str) -> str:
    """Return the name of a metric for the page, with its unit."""
    return _NAMES.get(metric, metric.replace("_", " "))


def in_percent(metric: str) -> bool:
    """Return True if a metric is in percent."""
    return name_of(metric).endswith(", %")


def best(run: Run, metric: str) -> Tuple[float, float]:
    """Return the best value of an evaluation metric and its epoch."""
    epochs, values = run.series(split_of(run, metric), metric)
    known = np.nan_to_num(values, nan=math.inf if lower_is_better(metric) else -math.inf, posinf=None, neginf=None)
    place = int(np.argmin(known) if lower_is_better(metric) else np.argmax(known))
    return values[place], epochs[place]


def comparable(runs: Sequence[Run]) -> List[List[Run]]:
    """Group runs by task and ranking metric; the largest group of evaluated runs comes first."""
    groups: Dict[Tuple[str, str], List[Run]] = {}
    for run in runs:
        groups.setdefault((run.kind, main_metric(run)), []).append(run)
    return sorted(groups.values(), key=lambda group: (not main_metric(group[0]), -len(group)))


def ranked(group: Sequence[Run]) -> List[Run]:
    """Return comparable runs, the best first."""
    metric = main_metric(group[0])
    if not metric:
        return list(group)
    return sorted(group, key=lambda run: best(run, metric)[0], reverse=not lower_is_better(metric))


def is_detail(name: str, metric: str) -> bool:
    """Return True if `name` is `metric` for one part of the network, such as `top1 cls, rate 0.1` for `top1`."""
    return name.startswith(f"{metric} ")
