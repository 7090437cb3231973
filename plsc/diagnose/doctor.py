"""Checks of the device, of reading images and of a config's data; rows of (level, what, text) for `plsc doctor`."""

import io
import time
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Tuple

import numpy as np
import paddle
from PIL import Image

from plsc import distribution
from plsc.checkpoint.files import CheckpointError, resolve
from plsc.config import registry
from plsc.data.pipeline import SampleDataset, collate
from plsc.engine.parts import build_list

Config = Mapping[str, Any]
Row = Tuple[str, str, str]
_SIDE = 512  # of a product of matrices that tells whether threads and BLAS are as they should be
_FEW, _MANY, _SECONDS = 4, 64, 0.5  # of images, and for how long they are read


def compute() -> Iterator[Row]:
    """Whether the device computes, and about how fast."""
    device = paddle.device.get_device()
    if paddle.device.is_compiled_with_cuda():
        count = paddle.device.cuda.device_count()
        if count == 0:
            yield "problem", "GPU", "this Paddle is the GPU build, but sees no GPU; check nvidia-smi and the driver"
    else:
        count = 0
        yield "note", "GPU", f"this Paddle is the CPU build; for a GPU: {distribution.install('gpu')}"
    try:
        x = paddle.to_tensor(np.eye(_SIDE, dtype=np.float32), stop_gradient=False)
        y = paddle.matmul(x, x).sum()
        y.backward()
        right = float(y) == _SIDE and np.isfinite(x.grad.numpy()).all()
    except Exception as error:  # noqa: BLE001 - a driver that does not fit fails in any way
        yield "problem", "device", f"{device} does not compute: {error}"
        return
    if not right:
        yield "problem", "device", f"{device} computes wrong numbers; try another version of Paddle"
        return
    names = [paddle.device.cuda.get_device_name(i) for i in range(count)]
    yield "ok", "device", f"{device} computes, {_gigaflops():,.0f} GFLOP/s in float32{''.join(f'; {n}' for n in names)}"


def _gigaflops() -> float:
    x = paddle.rand([_SIDE, _SIDE])
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        float(paddle.matmul(x, x)[0, 0])
        best = min(best, time.perf_counter() - start)
    return 2 * _SIDE**3 / best / 1e9


def decoding() -> Iterator[Row]:
    """How fast one core decodes JPEGs."""
    noise = np.random.default_rng(0).integers(0, 255, (47, 63, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 0.3:
        with Image.open(io.BytesIO(file.getvalue())) as image:
            image.convert("RGB")
        count += 1
    rate = count / (time.perf_counter() - start)
    yield "ok", "image decoding", f"{rate:,.0f} JPEGs of 500 x 375 a second and core, by Pillow"


def data(config: Config) -> Iterator[Row]:
    """Whether a config's images can be read, and its tokenizer and initial weights are there.

    Args:
        config: Checked by plsc.config.schema.
    """
    for split in ("Train", "Eval"):
        section = config["DataLoader"].get(split)
        if section is not None:
            yield _read(config, split, section)
    if config.get("Tokenizer") is not None:
        try:
            registry.TOKENIZERS.build(config["Tokenizer"])
            yield "ok", "Tokenizer", config["Tokenizer"]["name"]
        except (ValueError, OSError, ImportError) as error:
            yield "problem", "Tokenizer", str(error)
    start = (config.get("Init") or {}).get("checkpoint")
    if start is not None:
        yield _weights(str(start))


def _read(config: Config, split: str, section: Any) -> Row:
    masks = config.get("MaskGenerator")
    try:
        dataset = registry.DATASETS.build(section["dataset"])
        generator = registry.MASK_GENERATORS.build(masks) if masks is not None else None
        samples = SampleDataset(dataset, build_list(registry.TRANSFORMS, section.get("transforms")), generator)
        places = np.unique(np.linspace(0, len(dataset) - 1, min(_MANY, len(dataset))).round().astype(int))
        read, rate = _timed(samples, places)
        batch = collate(read)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        return "problem", f"DataLoader.{split}", str(error)
    classes = getattr(dataset, "classes", None)
    kinds = f" of {len(classes)} classes" if classes is not None else " without classes"
    side = " x ".join(map(str, batch["image"].shape[2:]))
    images = f"{len(dataset):,} images{kinds}; {len(read)} of them read, {side} pixels"
    return "ok", f"DataLoader.{split}", f"{images}; a worker prepares about {rate:,.0f} a second"


def _timed(samples: SampleDataset, places: np.ndarray) -> Tuple[List[Any], float]:
    """Samples, at least a few and then as many as half a second allows, and how many a second that was."""
    read: List[Any] = []
    for place in places:
        read.append(samples[0, int(place)])
        if len(read) == 1:
            start = time.perf_counter()  # the first one warms up
        elif len(read) >= _FEW and time.perf_counter() - start > _SECONDS:
            break
    return read, max(len(read) - 1, 1) / max(time.perf_counter() - start, 1e-9)


def _weights(path: str) -> Row:
    if Path(path).is_file():
        return "ok", "Init", f"{path} is there"
    try:
        return "ok", "Init", f"{resolve(path)} is whole"
    except CheckpointError as error:
        return "problem", "Init", str(error)
