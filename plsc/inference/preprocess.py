"""Preprocessing of images for a trained network, as in its evaluation."""

from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import paddle
from PIL import Image

from plsc.config import registry
from plsc.data.batch_transforms import preparing
from plsc.data.folder import EXTENSIONS, endings_text, images_below
from plsc.data.images import load_image, to_rgb
from plsc.data.pipeline import SampleDataset
from plsc.data.transforms import CenterCrop
from plsc.engine.parts import build_list
from plsc.text import printable

Config = Mapping[str, Any]
_PIXELS = ((2, ()), (3, (3,)), (3, (4,)))  # gray, RGB, RGB with transparency


class Prepared(NamedTuple):
    """Result of `Preprocessing.pixels`, which may be used instead of the image; uint8 (3, H, W)."""

    pixels: np.ndarray


ImageLike = Union[str, Path, Image.Image, np.ndarray, Prepared]


class Preprocessing:
    """Transforms of `DataLoader.Eval`; without it, a central square and the batch transforms of `DataLoader.Train`.

    Of the batch transforms, those that augment are left out.

    Args:
        config: Checked by plsc.config.schema.
        image_size: Height and width that the network takes; required without an evaluation set.

    Raises:
        ValueError: If `image_size` is required, but None.
    """

    def __init__(self, config: Config, image_size: Optional[Tuple[int, int]]) -> None:
        loaders = config["DataLoader"]
        self.extensions, self.bits = reading_of(config)
        own = loaders.get("Eval")
        nodes = (own or {}).get("transforms")
        if not nodes and image_size is None:
            raise ValueError("how images are prepared is not known: the run has no DataLoader.Eval; give one with -o")
        self.transforms = build_list(registry.TRANSFORMS, nodes) if nodes else [CenterCrop(image_size, crop_ratio=1.0)]
        self.transform_nodes = nodes or [{"name": "CenterCrop", "size": list(image_size or ()), "crop_ratio": 1.0}]
        candidates = (own or loaders["Train"]).get("batch_transforms") or []
        built = build_list(registry.BATCH_TRANSFORMS, candidates)
        self.batch_transforms = preparing(built)
        self.batch_nodes = [node for node, one in zip(candidates, built) if one in self.batch_transforms]

    def pixels(self, image: ImageLike) -> np.ndarray:
        """Apply the transforms to an image; uint8 (3, H, W).

        Raises:
            ValueError: If it is not an image.
        """
        if isinstance(image, Prepared):
            return image.pixels
        sample = SampleDataset([{"image": open_image(image, self.bits), "path": _name(image)}], self.transforms)[0, 0]
        return sample["image"]

    def __call__(self, pixels: Sequence[np.ndarray]) -> paddle.Tensor:
        """Input of the network, float32 (B, 3, H, W), from results of `pixels`."""
        batch: Dict[str, paddle.Tensor] = {"image": paddle.to_tensor(np.stack(pixels))}
        rng = np.random.default_rng(0)
        for transform in self.batch_transforms:
            batch = transform(batch, rng)
        return batch["image"]


def open_image(image: ImageLike, bits: Optional[int] = None) -> Image.Image:
    """Convert a file, a PIL image of any mode, or uint8 pixels (H, W, 3) or (H, W) to an RGB image.

    Args:
        image: The image.
        bits: See `plsc.data.images.to_rgb`.

    Raises:
        ValueError: If `image` is of another kind.
    """
    if isinstance(image, (str, Path)):
        return load_image(image, bits)
    if isinstance(image, Image.Image):
        return to_rgb(image, bits)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and (image.ndim, image.shape[2:]) in _PIXELS:
        return to_rgb(Image.fromarray(image))
    shape = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise ValueError(f"an image is a file name, a PIL image or uint8 pixels of shape (height, width, 3), got {shape}")


def _name(image: ImageLike) -> str:
    return printable(image) if isinstance(image, (str, Path)) else "the image"


def reading_of(config: Config) -> Tuple[Sequence[str], Optional[int]]:
    """Endings of image files, and bits of deep images, of the evaluation set (or training set) of a run."""
    loaders = config["DataLoader"]
    node = (loaders.get("Eval") or loaders["Train"])["dataset"]
    while isinstance(node.get("dataset"), Mapping):  # a part of another dataset
        node = node["dataset"]
    extensions = [ending.lower() for ending in node.get("extensions") or EXTENSIONS]
    return extensions, node.get("bits")


def find_images(paths: Sequence[Union[str, Path]], extensions: Sequence[str] = EXTENSIONS) -> List[Path]:
    """Find image files: the given files, and those in the given folders, with the rules of `ImageFolder`.

    Args:
        paths: Files and folders.
        extensions: Endings of the images in folders, in lower case.

    Raises:
        ValueError: If a path does not exist, or no image is found; the message counts files with other endings.
    """
    found: List[Path] = []
    left_out: "Counter[str]" = Counter()
    for path in map(Path, paths):
        if path.is_dir():
            found += [path / name for name in images_below(path, extensions, None, left_out, missing=True)]
        elif path.is_file():
            found.append(path)
        else:
            what = "is not a regular file" if path.exists() else "there is no such file or folder"
            raise ValueError(f"{printable(path)}: {what}")
    if not found:
        others = f", found {endings_text(left_out)}" if left_out else ""
        raise ValueError(
            f"{', '.join(map(printable, paths))}: there are no images; looked for {', '.join(extensions)}{others}"
        )
    return found
