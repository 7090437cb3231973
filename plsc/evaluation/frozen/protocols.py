"""All protocols on one frozen encoder. Hyperparameters are chosen on a part of the training images."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import numpy as np
import paddle

from plsc.evaluation.frozen import attentive, knn, linear, ridge
from plsc.evaluation.frozen.features import Features, standardised, stratified_split
from plsc.models.heads import AttentiveHead, EfficientProbingHead

PROTOCOLS = ("knn", "ridge", "linear", "attentive", "ep", "layers")
NEED_TOKENS = ("attentive", "ep")
NEIGHBOURS = (1, 5, 10, 20)
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
ATTENTIVE_RATES = (1e-3, 3e-3, 1e-2)
_FIXED_RATE = 0.3  # of the comparison of layers, where nothing is chosen


@dataclass(frozen=True)
class Settings:
    """Settings of the protocols.

    Attributes:
        validation_share: Fraction of the training images for choosing neighbors, features and learning rates.
        epochs: Epochs of the classifiers.
        seed: Seed of the split, the order and the initial weights of the heads.
    """

    validation_share: float = 0.2
    epochs: int = 60
    seed: int = 0


DEFAULTS = Settings()


def evaluate_frozen(
    train: Features, test: Optional[Features], protocols: Sequence[str], settings: Settings = DEFAULTS
) -> Dict[str, Any]:
    """Compute accuracies on test images, and on validation images for every choice.

    For each of `knn`, `ridge`, `linear`, `attentive` and `ep`: every choice is trained on one part of the training
    images and compared on the other; the best is trained on all of them and then, once, tested. `layers` compares
    class token and mean after every block at one learning rate, on the validation part only.

    Args:
        train: Features of the training images, without augmentation.
        test: Features of the test images; None: stop after the validation.
        protocols: Some of PROTOCOLS.
        settings: Settings of the protocols.

    Returns:
        By protocol: `top1` on the test images (%, if there are any), `validation` (%), `chosen` (its name), and
        `tried`, the validation accuracy (%) of every choice. `layers` has `tried` only.

    Raises:
        ValueError: If a protocol is unknown, the sets have different classes, or training images are too few.
    """
    _check(train, test, protocols)
    fit, validation = (train.take(i) for i in stratified_split(train.labels, settings.validation_share, settings.seed))
    if not len(validation):
        raise ValueError(
            f"no class has enough of the {len(train)} training images to leave {settings.validation_share:.0%} for "
            "validation; use more images, or a larger share"
        )
    methods: Mapping[str, Callable[..., Dict[Any, np.ndarray]]] = {
        "knn": _knn,
        "ridge": _ridge,
        "linear": _linear,
        "attentive": partial(_attentive, _attentive_head),
        "ep": partial(_attentive, _efficient_head),
    }
    results: Dict[str, Any] = {}
    for protocol in protocols:
        if protocol == "layers":
            results[protocol] = {"tried": _scores(_layers(fit, validation, settings), validation.labels)}
            continue
        tried = _scores(methods[protocol](fit, validation, settings, None), validation.labels)
        chosen = max(tried, key=lambda name: tried[name])
        results[protocol] = {"validation": tried[chosen], "chosen": chosen, "tried": tried}
        if test is not None:
            final = _scores(methods[protocol](train, test, settings, chosen), test.labels)
            results[protocol]["top1"] = final[chosen]
    return results


def _check(train: Features, test: Optional[Features], protocols: Sequence[str]) -> None:
    unknown = [name for name in protocols if name not in PROTOCOLS]
    if unknown:
        raise ValueError(f"unknown protocol {unknown[0]!r}; known are: {', '.join(PROTOCOLS)}")
    if test is not None and test.labels.max() > train.labels.max():
        raise ValueError(
            f"the test images have classes up to {test.labels.max()}, the training images up to {train.labels.max()}; "
            "both sets need the same classes"
        )


def _scores(predicted: Mapping[str, np.ndarray], labels: np.ndarray) -> Dict[str, float]:
    return {name: 100.0 * float((classes == labels).mean()) for name, classes in predicted.items()}


def _classes(train: Features) -> int:
    return int(train.labels.max()) + 1


def _knn(train: Features, test: Features, settings: Settings, only: Any) -> Dict[str, np.ndarray]:
    predicted = {}
    for name, near in train.of_last_block().items():
        if name == "cls+mean":  # whichever is longer would decide about the neighbours
            continue
        far = test.of_last_block()[name]
        for k in (k for k in NEIGHBOURS if k <= len(train)):
            if only in (None, f"{name}, k {k}"):
                predicted[f"{name}, k {k}"] = knn.knn_predict(near, train.labels, far, k)
    return predicted


def _ridge(train: Features, test: Features, settings: Settings, only: Any) -> Dict[str, np.ndarray]:
    predicted = {}
    for name, features in train.of_last_block().items():
        penalties = [value for value in PENALTIES if only in (None, f"{name}, penalty {value:g}")]
        if not penalties:
            continue
        x, y = standardised(features, test.of_last_block()[name])
        weights = ridge.fit_ridge(x, train.labels, penalties, _classes(train))
        for value, classes in zip(penalties, linear.predict_linear(weights, y)):
            predicted[f"{name}, penalty {value:g}"] = classes
    return predicted


def _linear(train: Features, test: Features, settings: Settings, only: Any) -> Dict[str, np.ndarray]:
    predicted = {}
    for name, features in train.sets().items():
        rates = [rate for rate in RATES if only in (None, f"{name}, rate {rate:g}")]
        if not rates:
            continue
        x, y = standardised(features, test.sets()[name])
        weights = linear.train_linear(x, train.labels, rates, _classes(train), settings.epochs, seed=settings.seed)
        for rate, classes in zip(rates, linear.predict_linear(weights, y)):
            predicted[f"{name}, rate {rate:g}"] = classes
    return predicted


def _layers(train: Features, test: Features, settings: Settings) -> Dict[str, np.ndarray]:
    predicted = {}
    for name, features in train.by_block().items():
        x, y = standardised(features, test.by_block()[name])
        weights = linear.train_linear(
            x, train.labels, [_FIXED_RATE], _classes(train), settings.epochs, seed=settings.seed
        )
        predicted[name] = linear.predict_linear(weights, y)[0]
    return predicted


def _attentive(
    make_head: Callable[[int, int], Any], train: Features, test: Features, settings: Settings, only: Any
) -> Dict[str, np.ndarray]:
    if not train.tokens.shape[1]:
        raise ValueError("the attentive protocols need all tokens: extract the features with_tokens")
    predicted = {}
    for rate in ATTENTIVE_RATES:
        if only in (None, f"rate {rate:g}"):
            paddle.seed(settings.seed)
            head = make_head(train.tokens.shape[-1], _classes(train))
            epochs = max(1, settings.epochs // 2)  # its steps are small ones
            attentive.train_attentive(head, train.tokens, train.labels, rate, epochs, seed=settings.seed)
            predicted[f"rate {rate:g}"] = attentive.predict_attentive(head, test.tokens)
    return predicted


def _attentive_head(width: int, classes: int) -> AttentiveHead:
    """With the most heads, up to twelve, that divide the width."""
    heads = next(heads for heads in (12, 8, 6, 4, 3, 2, 1) if width % heads == 0)
    return AttentiveHead(width, classes, heads)


def _efficient_head(width: int, classes: int) -> EfficientProbingHead:
    """With 32 queries, as in the paper, or as many up to that as divide the width."""
    return EfficientProbingHead(width, classes, next(count for count in range(32, 0, -1) if width % count == 0))


def table(results: Mapping[str, Any], random: Optional[Mapping[str, Any]] = None) -> str:
    """The accuracies as text; if given, beside those of a `random` encoder, on the same images as the rest."""
    head = ["protocol", "top-1", "validation", "chosen there"]
    rows = [
        [name, f"{found['top1']:.1f}" if "top1" in found else "-", f"{found['validation']:.1f}", found["chosen"]]
        for name, found in results.items()
        if "chosen" in found
    ]
    if random is not None:
        head.insert(2, "random")
        for row in rows:
            other = random[row[0]]
            row.insert(2, f"{other.get('top1', other['validation']):.1f}")
    lines = [_line(row) for row in (head, *rows)] if rows else []
    if "layers" in results:
        others = random["layers"]["tried"] if random is not None else {}
        lines += [""] * bool(lines) + ["linear on validation images, by block:" + " (random)" * bool(others)]
        for name, accuracy in results["layers"]["tried"].items():
            lines.append(f"  {name:<16}  {accuracy:6.1f}" + (f"  ({others[name]:.1f})" if others else ""))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    first, *numbers, last = cells
    return "  ".join([f"{first:<10}", *(f"{number:>10}" for number in numbers), last])
