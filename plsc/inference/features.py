"""Features of many images, for other programs."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import paddle

from plsc.config import registry
from plsc.config.tree import ConfigError
from plsc.data.images import load_image
from plsc.data.loader import DataLoader
from plsc.data.pipeline import file_of
from plsc.engine.parts import bad_image_policy
from plsc.evaluation.frozen.features import tell_bad_images
from plsc.inference.predictor import Predictor
from plsc.inference.preprocess import find_images
from plsc.models.pooling import pooled


class _Files:
    """Image files as a dataset."""

    classes = None

    def __init__(self, paths: Sequence[Path], bits: Optional[int] = None) -> None:
        self.paths = list(paths)
        self.bits = bits

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        return str(self.paths[index])

    def __getitem__(self, index: int) -> Dict[str, Any]:
        return {"image": load_image(self.paths[index], self.bits), "path": self.path(index)}


def extract_features(
    model: Predictor,
    images: Sequence[str] = (),
    split: Optional[str] = None,
    poolings: Sequence[str] = ("mean",),
    batch_size: int = 64,
    num_workers: int = 0,
) -> Dict[str, np.ndarray]:
    """Runs the encoder over images, prepared as the run's evaluation does.

    Images that cannot be read are an error, or left out, as `on_bad_image` of the split says; of named images, as that
    of `DataLoader.Eval.loader` (without an evaluation set: `DataLoader.Train.loader`).

    Args:
        model: Loaded from a checkpoint.
        images: Files and folders; or give `split`.
        split: `Train` or `Eval` of the run's config.
        poolings: See plsc.models.pooling.
        batch_size: Images at a time.
        num_workers: Processes that read images.

    Returns:
        For each pooling, float32 (N, ...); `files`, text (N,), if the data set knows them; `labels`, int64 (N,), and
        `classes`, text (C,), if it has classes.

    Raises:
        ValueError: If there are no images, one cannot be read, or the network has no token features.
        FloatingPointError: If features are not finite; the first such image is named.
    """
    if not hasattr(model.task.encoder, "forward_features"):
        raise ValueError(f"{model.path} is a run of {type(model.task).__name__}, whose network has no token features")
    own = "Eval" if model.config["DataLoader"].get("Eval") is not None else "Train"
    if images:
        dataset = _Files(find_images(images, model.prepare.extensions), model.prepare.bits)
    else:
        dataset = _dataset(model, split or "Eval")
    loader = DataLoader(
        dataset,
        model.prepare.transforms,
        shuffle=False,
        drop_last=False,
        batch_size=batch_size,
        num_workers=num_workers,
        bad_images=bad_image_policy(model.config, split or own),
    )
    found: Dict[str, List[np.ndarray]] = {name: [] for name in poolings}
    places: List[np.ndarray] = []
    rng = np.random.default_rng(0)
    with paddle.no_grad():
        for batch in loader:
            if not batch:  # all its images were bad and are left out
                continue
            places.append(batch["index"].numpy().reshape(-1))
            for transform in model.prepare.batch_transforms:
                batch = transform(batch, rng)
            for name in poolings:
                found[name].append(pooled(model.task.encoder, batch["image"], name).astype("float32").numpy())
            if "label" in batch:
                found.setdefault("labels", []).append(batch["label"].numpy().reshape(-1))
    tell_bad_images(loader)
    arrays = {name: np.concatenate(parts) for name, parts in found.items()}
    _check_finite(arrays, poolings, dataset)
    if hasattr(dataset, "path") and callable(dataset.path):
        arrays["files"] = np.array([dataset.path(int(index)) for index in np.concatenate(places)])
    if getattr(dataset, "classes", None) is not None:
        arrays["classes"] = np.array([str(name) for name in dataset.classes])
    return arrays


def _check_finite(arrays: Dict[str, np.ndarray], poolings: Sequence[str], dataset: Any) -> None:
    for name in poolings:
        finite = np.isfinite(arrays[name]).reshape(len(arrays[name]), -1).all(axis=1)
        if not finite.all():
            place = int(np.argmin(finite))
            image = file_of(dataset, place) or f"image {place}"
            raise FloatingPointError(
                f"{image}: its features ({name}) are not finite, and those of "
                f"{len(finite) - int(finite.sum()) - 1} more images"
            )


def _dataset(model: Predictor, split: str) -> Any:
    section = model.config["DataLoader"].get(split)
    if section is None:
        raise ConfigError(f"DataLoader.{split}: the run has none; name images, or give --split Train")
    return registry.DATASETS.build(section["dataset"])
