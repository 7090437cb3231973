"""Features of a frozen encoder for a whole dataset, computed once and kept in memory."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Union

import numpy as np
import paddle

from plsc.data.loader import DataLoader
from plsc.models.encoder import Encoder
from plsc.nn.utils import inference
from plsc.tasks.base import Batch


@dataclass
class Features:
    """Features of N images from an encoder with L blocks, T patches and width D.

    Attributes:
        labels: Classes, int64 (N,).
        cls: Class token after each block, with the encoder's final norm applied, float32 (N, L, D).
        mean: Mean of the patch tokens after each block, norm applied to the mean, float32 (N, L, D).
        tokens: All tokens after the last block and the norm, float32 (N, 1 + T, D); (N, 0, D) if not requested.
        mean_after: Mean of the patch tokens after the last block, norm applied to each token, float32 (N, D); None: not
            used by probes.
    """

    labels: np.ndarray
    cls: np.ndarray
    mean: np.ndarray
    tokens: np.ndarray
    mean_after: Optional[np.ndarray] = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Features":
        """Select the images at `indices`."""
        after = None if self.mean_after is None else self.mean_after[indices]
        return Features(self.labels[indices], self.cls[indices], self.mean[indices], self.tokens[indices], after)

    def sets(self, last: int = 4) -> Dict[str, np.ndarray]:
        """Feature sets for linear probes by name, each float32 (N, width).

        Class token, mean, and both concatenated; of the last block, and of the last `last` blocks concatenated.
        """
        last = min(last, self.cls.shape[1])
        found = self.of_last_block()
        if last > 1:
            cls, mean = (part[:, -last:].reshape(len(self), -1) for part in (self.cls, self.mean))
            several = {"cls": cls, "mean": mean, "cls+mean": np.concatenate([cls, mean], axis=1)}
            found.update({f"{name} of {last} blocks": part for name, part in several.items()})
        return found

    def of_last_block(self) -> Dict[str, np.ndarray]:
        """Feature sets of the last block."""
        cls, mean = self.cls[:, -1], self.mean[:, -1]
        after = {} if self.mean_after is None else {"mean after norm": self.mean_after}
        return {"cls": cls, "mean": mean, "cls+mean": np.concatenate([cls, mean], axis=1), **after}

    def by_block(self) -> Dict[str, np.ndarray]:
        """Class token and mean after every block, by name."""
        blocks = range(self.cls.shape[1])
        return {f"{name} of block {i + 1}": part[:, i] for i in blocks for name, part in self._kinds()}

    def _kinds(self) -> Sequence[Any]:
        return (("cls", self.cls), ("mean", self.mean))


def extract(
    encoder: Encoder,
    loader: Union[DataLoader, Iterable[Batch]],
    batch_transforms: Sequence[Callable[[Batch, np.random.Generator], Batch]] = (),
    with_tokens: bool = False,
) -> Features:
    """Run an encoder over a dataset in inference mode.

    Args:
        encoder: Encoder with `norm` and `blocks`, each of which returns tokens (B, 1 + T, D), the class token first.
        loader: Loader of batches with `image` and `label`, in the order of the dataset.
        batch_transforms: Batch transforms of the evaluation.
        with_tokens: Keep all tokens.

    Raises:
        ValueError: If the encoder gives no tokens, the dataset has no labels, or no image can be read.
    """
    if not isinstance(encoder, Encoder):
        raise ValueError(f"{type(encoder).__name__} has no token features; derive it from plsc.models.encoder.Encoder")
    outputs: List[paddle.Tensor] = []
    hooks = [block.register_forward_post_hook(lambda _, __, y: outputs.append(y)) for block in encoder.blocks]
    rng = np.random.default_rng(0)
    collected: Dict[str, List[np.ndarray]] = {name: [] for name in ("labels", "cls", "mean", "tokens", "mean_after")}
    try:
        with inference(encoder), paddle.no_grad():
            for batch in loader:
                if not batch:  # all images of the batch were bad and left out
                    continue
                for transform in batch_transforms:
                    batch = transform(batch, rng)
                if "label" not in batch:
                    raise ValueError("the dataset has no labels; sort the images into one folder per class")
                outputs.clear()
                tokens = encoder(batch["image"])
                for key, value in _of_batch(encoder, outputs, tokens, with_tokens).items():
                    collected[key].append(value.numpy())
                collected["labels"].append(batch["label"].numpy())
    finally:
        for hook in hooks:
            hook.remove()
    tell_bad_images(loader)
    return Features(**{key: np.concatenate(parts) for key, parts in collected.items()})


def tell_bad_images(loader: Any) -> None:
    """Report the images that a loader has left out, after a whole pass.

    Raises:
        ImageError: If all images were left out.
    """
    if isinstance(loader, DataLoader) and loader.bad_images.count() == len(loader.dataset):
        raise loader.bad_images.none_left(loader.bad_images.found)


def _of_batch(
    encoder: Encoder, outputs: Sequence[paddle.Tensor], tokens: paddle.Tensor, with_tokens: bool
) -> Dict[str, paddle.Tensor]:
    first = encoder.num_prefix_tokens
    return {
        "cls": paddle.stack([encoder.norm(y[:, 0]) for y in outputs], axis=1).astype("float32"),
        "mean": paddle.stack([encoder.norm(y[:, first:].mean(axis=1)) for y in outputs], axis=1).astype("float32"),
        "tokens": (tokens if with_tokens else tokens[:, :0]).astype("float32"),
        "mean_after": tokens[:, first:].mean(axis=1).astype("float32"),
    }


def standardised(train: np.ndarray, *others: np.ndarray) -> List[np.ndarray]:
    """Standardize features (N, D) to mean 0 and deviation 1 in `train`; apply the same map to `others`."""
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    return [((part - mean) / deviation).astype(np.float32) for part in (train, *others)]


def stratified_split(labels: np.ndarray, share: float, seed: int = 0) -> Sequence[np.ndarray]:
    """Split indices into a larger and a smaller part, stratified by class; the larger part has every class."""
    rng = np.random.default_rng(seed)
    by_class = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    chosen = np.sort(np.concatenate([own[: int(share * len(own))] for own in by_class]))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
