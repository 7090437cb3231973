"""Quality of the features during pre-training: classification by frozen features, and signs of collapse."""

from functools import partial
from pathlib import Path
from typing import Any, Dict, Literal, Optional

import numpy as np
import paddle

from plsc import checks, distributed
from plsc.config.registry import CALLBACKS
from plsc.data.batch_transforms import preparing
from plsc.data.classes import check_labels
from plsc.data.folder import ImageFolder
from plsc.data.loader import DataLoader
from plsc.data.subset import EveryKth
from plsc.data.transforms import CenterCrop
from plsc.engine.callback import Callback
from plsc.engine.callbacks.progress import restart_clock
from plsc.engine.trainer import Trainer
from plsc.evaluation.frozen.features import standardised
from plsc.evaluation.frozen.knn import knn_predict
from plsc.evaluation.frozen.linear import predict_linear
from plsc.evaluation.frozen.ridge import fit_ridge
from plsc.evaluation.measures import feature_deviation, rankme
from plsc.models.encoder import Encoder
from plsc.models.pooling import pooled
from plsc.nn.utils import inference

SPLIT = "probe"
_HELD_OUT = 4  # every fourth image is a test image
_LEAST = 8
_PENALTY = 0.1  # of the ridge regression on standardized features; fixed, not tuned


@CALLBACKS.register()
class FrozenProbe(Callback):
    """Classifies some images by the encoder's frozen features before the first step, every k epochs and at the end.

    The images are center-cropped and not augmented. Every fourth image is a test image; the others are the training
    images of a k-NN classifier and of a ridge regression. The encoder runs in inference mode and its mode is restored,
    so a run has the same results, bit for bit, with and without the probe. The images are divided among the processes.
    Images that cannot be read stop the run or are left out, according to `DataLoader.Train.loader.on_bad_image`.

    Metrics, under the split `probe`; `Global.monitor` may name one: `knn_top1` and `ridge_top1`, accuracies in percent;
    `rankme`, the effective rank of the features (arXiv 2210.02885), and `feature_std`, the standard deviation of
    normalized features (arXiv 2011.10566). The last two fall if the features collapse.

    Args:
        every_epochs: Epochs between two measurements.
        images: Maximum number of images, evenly spread over the data.
        data: Folder with one sub-folder of images per class; by default the training images.
        pooling: `mean` of the patch tokens, or `cls`, the class token.
        neighbours: k of k-NN; at most the number of training images.
        batch_size: Images per batch and process.
        num_workers: Processes that read images; 0: the training process reads them.

    Raises:
        ValueError: If an argument is out of range; at the start of the run, if the images have no labels, too few can
            be read, or the encoder has no token features.
    """

    measures = ("knn_top1", "ridge_top1", "rankme", "feature_std")

    def __init__(
        self,
        every_epochs: int = 1,
        images: int = 2000,
        data: Optional[str] = None,
        pooling: Literal["mean", "cls"] = "mean",
        neighbours: int = 10,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        checks.at_least(1, every_epochs=every_epochs, neighbours=neighbours, batch_size=batch_size)
        checks.at_least(_LEAST, images=images)
        checks.at_least(0, num_workers=num_workers)
        self.every_epochs, self.images, self.pooling, self.neighbours = every_epochs, images, pooling, neighbours
        self.batch_size, self.num_workers = batch_size, num_workers
        self.data = data
        self._loader: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        self._loader = self._open(trainer)
        if trainer.step == 0:
            self._measure(trainer)

    def on_step_end(self, trainer: Trainer) -> None:
        if (trainer.at_epoch_end and round(trainer.epoch) % self.every_epochs == 0) or trainer.finished:
            self._measure(trainer)

    def _open(self, trainer: Trainer) -> DataLoader:
        encoder = trainer.task.encoder
        if not isinstance(encoder, Encoder):
            raise ValueError(
                f"FrozenProbe: {type(encoder).__name__}, the encoder of {type(trainer.task).__name__}, has no token "
                "features; remove it from Callbacks"
            )
        whole = trainer.loader.dataset if self.data is None else ImageFolder(str(Path(self.data)))
        if len(whole) < _LEAST:
            raise ValueError(f"FrozenProbe: the data has {len(whole)} images; it needs {_LEAST}")
        loader = DataLoader(
            EveryKth(whole, self.images),
            [CenterCrop(encoder.image_size, crop_ratio=1.0)],
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            shuffle=False,
            drop_last=False,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            bad_images=trainer.loader.bad_images.for_reading_once(say=trainer.log.say),
            check_label=partial(check_labels, count=None, source="FrozenProbe"),
        )
        if "label" not in loader.first(1):
            raise ValueError(
                "FrozenProbe: the images have no labels; set data to a folder with one sub-folder per class, or "
                "remove FrozenProbe from Callbacks"
            )
        return loader

    def _measure(self, trainer: Trainer) -> None:
        features, labels = self._features(trainer)
        if not np.isfinite(features).all():  # equal in every process
            trainer.log.say(f"{SPLIT} at epoch {trainer.epoch:.2f} gives no metrics: the features are not finite")
            return
        found = self._classify(features, labels)
        text = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
        line = f"{SPLIT} at epoch {trainer.epoch:.2f}: {text}"
        trainer.log.record(SPLIT, trainer.step, trainer.epoch, found, line)
        if trainer.step:
            trainer.metrics.record(found)
        restart_clock(trainer)

    def _features(self, trainer: Trainer) -> Any:
        """Compute the features and labels of all images that can be read; equal in every process.

        Returns:
            Features, float64 (N, D), and labels, int64 (N,).

        Raises:
            ValueError: If too few images can be read.
        """
        encoder, rng = trainer.task.encoder, np.random.default_rng(0)
        transforms = preparing(trainer.train_step.batch_transforms)
        table: Any = None
        self._loader.bad_images.forget()
        with inference(encoder), paddle.no_grad():
            for number, batch in enumerate(self._loader):
                if batch:  # empty if none of its images can be read
                    rows = self._rows(trainer, batch, transforms, rng)
                    table = np.zeros((len(self._loader.dataset), rows.shape[1])) if table is None else table
                    table[batch["index"].numpy().reshape(-1)] = rows
                if number < self._loader.batches_of_all:
                    trainer.stop_if_asked()
        self._loader.bad_images.count()
        if table is None:  # other processes may have images
            table = np.zeros((len(self._loader.dataset), encoder.embed_dim + 2))
        table = distributed.sum_over_processes(table)  # each row is nonzero in one process only
        places = np.flatnonzero(table[:, -1])
        if len(places) < _LEAST:
            raise ValueError(f"FrozenProbe: only {len(places)} images can be read; it needs {_LEAST}")
        return table[places, :-2], table[places, -2].astype(np.int64)

    def _rows(self, trainer: Trainer, batch: Any, transforms: Any, rng: np.random.Generator) -> np.ndarray:
        """Return features, label and 1 for each image of a batch, float64 (B, D + 2)."""
        for transform in transforms:
            batch = transform(batch, rng)
        with trainer.train_step.precision.autocast():
            part = pooled(trainer.task.encoder, batch["image"], self.pooling).astype("float32").numpy()
        labels = batch["label"].numpy().reshape(-1, 1)
        return np.concatenate([part, labels, np.ones_like(labels)], axis=1)

    def _classify(self, features: np.ndarray, labels: np.ndarray) -> Dict[str, float]:
        held_out = np.arange(len(labels)) % _HELD_OUT == _HELD_OUT - 1
        near, far, known = features[~held_out], features[held_out], labels[~held_out]
        by_neighbours = knn_predict(near, known, far, min(self.neighbours, len(near)))
        x, y = standardised(near, far)
        by_ridge = predict_linear(fit_ridge(x, known, [_PENALTY], int(labels.max()) + 1), y)[0]
        values = (
            100.0 * float((by_neighbours == labels[held_out]).mean()),
            100.0 * float((by_ridge == labels[held_out]).mean()),
            rankme(features),
            feature_deviation(features),
        )
        return dict(zip(self.measures, values))
