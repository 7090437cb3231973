"""All protocols on one frozen encoder. Whatever is chosen is chosen on a part of the training images."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import paddle

from plsc.evaluation import attentive, knn, linear
from plsc.evaluation.features import Features, standardised, stratified_split
from plsc.models.heads import AttentiveHead

PROTOCOLS = ("knn", "linear", "attentive", "layers")
NEIGHBOURS = (1, 5, 10, 20)
RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
ATTENTIVE_RATES = (1e-3, 3e-3, 1e-2)
_FIXED_RATE = 0.3  # of the comparison of layers, where nothing is chosen


@dataclass(frozen=True)
class Settings:
    """How the protocols are run.

    Attributes:
        validation_share: Part of the training images that decides about neighbours, features and learning rates.
        epochs: Of the classifiers.
        seed: Of the split, the order and the heads' first weights.
    """

    validation_share: float = 0.2
    epochs: int = 60
    seed: int = 0


def evaluate_frozen(
    train: Features, test: Optional[Features], protocols: Sequence[str], settings: Settings = Settings()
) -> Dict[str, Any]:
    """Accuracies on test images, and what led to them.

    For each of `knn`, `linear` and `attentive`: every choice is trained on one part of the training images and
    compared on the other; the best is trained on all of them and then, once, tested. `layers` compares class token and
    mean after every block at one learning rate, on the validation part only.

    Args:
        train: Features of the training images, without augmentation.
        test: Features of the test images; None: stop after the validation.
        protocols: Which of PROTOCOLS.
        settings: How.

    Returns:
        By protocol: `top1` on the test images (%, if there are any), `validation` (%), `chosen` (what was), and
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
        "linear": _linear,
        "attentive": _attentive,
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
        raise ValueError(f"there is no protocol {unknown[0]!r}; there is: {', '.join(PROTOCOLS)}")
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
    for name in ("cls", "mean"):
        near, far = train.sets()[name], test.sets()[name]
        for k in (k for k in NEIGHBOURS if k <= len(train)):
            if only in (None, f"{name}, k {k}"):
                predicted[f"{name}, k {k}"] = knn.knn_predict(near, train.labels, far, k)
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


def _attentive(train: Features, test: Features, settings: Settings, only: Any) -> Dict[str, np.ndarray]:
    if not train.tokens.shape[1]:
        raise ValueError("the attentive protocol needs all tokens: extract the features with_tokens")
    predicted = {}
    for rate in ATTENTIVE_RATES:
        if only in (None, f"rate {rate:g}"):
            paddle.seed(settings.seed)
            head = AttentiveHead(train.tokens.shape[-1], _classes(train), _heads(train.tokens.shape[-1]))
            epochs = max(1, settings.epochs // 2)  # its steps are small ones
            attentive.train_attentive(head, train.tokens, train.labels, rate, epochs, seed=settings.seed)
            predicted[f"rate {rate:g}"] = attentive.predict_attentive(head, test.tokens)
    return predicted


def _heads(width: int) -> int:
    """The most heads, up to twelve, that divide the width."""
    return next(heads for heads in (12, 8, 6, 4, 3, 2, 1) if width % heads == 0)


def table(results: Mapping[str, Any]) -> str:
    """The accuracies as text."""
    rows: Sequence[Tuple[str, ...]] = [
        (name, f"{found['top1']:.1f}" if "top1" in found else "-", f"{found['validation']:.1f}", found["chosen"])
        for name, found in results.items()
        if "chosen" in found
    ]
    lines = [f"{'protocol':<10}  {'top-1':>6}  {'validation':>10}  chosen there"]
    lines += [f"{name:<10}  {top1:>6}  {validation:>10}  {chosen}" for name, top1, validation, chosen in rows]
    if "layers" in results:
        lines += ["", "linear on validation images, by block:"]
        lines += [f"  {name:<16}  {accuracy:6.1f}" for name, accuracy in results["layers"]["tried"].items()]
    return "\n".join(lines)
