"""Conversion of a dataset's samples to batches of arrays: transforms, masks, collation."""

from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
from PIL import Image

from plsc.data.fast_image import FastImage
from plsc.data.images import ImageError, ImageSizeError, is_out_of_memory, out_of_memory
from plsc.data.sampler import Position
from plsc.text import printable

Sample = Dict[str, Any]
Arrays = Dict[str, np.ndarray]
Transform = Callable[[Sample, np.random.Generator], Sample]

# Salts that separate the random numbers of an image's transforms from those of its mask.
_TRANSFORM_SALT, _MASK_SALT = 1, 2


def transform_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Random generator of the transforms of sample `index` in `epoch`."""
    return np.random.default_rng([seed, epoch, index, _TRANSFORM_SALT])


def file_of(dataset: Any, index: int) -> Optional[str]:
    """Path of a sample's file; None if the dataset has no paths."""
    path = getattr(dataset, "path", None)
    return path(index) if callable(path) else None


class SampleDataset:
    """Dataset with transforms and masks applied, as arrays.

    All random values of a sample are a function of (seed, epoch, index). They do not depend on the process that reads
    it or on the order of reading.

    Args:
        dataset: `dataset[index]` is a dict with `image` (PIL, RGB), `path`, and optionally `label`.
        transforms: Called in order with the sample and its random generator.
        mask_generator: Called with a random generator; returns bool (H, W), True = masked.
        seed: Seed of transforms and masks, at least 0.
        check_label: Called with the label of every sample that has one; raises ValueError if it is out of range.
    """

    def __init__(
        self,
        dataset: Any,
        transforms: Sequence[Transform] = (),
        mask_generator: Optional[Callable[[np.random.Generator], np.ndarray]] = None,
        seed: int = 0,
        check_label: Optional[Callable[[Any], None]] = None,
    ) -> None:
        self.dataset = dataset
        self.transforms = list(transforms)
        self.mask_generator = mask_generator
        self.seed = seed
        self.check_label = check_label

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: Position) -> Sample:
        """Return a sample at a position (epoch, index).

        Returns:
            Every image as uint8 (3, H, W); `label` and `index` int64 (); `mask` bool (N,), row-major, with a mask
            generator; `path`, used in messages.

        Raises:
            RuntimeError: If a transform fails; the message names the image.
        """
        return self.read(position, position[1])

    def read(self, position: Position, source: int) -> Sample:
        """Return the sample of image `source` at a position; random values depend on the position only."""
        epoch, index = position
        try:
            arrays = self._transformed(source, transform_rng(self.seed, epoch, index))
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(file_of(self.dataset, source) or f"sample {source}") from error
            raise
        arrays["index"] = np.int64(source)
        if self.mask_generator is not None:
            mask_rng = np.random.default_rng([self.seed, epoch, index, _MASK_SALT])
            arrays["mask"] = np.asarray(self.mask_generator(mask_rng), dtype=bool).reshape(-1)
        return arrays

    def _transformed(self, source: int, rng: np.random.Generator) -> Sample:
        sample = self.dataset[source]
        self._check_label(sample, source)
        for transform in self.transforms:
            try:
                sample = transform(sample, rng)
            except Exception as error:
                if isinstance(error, ImageError) and not isinstance(error, ImageSizeError):
                    raise  # the image is decoded here; the message names the file
                name, path = type(transform).__name__, printable(sample.get("path", f"sample {source}"))
                if is_out_of_memory(error):
                    raise out_of_memory(path) from error
                kinds = (ImageSizeError, ImageError), (ValueError, ValueError), (Exception, RuntimeError)
                failure = next(to for kind, to in kinds if isinstance(error, kind))
                raise failure(f"{path}: {name} failed: {error}") from error
        return {key: _to_array(value) for key, value in sample.items()}  # images without a crop are decoded here

    def _check_label(self, sample: Sample, source: int) -> None:
        if self.check_label is None or "label" not in sample:
            return
        try:
            self.check_label(sample["label"])
        except ValueError as error:
            raise ValueError(f"{printable(sample.get('path', f'sample {source}'))}: {error}") from error


def collate(samples: Sequence[Sample]) -> Arrays:
    """Stack samples to a batch, and convert masks to index lists.

    Returns:
        Each entry stacked along a new first axis. With `mask` (B, N) also `visible_index` int64 (B, V) and
        `masked_index` int64 (B, M), ascending. Text is left out.

    Raises:
        ValueError: If shapes differ (the message names the samples), or if masks hide different numbers of patches.
    """
    keys = [key for key, value in samples[0].items() if not isinstance(value, str)]
    batch = {key: _stack(key, samples) for key in keys}
    if "mask" in batch:
        batch["visible_index"] = _positions(~batch["mask"])
        batch["masked_index"] = _positions(batch["mask"])
    return batch


def _to_array(value: Any) -> Any:
    if isinstance(value, FastImage):
        return value.planes()
    if isinstance(value, Image.Image):
        return np.ascontiguousarray(np.asarray(value).transpose(2, 0, 1))  # (H, W, 3) -> (3, H, W)
    if isinstance(value, int):
        return np.int64(value)
    return value


def _stack(key: str, samples: Sequence[Sample]) -> np.ndarray:
    shapes: List[tuple] = [np.shape(sample[key]) for sample in samples]
    odd = next((place for place, shape in enumerate(shapes) if shape != shapes[0]), None)
    if odd is not None:
        first, other = _name(samples[0]), _name(samples[odd])
        raise ValueError(
            f"{key!r} has the shape {shapes[0]} in {first} and {shapes[odd]} in {other}; all images of a batch need "
            "one size: add a transform such as RandomResizedCrop, or Resize and CenterCrop"
        )
    return np.stack([sample[key] for sample in samples])


def _name(sample: Sample) -> str:
    return f"sample {int(sample['index'])} ({printable(sample.get('path', 'no file'))})"


def _positions(mask: np.ndarray) -> np.ndarray:
    """bool (B, N) with M True in every row -> int64 (B, M)."""
    counts = mask.sum(axis=1)
    if (counts != counts[0]).any():
        raise ValueError(
            f"the masks of a batch hide between {counts.min()} and {counts.max()} patches; "
            "a mask generator must hide the same number every time"
        )
    return np.nonzero(mask)[1].reshape(len(mask), -1).astype(np.int64)
