"""Inputs of a benchmark: the config's data and tokenizer, or replacements for those missing on this machine."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import paddle
from PIL import Image

from plsc.checkpoint.reader import Checkpoint
from plsc.config import registry, settings
from plsc.config.registry import TOKENIZERS
from plsc.config.run_config import RunConfig
from plsc.config.schema import read_settings
from plsc.config.tree import ConfigMap
from plsc.data.loader import DataLoader
from plsc.data.pipeline import SampleDataset
from plsc.engine.consistency import patch_grid
from plsc.engine.parts import build_list, build_task
from plsc.tokenizers.base import Target

Config = RunConfig
GENERATED_SIZE = (500, 375)  # width and height in pixels, ImageNet's most frequent
SQUARE = (375, 375)  # for transforms that keep the shape of the image and need a square
DISTINCT = 32  # generated images; further files are copies of them
JPEG_QUALITY = 90  # one core decodes 1,500 to 1,700 of these images per second, as with photographs


@TOKENIZERS.register()
class GivenTargets(Target):
    """Random token ids without computation: replaces a tokenizer whose weights are missing, in benchmarks.

    Args:
        vocab_size: Number of tokens.
        num_targets: Number of targets per image.
    """

    kind = "ids"

    def __init__(self, vocab_size: int, num_targets: int) -> None:
        self.vocab_size = vocab_size
        self.num_targets = num_targets
        self._ids = paddle.zeros([0, num_targets], dtype="int64")

    def __call__(self, batch: Dict[str, paddle.Tensor]) -> paddle.Tensor:
        """Return the token ids of a batch, int64 (B, N); equal in every call."""
        size = batch["image"].shape[0]
        if self._ids.shape[0] != size:
            ids = np.random.default_rng(0).integers(self.vocab_size, size=(size, self.num_targets))
            self._ids = paddle.to_tensor(ids)
        return self._ids


@dataclass
class Subject:
    """A config that runs on this machine, and its inputs, built once because a large folder takes long to list.

    Args:
        config: The config with its replacements, for one process and one micro-batch per step.
        dataset: Training set.
        transforms: Transforms of training samples.
        masks: Mask generator; None: no masks.
        loader: The settings `DataLoader.Train.loader`.
        notes: Replacements, and remarks about the results.
    """

    config: Config
    dataset: Any
    transforms: List[Any]
    masks: Optional[Any]
    loader: settings.Loader
    notes: List[str]

    @property
    def patches(self) -> Tuple[int, int]:
        """Number of masked patches and of all patches of an image; (0, 0) without masks."""
        return (0, 0) if self.masks is None else (self.masks.num_masked, int(np.prod(self.masks.grid)))

    def samples(self) -> SampleDataset:
        """Return the training set as arrays."""
        return SampleDataset(self.dataset, self.transforms, self.masks)

    def reader(self, batches: int, batch_size: int) -> DataLoader:
        """Return a loader with the config's settings over this number of batches."""
        return DataLoader(
            Repeated(self.dataset, batches * batch_size),
            self.transforms,
            self.masks,
            batch_size=batch_size,
            num_workers=self.loader.num_workers,
            prefetch=self.loader.prefetch,
        )


def runnable(config: Config, folder: Path) -> Subject:
    """Replace the missing inputs of a config, so that its speed can be measured on this machine.

    A missing checkpoint is replaced by random weights, a missing dataset by generated images, a tokenizer without its
    files by random token ids. The notes list the replacements.

    Args:
        config: Checked by plsc.config.schema.
        folder: Directory for generated images.

    Raises:
        ValueError: If a component rejects its arguments for another reason than missing files.
    """
    own = copy.deepcopy(config.tree)
    own["Global"].update(global_batch_size=None, accumulate_steps=1)
    notes: List[str] = []
    section, masks = own["DataLoader"]["Train"], own.get("MaskGenerator")
    loader: settings.Loader = read_settings(own, "DataLoader.Train.loader")
    _find_weights(own, notes)
    transforms = build_list(registry.TRANSFORMS, section.get("transforms"))
    dataset = _find_dataset(section, transforms, loader.batch_size, folder, notes)
    _find_tokenizer(own, notes)
    return Subject(
        RunConfig(own),
        dataset,
        transforms,
        registry.MASK_GENERATORS.build(masks) if masks is not None else None,
        loader,
        notes,
    )


def _find_weights(config: ConfigMap, notes: List[str]) -> None:
    init: settings.Init = read_settings(config, "Init")
    if init.checkpoint is None or Path(init.checkpoint).is_file():
        return
    try:
        Checkpoint.open(init.checkpoint)
    except (ValueError, OSError) as error:
        reason = str(error).split(";")[0]
        notes.append(f"Init.checkpoint cannot be used ({reason}): random weights are used, which take the same time")
        config["Init"] = None


def _find_dataset(
    section: Dict[str, Any], transforms: List[Any], batch_size: int, folder: Path, notes: List[str]
) -> Any:
    node = section["dataset"]
    try:
        return registry.DATASETS.build(node)
    except (ValueError, OSError) as error:
        missing = str(error).split(";")[0]
    for size in (GENERATED_SIZE, SQUARE):
        generate_images(folder / "train", max(2 * DISTINCT, batch_size), size)
        dataset = _generated(section, node, folder)
        if _is_square(SampleDataset(dataset, transforms)[0, 0]["image"].shape):
            break
    notes.append(f"the training set is missing ({missing}): JPEG images of {size[0]} x {size[1]} pixels are generated")
    return dataset


def _is_square(shape: Sequence[int]) -> bool:
    return shape[-1] == shape[-2]


def _generated(section: Dict[str, Any], node: Mapping[str, Any], folder: Path) -> Any:
    try:  # keeps its other arguments, such as the decoder
        section["dataset"] = {**node, "root": str(folder)}
        return registry.DATASETS.build(section["dataset"])
    except (ValueError, OSError, TypeError):
        section["dataset"] = {"name": "ImageFolder", "root": str(folder / "train")}
        return registry.DATASETS.build(section["dataset"])


def _find_tokenizer(config: ConfigMap, notes: List[str]) -> None:
    if config.get("Tokenizer") is None:
        return
    try:
        registry.TOKENIZERS.build(config["Tokenizer"])
        return
    except (ValueError, OSError) as error:
        missing = error
    stand_in = GivenTargets(1, 1)
    stand_in.vocab_size = None  # matches every model
    with paddle.LazyGuard():
        task = build_task(RunConfig(config), 0, stand_in)
    vocabulary, grid = task.model.vocab_size, patch_grid(task)
    if not vocabulary or grid is None:
        raise missing
    config["Tokenizer"] = {"name": "GivenTargets", "vocab_size": vocabulary, "num_targets": int(np.prod(grid))}
    config["imports"] = [*(config.get("imports") or []), __name__]
    notes.append(f"the tokenizer is missing ({str(missing).split(';')[0]}): random token ids, its time is not included")


def generate_images(folder: Path, count: int, size: Tuple[int, int] = GENERATED_SIZE) -> None:
    """Write JPEG images of two classes with about the file size and decoding time of photographs."""
    rng = np.random.default_rng(0)
    files: List[bytes] = []
    for number in range(count):
        path = folder / f"class_{number % 2}" / f"{number:05d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(files) < DISTINCT:
            _photograph(rng, size).save(path, quality=JPEG_QUALITY)
            files.append(path.read_bytes())
        else:
            path.write_bytes(files[number % DISTINCT])


def _photograph(rng: np.random.Generator, size: Tuple[int, int]) -> Image.Image:
    """Draw noise at several scales, stronger at coarse scales and gray at fine ones, as in natural images."""
    width, height = size
    pixels = np.full((height, width, 3), 128.0)
    for cells, strength, channels in ((4, 60, 3), (16, 30, 3), (64, 15, 1), (width, 5, 1)):
        noise = rng.normal(0, strength, size=(max(1, cells * height // width), cells, channels)).clip(-127, 127)
        coarse = (noise + 128).astype(np.uint8).repeat(3 // channels, axis=2)
        layer = Image.fromarray(coarse).resize(size, Image.BICUBIC)
        pixels += np.asarray(layer, dtype=np.float64) - 128
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


class Repeated:
    """A dataset of `length` samples that repeats those of `dataset`."""

    def __init__(self, dataset: Any, length: int) -> None:
        self.dataset = dataset
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Dict[str, Any]:
        return self.dataset[index % len(self.dataset)]


def positions(length: int) -> Iterator[Tuple[int, int]]:
    """Yield (epoch, index) of a dataset in order, forever."""
    epoch = 0
    while True:
        yield from ((epoch, index) for index in range(length))
        epoch += 1
