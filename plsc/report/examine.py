"""Shows images to a trained network and writes down what it makes of them, for the report."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import paddle
from paddle.nn import functional as F

from plsc.config import registry
from plsc.config.schema import read_settings
from plsc.data.loader import DataLoader
from plsc.data.subset import EveryKth
from plsc.engine.parts import Known, bad_image_policy, build_list, evaluation_set
from plsc.evaluation.classification import calibration_bins, calibration_error, confusion_matrix
from plsc.evaluation.embedding import embed
from plsc.nn.utils import inference
from plsc.report.examination import Examination, Example
from plsc.tasks.base import Batch, Task
from plsc.text import distinguishable, printable

Config = Mapping[str, Any]
_MOST_POINTS = 1500


@dataclass
class _Seen:
    """What was collected of the images, one entry each."""

    labels: List[np.ndarray] = field(default_factory=list)
    index: List[np.ndarray] = field(default_factory=list)
    probabilities: List[np.ndarray] = field(default_factory=list)
    features: List[np.ndarray] = field(default_factory=list)

    def all(self, name: str) -> Optional[np.ndarray]:
        parts = getattr(self, name)
        return np.concatenate(parts) if parts else None


def examine(
    config: Config,
    task: Task,
    most_images: int = 2000,
    examples: int = 12,
    embedding: str = "tsne",
    known: Known = (None, "the checkpoint"),
) -> Examination:
    """Confusions, confidence, examples and features of a task on labelled images.

    The images are those of `DataLoader.Eval`, or of `DataLoader.Train` if there is no evaluation set.

    Args:
        config: Checked by plsc.config.schema; the one the task was trained with.
        task: With its weights. It comes back in the mode in which it came.
        most_images: If the set has more, every k-th is shown.
        examples: Number of wrong and of right images to keep.
        embedding: How features become points, see plsc.evaluation.embedding; `pca` where that is not installed.
        known: Names of the model's classes, and who knows them.
    """
    notes: List[str] = []
    split = "Eval" if config["DataLoader"].get("Eval") is not None else "Train"
    try:
        dataset = EveryKth(evaluation_set(config, task, known, notes.append, split), most_images)
    except (ValueError, OSError, ImportError) as error:
        return Examination(notes=[f"The images of DataLoader.{split} cannot be shown: {error}"])
    names = getattr(dataset.whole, "classes", None)
    if names is None:
        return Examination(notes=[f"The images of DataLoader.{split} have no classes, so there is nothing to compare."])
    with inference(task):
        seen = _show(config, split, task, dataset)
    images = f"{len(dataset):,} of {len(dataset.whole):,} {'evaluation' if split == 'Eval' else 'training'} images."
    found = Examination(images=images, classes=distinguishable(list(map(str, names))), notes=notes)
    labels = seen.all("labels")
    if labels is not None:
        _judge(found, seen, labels, config, split, dataset, examples)
        _map_features(found, seen, labels, embedding)
    return found


def _loader(config: Config, split: str, dataset: Any) -> DataLoader:
    section = config["DataLoader"][split]
    loader = read_settings(config, f"DataLoader.{split}.loader")
    masks = config.get("MaskGenerator")
    return DataLoader(
        dataset,
        build_list(registry.TRANSFORMS, section.get("transforms")),
        registry.MASK_GENERATORS.build(masks) if masks is not None else None,
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        shuffle=False,
        drop_last=False,
        seed=read_settings(config, "Global").seed,
        bad_images=bad_image_policy(config, split),
    )


def _show(config: Config, split: str, task: Task, dataset: Any) -> _Seen:
    seen = _Seen()
    nodes = config["DataLoader"][split].get("batch_transforms")
    transforms = _without_mixing(build_list(registry.BATCH_TRANSFORMS, nodes))
    classify = config.get("Metric") is not None and split == "Eval"
    rng = np.random.default_rng(0)
    with paddle.no_grad():
        for batch in _loader(config, split, dataset):
            if not batch:  # all its images were bad and are left out
                continue
            for transform in transforms:
                batch = transform(batch, rng)
            if "label" not in batch:
                continue
            seen.labels.append(batch["label"].numpy().reshape(-1))
            seen.index.append(batch["index"].numpy().reshape(-1))
            if classify:
                seen.probabilities.append(F.softmax(task.predict(batch).astype("float32"), axis=-1).numpy())
            features = _features(task, batch)
            if features is not None:
                seen.features.append(features)
    return seen


def _without_mixing(transforms: Sequence[Any]) -> List[Any]:
    """What prepares images, without what mixes several of them."""
    return [transform for transform in transforms if hasattr(transform, "key")]


def _features(task: Task, batch: Batch) -> Optional[np.ndarray]:
    """Mean of the encoder's patch tokens, float32 (B, D); None if it gives no tokens."""
    encoder = task.encoder
    if not hasattr(encoder, "blocks"):
        return None
    return encoder(batch["image"])[:, 1:].mean(axis=1).astype("float32").numpy()


def _judge(
    found: Examination, seen: _Seen, labels: np.ndarray, config: Config, split: str, dataset: Any, examples: int
) -> None:
    probabilities = seen.all("probabilities")
    if probabilities is None or probabilities.ndim != 2 or probabilities.shape[1] < len(found.classes):
        return
    found.classes += [str(number) for number in range(len(found.classes), probabilities.shape[1])]
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct = predicted == labels
    found.matrix = confusion_matrix(labels, predicted, probabilities.shape[1])
    found.bins = calibration_bins(confidence, correct)
    found.ece = calibration_error(found.bins)
    samples = _loader(config, split, dataset).samples
    index = seen.all("index")

    def example(place: int) -> Example:
        sample = samples[0, int(index[place])]
        image = np.ascontiguousarray(sample["image"].transpose(1, 2, 0))
        names = found.classes[labels[place]], found.classes[predicted[place]]
        return Example(image, *names, float(confidence[place]), printable(sample.get("path", "")))

    order = np.argsort(-confidence, kind="stable")
    found.worst = [example(place) for place in order[~correct[order]][:examples]]
    found.best = [example(place) for place in _of_each_class(order[correct[order]], labels, examples)]


def _of_each_class(order: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The first image of every class, then the second, until there are `count`."""
    rank: Dict[int, int] = {}
    ranks = []
    for place in order:
        ranks.append(rank.get(int(labels[place]), 0))
        rank[int(labels[place])] = ranks[-1] + 1
    return order[np.argsort(ranks, kind="stable")[:count]] if len(order) else order


def _map_features(found: Examination, seen: _Seen, labels: np.ndarray, embedding: str) -> None:
    features = seen.all("features")
    if features is None or len(features) < 3 or features.shape[1] < 2:
        return
    kept = np.unique(np.linspace(0, len(features) - 1, min(len(features), _MOST_POINTS)).astype(int))
    try:
        found.points, found.embedding = embed(features[kept], embedding)
    except ImportError as error:
        found.notes.append(f"The features are shown along their main directions: {error}.")
        found.points, found.embedding = embed(features[kept], "pca")
    found.point_labels = labels[kept]
