"""Many linear classifiers on one frozen encoder, to choose learning rate and features in one training."""

from typing import List, Literal, Sequence, Tuple

import paddle
from paddle import nn

from plsc.config import contract
from plsc.config.registry import MODELS
from plsc.models.encoder import Encoder
from plsc.models.heads import LinearHead
from plsc.nn.network import Network
from plsc.nn.utils import freeze, set_training


@MODELS.register()
class LinearGrid(Network):
    """Linear classifiers on a frozen encoder: one for each number of blocks, kind of features and learning rate.

    They share images and features, so that fifty of them cost little more than one. Oquab et al., DINOv2, arXiv
    2304.07193, appendix B.3, and its `eval/linear.py`. With the loss `SumOverHeads` each is trained independently, at
    the learning rate of the schedule times its factor. The metric `BestHead` finds the best.

    Args:
        encoder: Stays in inference mode and gets no gradient.
        num_classes: Number of classes C.
        blocks: Numbers of last blocks whose class tokens a head takes, concatenated.
        features: `cls`: these class tokens; `cls+mean`: and the mean of the patch tokens of the last block.
        rates: Factors of the learning rate.
        init_std: Standard deviation of the initial weights.
        batch_norm: Normalize the features of each head over the batch, without learned scale and shift, as MAE does.

    Raises:
        ValueError: If the encoder has fewer blocks, a list is empty or repeats a value, or a rate is not positive.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        blocks: Sequence[int] = (1, 4),
        features: Sequence[Literal["cls", "cls+mean"]] = ("cls", "cls+mean"),
        rates: Sequence[float] = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1),
        init_std: float = 0.01,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        contract.derived(encoder, Encoder)
        for name, values in (("blocks", blocks), ("features", features), ("rates", rates)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"LinearGrid: {name} needs at least one value and none twice, got {list(values)}")
        depth = len(encoder.blocks)
        if min(blocks) < 1 or max(blocks) > depth:
            raise ValueError(f"LinearGrid: blocks are from 1 to the encoder's {depth}, got {list(blocks)}")
        if min(rates) <= 0:
            raise ValueError(f"LinearGrid: rates must be above 0, got {list(rates)}")
        self.encoder = encoder
        freeze(encoder)
        self.image_size = encoder.image_size
        self.num_classes: int = num_classes
        self.blocks, self.features, self.rates = list(blocks), list(features), [float(rate) for rate in rates]
        self.heads = nn.LayerList(
            [
                LinearHead(self._width(*kind), num_classes, init_std, batch_norm=batch_norm)
                for kind in self._kinds()
                for _ in self.rates
            ]
        )
        self.head_names = self._names()

    def _kinds(self) -> List[Tuple[int, str]]:
        return [(count, kind) for count in self.blocks for kind in self.features]

    def _width(self, count: int, kind: str) -> int:
        return self.encoder.embed_dim * (count + (kind == "cls+mean"))

    def _names(self) -> List[str]:
        """Names of the heads in the order of the predictions."""
        kinds = [f"{kind} of {count} block{'s' * (count > 1)}" for count, kind in self._kinds()]
        return [f"{kind}, rate {rate:g}" for kind in kinds for rate in self.rates]

    def lr_scale(self, name: str) -> float:
        """Factor of the learning rate of the parameter `name`."""
        return self.rates[int(name.split(".")[1]) % len(self.rates)] if name.startswith("heads.") else 1.0

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """Images, float (B, 3, H, W) -> logits of every head (B, heads, C)."""
        if self.encoder.training:  # the whole model was put into training mode
            set_training(self.encoder, False)
        with paddle.no_grad():
            tokens = self.encoder.last_blocks(image, max(self.blocks))
            inputs = [self._inputs(tokens, *kind) for kind in self._kinds() for _ in self.rates]
        return paddle.stack([head(x) for head, x in zip(self.heads, inputs)], axis=1)

    def _inputs(self, tokens: Sequence[paddle.Tensor], count: int, kind: str) -> paddle.Tensor:
        parts = [x[:, 0] for x in tokens[-count:]]
        if kind == "cls+mean":
            parts.append(tokens[-1][:, self.encoder.num_prefix_tokens :].mean(axis=1))
        return paddle.concat(parts, axis=-1)
