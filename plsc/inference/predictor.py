"""Features and classes of images from a trained network."""

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Union

import numpy as np
import paddle
from paddle.nn import functional as F

from plsc.config import registry
from plsc.config.schema import read_settings
from plsc.engine.device import device_kept, set_device
from plsc.inference.preprocess import ImageLike, Preprocessing
from plsc.inference.restore import Restored, restore
from plsc.models.encoder import Encoder
from plsc.models.pooling import POOLINGS, pooled


class Guess(NamedTuple):
    """A class and its probability."""

    name: str
    index: int  # type: ignore[assignment]  # hides tuple.index
    probability: float


class Predictor:
    """A trained network with the preprocessing of its evaluation.

    Attributes:
        task: The restored task; `task.encoder` is the encoder, `task.model` the whole network.
        config: The run's config.
        path: The checkpoint's directory.
        step: Optimizer steps it was trained for.
        classes: Names of the classes; None if they are unknown.
        names_are_saved: True: the names are from the checkpoint. False: they are those of the present dataset of the
            run, by position.
        prepare: The preprocessing of images.
    """

    def __init__(self, restored: Restored) -> None:
        self.task, self.config, self.path, self.step = restored.task, restored.config, restored.path, restored.step
        self.classes = class_names(restored)
        self.names_are_saved = restored.classes is not None
        self.prepare = Preprocessing(self.config, self.task.image_size)

    def features(
        self, images: Union[ImageLike, Sequence[ImageLike]], pooling: str = "mean", batch_size: int = 64
    ) -> np.ndarray:
        """Compute features of images.

        Args:
            images: A file, a PIL image or uint8 pixels (H, W, 3); or a list of them.
            pooling: `mean` of the patch tokens, normalized after the mean; `cls`: the class token, normalized;
                `tokens`: all tokens, the class token first.
            batch_size: Images at a time.

        Returns:
            float32 (D,), or (prefix + N, D) for `tokens`; for a list with a first axis for the images.

        Raises:
            ValueError: If an image cannot be read, the pooling is unknown, or the network has no such encoder.
            FloatingPointError: If the features of an image are not finite; the image is named.
        """
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is one of {', '.join(POOLINGS)}, got {pooling!r}")
        encoder = token_encoder(self)
        return self._run(images, batch_size, lambda image: pooled(encoder, image, pooling))

    def logits(self, images: Union[ImageLike, Sequence[ImageLike]], batch_size: int = 64) -> np.ndarray:
        """Compute logits of the classes, float32 (C,), or (B, C) for a list.

        Raises:
            ValueError: If an image cannot be read, or the network does not classify.
            FloatingPointError: If the logits of an image are not finite; the image is named.
        """
        try:
            found = self._run(images, batch_size, lambda image: self.task.predict({"image": image}))
        except NotImplementedError:
            found = None
        if found is not None and self.task.head_names is not None:
            raise ValueError(
                f"{self.path} holds {len(self.task.head_names)} classifiers and none of them is chosen; train "
                "the best alone, as a Classifier with a LinearHead"
            )
        if found is None or found.ndim - isinstance(images, (list, tuple)) != 1:
            raise ValueError(
                f"{self.path} is a run of {type(self.task).__name__}, which does not classify; fine-tune or probe its "
                "encoder, or use its features"
            )
        return found

    def predict(self, images: Union[ImageLike, Sequence[ImageLike]], topk: int = 5, batch_size: int = 64) -> List[Any]:
        """Find the likeliest classes.

        Returns:
            `topk` guesses, the likeliest first; for a list of images a list of these.

        Raises:
            ValueError: If an image cannot be read, or the network does not classify.
        """
        if topk < 1:
            raise ValueError(f"topk must be at least 1, got {topk}")
        logits = self.logits(images, batch_size)
        found = [self._guesses(row, topk) for row in logits.reshape(-1, logits.shape[-1])]
        return found if logits.ndim == 2 else found[0]

    def _guesses(self, logits: np.ndarray, topk: int) -> List[Guess]:
        with self._on_its_device():
            probabilities = F.softmax(paddle.to_tensor(logits.astype("float64")), axis=-1).numpy()
        order = np.argsort(-probabilities, kind="stable")[:topk]
        return [Guess(self.name(int(index)), int(index), float(probabilities[index])) for index in order]

    def name(self, index: int) -> str:
        """The name of a class, or its number if the name is unknown."""
        return self.classes[index] if self.classes is not None and index < len(self.classes) else str(index)

    def _run(self, images: Any, batch_size: int, network: Any) -> np.ndarray:
        several = isinstance(images, (list, tuple))
        given = list(images) if several else [images]
        if not given:
            raise ValueError("the list of images is empty")
        results = []
        with self._on_its_device(), paddle.no_grad():
            for part in _parts(given, batch_size):
                batch = self.prepare([self.prepare.pixels(image) for image in part])
                results.append(network(batch).astype("float32").numpy())
        found = np.concatenate(results)
        finite = np.isfinite(found).reshape(len(found), -1).all(axis=1)
        if not finite.all():
            place = int(np.argmin(finite))
            name = given[place] if isinstance(given[place], (str, Path)) else f"image {place}"
            raise FloatingPointError(f"{name}: what the network of {self.path} makes of it is not finite")
        return found if several else found[0]

    @contextmanager
    def _on_its_device(self) -> Iterator[None]:
        """Use the device of the run's config inside the block; afterwards the program's own device again."""
        with device_kept():
            set_device(read_settings(self.config, "Global").device)
            yield


def load_predictor(checkpoint: Union[str, Path], ema: bool = False, overrides: Sequence[str] = ()) -> Predictor:
    """The predictor of a checkpoint; see `plsc.load`."""
    return Predictor(restore(checkpoint, overrides, ema))


def _parts(items: List[Any], size: int) -> Iterator[List[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def token_encoder(model: Predictor) -> Encoder:
    """The encoder of a trained network.

    Raises:
        ValueError: If it gives no tokens.
    """
    encoder = model.task.encoder
    if not isinstance(encoder, Encoder):
        raise ValueError(f"{model.path} is a run of {type(model.task).__name__}, whose network has no token features")
    return encoder


def class_names(restored: Restored) -> Optional[List[str]]:
    """Names of the classes that a checkpoint was trained on, or those of its dataset; None if both are missing."""
    if restored.classes is not None:
        return restored.classes
    for split in ("Train", "Eval"):
        section = restored.config["DataLoader"].get(split)
        if section is None:
            continue
        try:
            names = registry.DATASETS.build(section["dataset"]).classes
        except (ValueError, OSError, ImportError):
            continue
        if names is not None:
            return [str(name) for name in names]
    return None
