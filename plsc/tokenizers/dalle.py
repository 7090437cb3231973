"""DALL-E's discrete VAE (Ramesh et al., arXiv 2102.12092) as CAE and BEiT use it: 8 px a token, 8192 tokens."""

import math
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from plsc.config.registry import TOKENIZERS
from plsc.nn.utils import set_training
from plsc.safe_pickle import read_state_file
from plsc.tokenizers.base import Batch, Target, tokenizer_image

EPSILON = 0.1  # of the logit-Laplace distribution, section A.3
GROUPS, BLOCKS = 4, 2
_STRIDE = 8  # pixels of a token
HIDDEN, VOCAB = 256, 8192  # of the published network


def map_pixels(image: paddle.Tensor) -> paddle.Tensor:
    """[0, 1] -> [0.1, 0.9], away from the ends of the logit."""
    return (1 - 2 * EPSILON) * image + EPSILON


def unmap_pixels(image: paddle.Tensor) -> paddle.Tensor:
    """The inverse of `map_pixels`, clipped to [0, 1]."""
    return ((image - EPSILON) / (1 - 2 * EPSILON)).clip(0.0, 1.0)


class _Conv(nn.Layer):
    """A convolution with the published names: `w` (out, in, k, k) and `b`."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.w = self.create_parameter([outputs, inputs, kernel, kernel])
        self.b = self.create_parameter([outputs], is_bias=True)
        self.padding = (kernel - 1) // 2

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.conv2d(x, self.w, self.b, padding=self.padding)


class _Block(nn.Layer):
    """Four convolutions behind ReLUs beside the identity; `kernels` are 3, 3, 3, 1 or 1, 3, 3, 3."""

    def __init__(self, inputs: int, outputs: int, kernels: Tuple[int, ...], gain: float) -> None:
        super().__init__()
        hidden = outputs // 4
        widths = [inputs, hidden, hidden, hidden, outputs]
        self.id_path = _Conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        layers: List[Tuple[str, nn.Layer]] = []
        for number, kernel in enumerate(kernels, start=1):
            layers += [(f"relu_{number}", nn.ReLU())]
            layers += [(f"conv_{number}", _Conv(widths[number - 1], widths[number], kernel))]
        self.res_path = nn.Sequential(*layers)
        self.gain = gain

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.id_path(x) + self.gain * self.res_path(x)


def _group(
    inputs: int, outputs: int, count: int, kernels: Tuple[int, ...], last: List[Tuple[str, nn.Layer]]
) -> nn.Sequential:
    gain = 1 / (GROUPS * count) ** 2
    blocks = [(f"block_{i + 1}", _Block(inputs if i == 0 else outputs, outputs, kernels, gain)) for i in range(count)]
    return nn.Sequential(*blocks, *last)


class DalleEncoder(nn.Layer):
    """Encodes pixels as token logits.

    Args:
        hidden: Width of the first group; doubles in each of the four.
        blocks_per_group: Residual blocks in a group.
        vocab_size: Number of tokens.
    """

    def __init__(self, hidden: int = HIDDEN, blocks_per_group: int = BLOCKS, vocab_size: int = VOCAB) -> None:
        super().__init__()
        widths = [hidden, hidden, 2 * hidden, 4 * hidden, 8 * hidden]
        groups = []
        for number in range(1, GROUPS + 1):
            pool = [("pool", nn.MaxPool2D(2))] if number < GROUPS else []
            group = _group(widths[number - 1], widths[number], blocks_per_group, (3, 3, 3, 1), pool)
            groups.append((f"group_{number}", group))
        output = nn.Sequential(("relu", nn.ReLU()), ("conv", _Conv(8 * hidden, vocab_size, 1)))
        self.blocks = nn.Sequential(("input", _Conv(3, hidden, 7)), *groups, ("output", output))

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """Mapped pixels (B, 3, h, w) -> logits (B, vocab_size, h / 8, w / 8)."""
        return self.blocks(image)


class DalleDecoder(nn.Layer):
    """Decodes tokens to the statistics of pixels.

    Args:
        first: Width after the first convolution.
        hidden: Width of the last group; doubles in each group before it.
        blocks_per_group: Residual blocks in a group.
        vocab_size: Number of tokens.
    """

    def __init__(
        self, first: int = 128, hidden: int = HIDDEN, blocks_per_group: int = BLOCKS, vocab_size: int = VOCAB
    ) -> None:
        super().__init__()
        widths = [first, 8 * hidden, 4 * hidden, 2 * hidden, hidden]
        groups = []
        for number in range(1, GROUPS + 1):
            up = [("upsample", nn.Upsample(scale_factor=2, mode="nearest"))] if number < GROUPS else []
            group = _group(widths[number - 1], widths[number], blocks_per_group, (1, 3, 3, 3), up)
            groups.append((f"group_{number}", group))
        output = nn.Sequential(("relu", nn.ReLU()), ("conv", _Conv(hidden, 6, 1)))
        self.blocks = nn.Sequential(("input", _Conv(vocab_size, first, 1)), *groups, ("output", output))

    def forward(self, one_hot: paddle.Tensor) -> paddle.Tensor:
        """One-hot tokens (B, vocab_size, H, W) -> means and scales (B, 6, 8 H, 8 W)."""
        return self.blocks(one_hot)


@TOKENIZERS.register()
class DalleTokenizer(Target):
    """DALL-E's published encoder: the index of the likeliest of 8192 tokens for every 8 x 8 pixels.

    Args:
        weights: Folder with `encoder_weight.pd` and, for figures, `decoder_weight.pd`; or OpenAI's `encoder.pkl` and
            `decoder.pkl`.

    Raises:
        ValueError: If the folder or the file of the encoder is missing or does not fit.
    """

    kind = "ids"

    def __init__(self, weights: str) -> None:
        self.folder = Path(weights)
        path, state = _read(self.folder, "encoder")
        first = state["blocks.input.w"]
        self.vocab_size: int = state["blocks.output.conv.w"].shape[0]
        self.encoder = DalleEncoder(first.shape[0], _blocks_per_group(state), self.vocab_size)
        _load(self.encoder, state, path)
        self._decoder: Dict[str, DalleDecoder] = {}

    @paddle.no_grad()
    def __call__(self, batch: Batch) -> paddle.Tensor:
        """Second crops (B, 3, h, w) in [0, 1] -> token ids int64 (B, h / 8 * w / 8)."""
        logits = self.encoder(map_pixels(tokenizer_image(batch).astype("float32")))
        return logits.argmax(axis=1).flatten(1)

    @paddle.no_grad()
    def decode(self, targets: paddle.Tensor, batch: Optional[Batch] = None) -> paddle.Tensor:
        """Images of tokens; needs the weights of the decoder.

        Args:
            targets: Ids, int64 (B, N), row-major.
            batch: The second crops that have this grid of tokens; by default the grid is a square.

        Returns:
            Images (B, 3, 8 rows, 8 columns) in [0, 1].

        Raises:
            ValueError: If the grid does not have N positions.
        """
        count = targets.shape[1]
        side = math.isqrt(count)
        size = (side * _STRIDE, side * _STRIDE) if batch is None else tokenizer_image(batch).shape[2:]
        rows, columns = size[0] // _STRIDE, size[1] // _STRIDE
        if rows * columns != count:
            raise ValueError(f"{count} tokens do not fill a grid of {rows} x {columns}; give decode their batch")
        one_hot = F.one_hot(targets, self.vocab_size).transpose([0, 2, 1]).reshape([len(targets), -1, rows, columns])
        return unmap_pixels(F.sigmoid(self.decoder()(one_hot)[:, :3]))

    def decoder(self) -> DalleDecoder:
        """The decoder, which is read when it is first needed."""
        if "decoder" not in self._decoder:
            path, state = _read(self.folder, "decoder")
            first, last = state["blocks.input.w"], state["blocks.output.conv.w"]
            decoder = DalleDecoder(first.shape[0], last.shape[1], _blocks_per_group(state), self.vocab_size)
            self._decoder["decoder"] = _load(decoder, state, path)
        return self._decoder["decoder"]


def _read(folder: Path, part: str) -> Tuple[Path, Dict[str, np.ndarray]]:
    """File of `encoder` or `decoder` in a folder, in the format of PLSC or OpenAI, and its weights."""
    names = (f"{part}_weight.pd", f"{part}.pkl")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(
            f"{folder / names[0]}: DALL-E's tokenizer is not there; Tokenizer.weights names the folder with "
            "encoder_weight.pd and decoder_weight.pd, or OpenAI's encoder.pkl and decoder.pkl. Without them, train a "
            "tokenizer (task TokenizerTraining) or use PixelTarget"
        )
    state = read_state_file(path)
    arrays = {name: a for name, a in state.items() if isinstance(a, np.ndarray)} if isinstance(state, dict) else {}
    if any(name not in arrays or not arrays[name].size for name in ("blocks.input.w", "blocks.output.conv.w")):
        raise ValueError(f"{path} does not hold the weights of DALL-E's tokenizer (blocks.input.w, ...)")
    return path, arrays


def _blocks_per_group(state: Dict[str, np.ndarray]) -> int:
    return len({name.split(".")[2] for name in state if name.startswith("blocks.group_1.block_")})


def _load(network: nn.Layer, state: Dict[str, np.ndarray], path: Path) -> nn.Layer:
    own = network.state_dict()
    wrong = [name for name, v in own.items() if name not in state or list(state[name].shape) != list(v.shape)]
    if wrong:
        raise ValueError(f"{path} does not fit DALL-E's tokenizer; wrong or missing: {', '.join(wrong[:5])}")
    for name, value in own.items():
        value.set_value(state[name].astype("float32"))
        value.stop_gradient = True
    set_training(network, False)
    return network
