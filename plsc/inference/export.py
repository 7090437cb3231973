"""A trained network in formats that need neither this package nor its config, with its preprocessing."""

import copy
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import paddle
from paddle import nn

from plsc import distribution, strict_json
from plsc.checkpoint import convert, replace
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.formats import Weights, read_weights
from plsc.checkpoint.weights import assign, snapshot
from plsc.config.tree import dump, to_plain
from plsc.inference.model_card import model_card
from plsc.inference.predictor import Predictor, token_encoder
from plsc.models.classifier import Classifier
from plsc.models.encoder import Encoder
from plsc.models.heads import LinearHead
from plsc.models.pooling import POOLINGS, pooled
from plsc.models.vit import ViT
from plsc.text import distinguishable

FORMATS = ("paddle", "onnx", "safetensors", "timm")
TOLERANCE = 1e-4
_OPSET = 17


class _Encoder(nn.Layer):
    """An encoder with pooling of its tokens to features."""

    def __init__(self, encoder: Encoder, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        return pooled(self.encoder, image, self.pooling)


def export(
    model: Predictor,
    out: Path,
    formats: Sequence[str],
    part: Optional[str] = None,
    pooling: str = "mean",
    say: Callable[[str], None] = print,
) -> List[Path]:
    """Write a network, its preprocessing and a model card into a folder.

    The weights are those of `model.task`, so an export of `plsc.load(run, ema=True)` has the moving average. Each file
    is read again, and its outputs for random images are compared with those of the network. If anything fails, the
    folder keeps its old content.

    Args:
        model: Loaded from a checkpoint.
        out: Folder; created if it is missing. It may be empty or hold an earlier export of the same formats.
        formats: Some of FORMATS.
        part: `classifier` or `encoder`; by default the classifier, if the network is one.
        pooling: Pooling of the features of an encoder, see plsc.models.pooling.
        say: Takes a line for each file.

    Returns:
        Paths of the files.

    Raises:
        ValueError: If the network is not of that kind, a format cannot hold it, or a file has other outputs.
        FileExistsError: If the folder holds anything but an earlier export.
        ImportError: If packages for ONNX are not installed.
    """
    network, part = _network(model, part, pooling)
    size = model.task.image_size
    if size is None:
        raise ValueError(f"the network of {type(model.task).__name__} has no image_size")
    if "onnx" in formats:
        _onnx_tools()
    image = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32))
    with paddle.no_grad():
        expected = network(image).numpy()
    if isinstance(network, Classifier):
        pooling = network.pooling
    facts = _facts(model, part, pooling, size, expected.shape[1:])
    lines: List[str] = []
    files: Dict[str, str] = {}  # names by format
    with replace.replacing_files(out) as folder:
        if "paddle" in formats or "onnx" in formats:
            files["paddle"] = _write_paddle(network, size, folder / "model").name
            found = paddle.jit.load(str(folder / "model"))(image).numpy()
            lines.append(_compared(out / files["paddle"], found, expected))
        if "onnx" in formats:
            files["onnx"] = "model.onnx"
            _write_onnx(folder / files["paddle"], folder / files["onnx"])
            lines.append(_compared(out / files["onnx"], _run_onnx(folder / files["onnx"], image.numpy()), expected))
        if "safetensors" in formats:
            files["safetensors"] = "model.safetensors"
            _write_safetensors(network, folder / files["safetensors"], pooling)
            found = _reread(network, folder / files["safetensors"], image)
            lines.append(_compared(out / files["safetensors"], found, expected))
        if "timm" in formats:
            files["timm"] = "timm.safetensors"
            _write_timm(model, network, folder / files["timm"], pooling)
            found = _reread(network, folder / files["timm"], image)
            lines.append(_compared(out / files["timm"], found, expected))
        (folder / "preprocessing.json").write_text(strict_json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(model_card(model, facts, files), encoding="utf-8")
    for line in [*lines, f"{out / 'preprocessing.json'}, {out / 'README.md'}"]:
        say(line)
    return [out / name for name in (*files.values(), "preprocessing.json", "README.md")]


def _network(model: Predictor, part: Optional[str], pooling: str) -> Tuple[nn.Layer, str]:
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is one of {', '.join(POOLINGS)}, got {pooling!r}")
    network = model.task.model
    classifies = isinstance(network, Classifier)
    if part == "classifier" and not classifies:
        kind = type(model.task).__name__
        raise ValueError(f"{model.path} is a run of {kind}, which does not classify; export its encoder")
    if part != "encoder" and classifies:
        return network, "classifier"
    layer = _Encoder(token_encoder(model), pooling)
    layer.training = False
    return layer, "encoder"


def _write_paddle(network: nn.Layer, size: Tuple[int, int], stem: Path) -> Path:
    """Write `stem`.pdiparams and, depending on the version of Paddle, `stem`.json or .pdmodel, which is returned."""
    spec = paddle.static.InputSpec([None, 3, *size], "float32", "image")
    with paddle.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about operators that Paddle itself replaces
        paddle.jit.save(network, str(stem), input_spec=[spec])
    return next(stem.with_suffix(end) for end in (".json", ".pdmodel") if stem.with_suffix(end).is_file())


def _onnx_tools() -> Tuple[Any, Any]:
    try:
        import onnxruntime
        import paddle2onnx
    except ImportError as error:
        command = distribution.install("onnx")
        raise ImportError(f"ONNX needs paddle2onnx and onnxruntime ({error}): {command}") from None
    if int(paddle.__version__.split(".")[0]) < 3 and int(version("paddle2onnx").split(".")[0]) > 1:
        raise ImportError(
            f"paddle2onnx {version('paddle2onnx')} cannot read programs of Paddle {paddle.__version__}; "
            "pip install paddle2onnx==1.3.1 'onnx<1.18'"
        )
    return paddle2onnx, onnxruntime


def _write_onnx(program: Path, path: Path) -> None:
    converter, _ = _onnx_tools()
    # The optimization of paddle2onnx would install packages.
    options = {"enable_optimize": False, "optimize_tool": "None"} if program.suffix == ".json" else {}
    converter.export(str(program), str(program.with_suffix(".pdiparams")), str(path), opset_version=_OPSET, **options)
    if not path.is_file():
        raise ValueError(f"paddle2onnx did not write {path}; see its messages above")


def _run_onnx(path: Path, image: np.ndarray) -> np.ndarray:
    _, runtime = _onnx_tools()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})[0]


def _arrays(network: nn.Layer) -> Dict[str, np.ndarray]:
    """Weights of a `Classifier` or an `_Encoder` by their names in a checkpoint."""
    return {f"model.{name}": array for name, array in snapshot(network.state_dict()).items()}


def _write_safetensors(network: nn.Layer, path: Path, pooling: str) -> None:
    checkpoint_files.write_arrays(path, _arrays(network), {"pooling": pooling})


def _write_timm(model: Predictor, network: nn.Layer, path: Path, pooling: str) -> None:
    encoder = model.task.encoder
    if not isinstance(encoder, ViT):
        raise ValueError(f"timm: its VisionTransformer cannot hold a {type(encoder).__name__}, only a ViT")
    arrays, table = _arrays(network), encoder.pos_embed
    fixed = table is not None and "model.encoder.pos_embed" not in arrays  # computed, not learned
    tables = snapshot({"encoder.pos_embed": table}) if fixed else {}
    weights = Weights(arrays, "model.encoder", tables, dump(model.config), pooling)
    convert.write_weights(weights, path, convert.TIMM)


def _reread(network: nn.Layer, path: Path, image: paddle.Tensor) -> np.ndarray:
    """Outputs of a copy of the network with the weights of a file.

    Raises:
        ValueError: If the file lacks a tensor of the network.
    """
    weights, layer = read_weights(path), copy.deepcopy(network)
    if isinstance(layer, Classifier) and isinstance(layer.head, LinearHead) and path.stem == "timm":
        layer.head.batch_norm = None  # timm's format has it as a part of the linear layer
    state = layer.state_dict()
    missing = sorted(name for name in state if f"model.{name}" not in weights.arrays)
    if missing:
        raise ValueError(f"{path.name} cannot hold {', '.join(missing[:5])} of the network")
    for name, tensor in state.items():
        assign(tensor, weights.arrays[f"model.{name}"])
    if "encoder.pos_embed" in weights.fixed:
        assign(layer.encoder.pos_embed, weights.fixed["encoder.pos_embed"])
    with paddle.no_grad():
        return layer(image).numpy()


def _compared(path: Path, found: np.ndarray, expected: np.ndarray) -> str:
    distance = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    if not distance <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ValueError(f"{path} has other outputs than the network: they differ by up to {distance:.3g}")
    return f"{path}: outputs differ from the network's by at most {distance:.1e}"


def _facts(model: Predictor, part: str, pooling: str, size: Tuple[int, int], output: Sequence[int]) -> Dict[str, Any]:
    return {
        "input": {"name": "image", "shape": ["batch", 3, *size], "type": "float32", "channels": "RGB"},
        "transforms": to_plain(model.prepare.transform_nodes),
        "batch_transforms": to_plain(model.prepare.batch_nodes),
        "output": {
            "what": "logits" if part == "classifier" else f"features, pooling {pooling}",
            "pooling": pooling,
            "shape": ["batch", *output],
        },
        "classes": distinguishable(model.classes) if part == "classifier" and model.classes is not None else None,
    }
