"""Figures of the augmentation and masks of a config, and of outputs of a trained network; one PNG each."""

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import paddle
from PIL import Image

from plsc.checkpoint.replace import PNG_START, begins_with, check_file
from plsc.config import registry
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigError
from plsc.data.bad_images import UNREADABLE, BadImages
from plsc.data.base import Dataset
from plsc.data.loader import DataLoader
from plsc.data.pipeline import SampleDataset, transform_rng
from plsc.data.subset import EveryKth
from plsc.data.transforms import resize
from plsc.engine.callbacks.pictures import as_images
from plsc.engine.parts import bad_image_policy, build_list
from plsc.inference.preprocess import Preprocessing, find_images, open_image, reading_of
from plsc.models.encoder import Encoder
from plsc.nn.attention import attention_maps
from plsc.runs.directory import replacing
from plsc.tasks.base import Task
from plsc.text import printable
from plsc.visualize.schedules import draw_schedules
from plsc.visualize.sheet import mark, overlay, sheet

Config = RunConfig
_DRAWS = 4
_MASKS = 16


class Pictures:
    """Draws the figures of a config, and those of a network if it is given.

    Args:
        config: Checked by plsc.config.schema.
        images: Files; by default the first images of the training set.
        count: Maximum number of images.
        task: With its weights.
        patch: Row and column of the patch whose attention is shown; by default the middle one.
        block: Index of the block whose attention is shown; negative values count from the last.
    """

    def __init__(
        self,
        config: Config,
        images: Sequence[str] = (),
        count: int = 8,
        task: Optional[Task] = None,
        patch: Optional[Tuple[int, int]] = None,
        block: int = -1,
    ) -> None:
        self.config, self.task, self.patch, self.block = config, task, patch, block
        bad = bad_image_policy(config, "Train")
        self.samples = _readable(_given(config, images) if images else _first(config, count), count, bad)
        self.seed = config.global_.seed

    def parts(self) -> Dict[str, Callable[[], Dict[str, Image.Image]]]:
        """Functions that draw figures, by part; each returns images by file name."""
        found: Dict[str, Callable[[], Dict[str, Image.Image]]] = {"augmentation": self.augmentation}
        if self.config.get("MaskGenerator") is not None:
            found["masks"] = self.masks
        if self.task is not None:
            found["reconstruction"] = self.reconstruction
        if self.task is not None and isinstance(self.task.encoder, Encoder):
            found["attention"] = self.attention
        return found

    def augmentation(self) -> Dict[str, Image.Image]:
        """Draw the result of every training transform in four epochs."""
        nodes = self.config["DataLoader"]["Train"].get("transforms") or []
        transforms = build_list(registry.TRANSFORMS, nodes)
        pictures = {}
        for index, sample in enumerate(self.samples[:2]):
            rows = []
            for epoch in range(_DRAWS):
                rng, current = transform_rng(self.seed, epoch, index), dict(sample)
                shown = [_array(current["image"])]
                for transform in transforms:
                    current = transform(current, rng)
                    shown.append(_array(current["image"]))
                if "target_image" in current:
                    shown.append(_array(current["target_image"]))
                rows.append((f"epoch {epoch + 1}", shown))
            columns = ["file", *(node["name"] for node in nodes), "for the tokenizer"][: len(rows[0][1])]
            name = Path(sample["path"]).name
            note = "Each column is the image after one more transform of DataLoader.Train; each row another draw."
            pictures[f"augmentation_{index}"] = sheet(rows, f"Augmentation of {printable(name)}", columns, note)
        return pictures

    def masks(self) -> Dict[str, Image.Image]:
        """Draw masks over the first image."""
        generator = registry.MASK_GENERATORS.build(self.config["MaskGenerator"])
        side = 8 * max(generator.grid)
        base = np.asarray(resize(self.samples[0]["image"], (side, side), "bicubic"))
        drawn = []
        for number in range(_MASKS):
            mask = np.asarray(generator(np.random.default_rng([self.seed, number])), dtype=bool)
            large = np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))
            drawn.append(np.where(large[..., None], np.uint8(127), base))
        rows = [("", drawn[start : start + 4]) for start in range(0, _MASKS, 4)]
        hidden, patches = int(mask.sum()), mask.size
        name = self.config["MaskGenerator"]["name"]
        share, grid = f"{hidden / patches:.0%}", f"{mask.shape[0]} x {mask.shape[1]}"
        note = f"{hidden} of {patches} patches are hidden ({share}); grid {grid}."
        return {"masks": sheet(rows, f"{_MASKS} draws of {name}", note=note)}

    def reconstruction(self) -> Dict[str, Image.Image]:
        """Draw `Task.pictures` of a training batch; empty if the task has none."""
        section = self.config["DataLoader"]["Train"]
        masks = self.config.get("MaskGenerator")
        loader = DataLoader(
            self.samples,
            build_list(registry.TRANSFORMS, section.get("transforms")),
            registry.MASK_GENERATORS.build(masks) if masks is not None else None,
            batch_size=len(self.samples),
            shuffle=False,
            drop_last=False,
            seed=self.seed,
        )
        batch, rng = next(iter(loader)), np.random.default_rng(0)
        if any(key not in batch for key in self.task.required_keys):
            return {}
        with paddle.no_grad():
            for transform in build_list(registry.BATCH_TRANSFORMS, section.get("batch_transforms")):
                batch = transform(batch, rng)
            drawn = as_images(self.task.pictures(self.task.prepare(batch)))
        if not drawn:
            return {}
        rows = [(caption, list(pictures)) for caption, pictures in drawn.items()]
        note = "Images as the training sees them. The last row has what is predicted where the image is hidden, and "
        note += "what the row above has everywhere else."
        names = [printable(Path(sample["path"]).name) for sample in self.samples]
        return {"reconstruction": sheet(rows, type(self.task).__name__, names, note if masks is not None else "")}

    def attention(self) -> Dict[str, Image.Image]:
        """Draw the attention of the class token and of a patch, by head, over the image."""
        encoder = self.task.encoder
        grid, prepare = tuple(encoder.grid_size), Preprocessing(self.config, encoder.image_size)
        patch = self.patch or (grid[0] // 2, grid[1] // 2)
        _check(patch, grid, self.block, len(encoder.blocks))
        number, first = self.block % len(encoder.blocks), encoder.num_prefix_tokens
        shown = [prepare.pixels(sample["image"]) for sample in self.samples]
        maps = attention_maps(encoder.blocks, lambda: encoder(prepare(shown)))[number].numpy()
        pictures = {}
        for index, (sample, pixels) in enumerate(zip(self.samples, shown)):
            image = np.ascontiguousarray(pixels.transpose(1, 2, 0))
            bases = {"class token": image, f"patch {patch[0]}, {patch[1]}": _marked(image, patch, grid)}
            rows = []
            for (caption, base), token in zip(bases.items(), (0, first + patch[0] * grid[1] + patch[1])):
                weights = maps[index, :, token, first:].reshape(-1, *grid)  # (heads, rows, columns)
                rows.append((caption, [base, *(overlay(image, w) for w in (weights.mean(axis=0), *weights))]))
            columns = ["image", "mean", *(f"head {head + 1}" for head in range(maps.shape[1]))]
            title = f"Attention of block {number + 1} of {len(encoder.blocks)}, {printable(Path(sample['path']).name)}"
            note = "Yellow: most attention of that head, dark blue: least; to the class token is left out. "
            note += f"The patch, framed on the left: row {patch[0]}, column {patch[1]}, counted from 0."
            pictures[f"attention_{index}"] = sheet(rows, title, columns, note)
        return pictures


class _Given(Dataset):
    """Named files as a dataset, with a label of 0 for tasks that require one; the figures do not depend on it."""

    def __init__(self, paths: Sequence[Path], bits: Optional[int]) -> None:
        self.paths, self.bits = paths, bits

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        path = self.paths[index]
        return {"image": open_image(path, self.bits), "path": str(path), "label": 0}


def _given(config: Config, images: Sequence[str]) -> Any:
    extensions, bits = reading_of(config)
    return _Given(find_images(images, extensions), bits)


def _first(config: Config, count: int) -> Any:
    return EveryKth(registry.DATASETS.build(config["DataLoader"]["Train"]["dataset"]), count)


def _readable(dataset: Any, count: int, bad: BadImages) -> List[Dict[str, Any]]:
    """The first `count` samples that can be decoded; others are reported or an error, depending on the policy."""
    samples: List[Dict[str, Any]] = []
    reader = SampleDataset(dataset)
    for index in range(len(dataset)):
        if len(samples) == count:
            break
        try:
            reader[0, index]  # decodes it, also where that is done late
            samples.append(dataset[index])
        except UNREADABLE as error:
            if bad.action == "stop":
                raise bad.explained(error) from error
            bad.note({index: str(error)})
            bad.say(f"bad image, skipped: {error}")
    if not samples:
        raise bad.none_left(bad.found)
    return samples


def _array(image: Any) -> np.ndarray:
    """A PIL image, or one that is decoded late, as uint8 (H, W, 3)."""
    arrays = SampleDataset([{"image": image}])[0, 0]
    return np.ascontiguousarray(arrays["image"].transpose(1, 2, 0))


def _marked(image: np.ndarray, patch: Tuple[int, int], grid: Tuple[int, ...]) -> np.ndarray:
    height, width = image.shape[0] // grid[0], image.shape[1] // grid[1]
    left, top = patch[1] * width, patch[0] * height
    return mark(image, (left, top, left + width - 1, top + height - 1))


def _check(patch: Tuple[int, int], grid: Tuple[int, ...], block: int, depth: int) -> None:
    if not (0 <= patch[0] < grid[0] and 0 <= patch[1] < grid[1]):
        got = f"{patch[0]},{patch[1]}"
        raise ConfigError(f"--patch: the encoder has {grid[0]} x {grid[1]} patches, counted from 0, got {got}")
    if not -depth <= block < depth:
        raise ConfigError(f"--block: the encoder has blocks 0 to {depth - 1}, got {block}")


def visualize(pictures: Pictures, out: Path, parts: Sequence[str], say: Callable[[str], None] = print) -> List[Path]:
    """Draw figures and write them as PNG files.

    Args:
        pictures: Figures of a config and optionally a network.
        out: Folder; created if it is missing.
        parts: Names of `pictures.parts()`, and `schedules`; a part that does not apply is left out.
        say: Takes the name of each file that was written.

    Raises:
        ConfigError: If no part applies.
        FileExistsError: If a file of one of the names is not a PNG image.
    """
    available = pictures.parts()
    drawn: Dict[str, Image.Image] = {}
    for part in parts:
        if part in available:
            drawn.update(available[part]())
    if not drawn and "schedules" not in parts:
        there = ", ".join([*available, "schedules"])
        raise ConfigError(f"--parts: {', '.join(parts)} cannot be drawn here; what can is {there}")
    for name in (*drawn, *(["schedules"] if "schedules" in parts else [])):
        check_file(out / f"{name}.png", begins_with(PNG_START), "a PNG image")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in drawn.items():
        written.append(out / f"{name}.png")
        with replacing(written[-1]) as temporary:
            picture.save(temporary)
    if "schedules" in parts:
        written.append(out / "schedules.png")
        draw_schedules(pictures.config, written[-1])
    for path in written:
        say(str(path))
    return written
