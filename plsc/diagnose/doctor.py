"""Checks of the device, of image decoding and of a config's data, as rows (level, subject, text) for `plsc doctor`."""

import io
import time
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Tuple

import numpy as np
import paddle
from PIL import Image

from plsc import distribution
from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.reader import Checkpoint
from plsc.config import registry
from plsc.data.pipeline import SampleDataset, collate
from plsc.engine.parts import build_list

Config = Mapping[str, Any]
Row = Tuple[str, str, str]
_SIDE = 512  # size of the matmul that measures threads and BLAS
_FEW, _MANY, _SECONDS = 4, 64, 0.5  # minimal and maximal number of images to read, and the time limit in seconds


def compute() -> Iterator[Row]:
    """Check that the device computes correctly, and measure its speed."""
    device = paddle.device.get_device()
    if paddle.device.is_compiled_with_cuda():
        count = paddle.device.cuda.device_count()
        if count == 0:
            yield "problem", "GPU", "this Paddle is a GPU build, but finds no GPU; check nvidia-smi and the driver"
    else:
        count = 0
        yield "note", "GPU", f"this Paddle is a CPU build; for a GPU: {distribution.install('gpu')}"
    try:
        x = paddle.to_tensor(np.eye(_SIDE, dtype=np.float32), stop_gradient=False)
        y = paddle.matmul(x, x).sum()
        y.backward()
        right = float(y) == _SIDE and np.isfinite(x.grad.numpy()).all()
    except Exception as error:  # noqa: BLE001 - an incompatible driver can raise any error
        yield "problem", "device", f"{device} fails to compute: {error}"
        return
    if not right:
        yield "problem", "device", f"{device} computes wrong results; try another version of Paddle"
        return
    names = [paddle.device.cuda.get_device_name(i) for i in range(count)]
    yield "ok", "device", f"{device} works, {_gigaflops():,.0f} GFLOP/s in float32{''.join(f'; {n}' for n in names)}"


def _gigaflops() -> float:
    x = paddle.rand([_SIDE, _SIDE])
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        float(paddle.matmul(x, x)[0, 0])
        best = min(best, time.perf_counter() - start)
    return 2 * _SIDE**3 / best / 1e9


def decoding() -> Iterator[Row]:
    """Measure the speed of JPEG decoding on one core."""
    noise = np.random.default_rng(0).integers(0, 255, (47, 63, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 0.3:
        with Image.open(io.BytesIO(file.getvalue())) as image:
            image.convert("RGB")
        count += 1
    rate = count / (time.perf_counter() - start)
    yield "ok", "image decoding", f"Pillow decodes {rate:,.0f} JPEGs of 500 x 375 pixels per second and core"


def data(config: Config) -> Iterator[Row]:
    """Check that the images of a config can be read, and that its tokenizer and initial weights are available.

    Args:
        config: Config that plsc.config.schema has checked.
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
    kinds = f" of {len(dataset.classes)} classes" if dataset.classes is not None else " without classes"
    side = " x ".join(map(str, batch["image"].shape[2:]))
    images = f"{len(dataset):,} images{kinds}; {len(read)} of them read, {side} pixels"
    return "ok", f"DataLoader.{split}", f"{images}; a worker prepares about {rate:,.0f} images per second"


def _timed(samples: SampleDataset, places: np.ndarray) -> Tuple[List[Any], float]:
    """Read some samples within a time limit; return them and the number of samples per second."""
    read: List[Any] = []
    for place in places:
        read.append(samples[0, int(place)])
        if len(read) == 1:
            start = time.perf_counter()  # the first one is a warm-up
        elif len(read) >= _FEW and time.perf_counter() - start > _SECONDS:
            break
    return read, max(len(read) - 1, 1) / max(time.perf_counter() - start, 1e-9)


def _weights(path: str) -> Row:
    if Path(path).is_file():
        return "ok", "Init", f"{path} exists"
    try:
        return "ok", "Init", f"{Checkpoint.open(path)} is complete"
    except CheckpointError as error:
        return "problem", "Init", str(error)
