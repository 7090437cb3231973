"""Mixup and cutmix: images of a batch mixed with each other, and their labels with them."""

import math
from typing import List, Literal, Tuple

import numpy as np
import paddle
import paddle.nn.functional as F

from plsc import checks
from plsc.config.registry import BATCH_TRANSFORMS
from plsc.data.batch_transforms import Batch, BatchTransform
from plsc.nn.utils import tensor_of


@BATCH_TRANSFORMS.register()
class MixupCutmix(BatchTransform):
    """Mixes each image with the one at the same place from the end of the batch, and labels in the same proportion.

    Mixup (arXiv 1710.09412) blends them, cutmix (arXiv 1905.04899) pastes a rectangle. As in timm, weights are drawn
    from a beta distribution, the weight of a rectangle is the fraction of the image that it covers, and labels are
    smoothed.

    Args:
        num_classes: Width of the mixed labels.
        mixup_alpha: Parameter of the beta distribution of mixup; 0: cutmix only.
        cutmix_alpha: Parameter of the beta distribution of cutmix; 0: mixup only.
        switch_prob: Probability of cutmix, if both are on.
        prob: Probability that images are mixed; labels are always smoothed.
        label_smoothing: Fraction of a label that is spread over all classes.
        mode: Draw one weight for the whole batch, for each pair of partners, or for each image.

    Raises:
        ValueError: If an argument is out of range.
    """

    augments = True

    def __init__(
        self,
        num_classes: int,
        mixup_alpha: float = 0.8,
        cutmix_alpha: float = 1.0,
        switch_prob: float = 0.5,
        prob: float = 1.0,
        label_smoothing: float = 0.1,
        mode: Literal["batch", "pair", "elem"] = "batch",
    ) -> None:
        checks.at_least(1, num_classes=num_classes)
        checks.share(switch_prob=switch_prob, prob=prob)
        checks.share_below_one(label_smoothing=label_smoothing)  # at 1 the labels say nothing
        if min(mixup_alpha, cutmix_alpha) < 0 or max(mixup_alpha, cutmix_alpha) == 0:
            raise ValueError(
                "MixupCutmix: mixup_alpha and cutmix_alpha must not be negative, and one of them must be positive, "
                f"got {mixup_alpha} and {cutmix_alpha}"
            )
        self.num_classes = num_classes
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.switch_prob = switch_prob
        self.prob = prob
        self.label_smoothing = label_smoothing
        self.mode = mode

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Mixes `image`, float (B, 3, H, W), and `label`, int64 (B,) -> float32 (B, C).

        Raises:
            ValueError: If labels are missing, images are integers, or the batch has only one image.
        """
        _check(batch)
        image, label = batch["image"], batch["label"]
        share, keep = self._draw_all(image.shape[0], image.shape[2], image.shape[3], rng)
        one_hot = F.one_hot(label, self.num_classes)
        smooth = one_hot * (1.0 - self.label_smoothing) + self.label_smoothing / self.num_classes
        return {**batch, "image": _mix(image, keep), "label": _mix(smooth, share.reshape(-1, 1))}

    def _draw_all(self, size: int, height: int, width: int, rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
        """Weights of the labels (G,) and of the pixels (G, 1, H, W) of each image; G is 1 or B."""
        number = {"batch": 1, "pair": size // 2, "elem": size}[self.mode]
        drawn = [self._draw(height, width, rng) for _ in range(number)]
        if self.mode == "pair":
            middle = [(1.0, np.ones((1, height, width)))] * (size % 2)
            drawn = [*drawn, *middle, *reversed(drawn)]
        shares, keeps = zip(*drawn)
        return np.array(shares), np.stack(keeps)

    def _draw(self, height: int, width: int, rng: np.random.Generator) -> Tuple[float, np.ndarray]:
        if rng.random() >= self.prob:
            return 1.0, np.ones((1, height, width))
        cut_only, mix_only = self.mixup_alpha == 0, self.cutmix_alpha == 0
        cut = cut_only or (not mix_only and rng.random() < self.switch_prob)
        alpha = self.cutmix_alpha if cut else self.mixup_alpha
        share = float(rng.beta(alpha, alpha))
        if not cut:
            return share, np.full((1, height, width), share)
        keep = np.ones((1, height, width))
        top, bottom, left, right = draw_box(height, width, share, rng)
        keep[:, top:bottom, left:right] = 0.0
        return float(keep.mean()), keep


def draw_box(height: int, width: int, share: float, rng: np.random.Generator) -> List[int]:
    """Draw a rectangle with the aspect of the image: [top, bottom, left, right], clipped to the image.

    Args:
        height: Height of the image.
        width: Width of the image.
        share: Fraction of the area outside the rectangle, before clipping.
    """
    box = []
    for length in (height, width):
        half = int(length * math.sqrt(1.0 - share)) // 2
        centre = int(rng.integers(length))
        box += [max(0, centre - half), min(length, centre + half)]
    return box


def _mix(values: paddle.Tensor, keep: np.ndarray) -> paddle.Tensor:
    """`keep` times each value plus the rest of its partner, in the dtype of `values`."""
    mine, theirs = (tensor_of(part.astype("float32")) for part in (keep, 1.0 - keep))
    return values * mine + values.flip([0]) * theirs


def _check(batch: Batch) -> None:
    if "label" not in batch:
        raise ValueError("MixupCutmix: the batch has no labels; the dataset needs classes, or remove the transform")
    if not batch["image"].is_floating_point():
        raise ValueError(f"MixupCutmix: images are {batch['image'].dtype}; put Normalize before it")
    if batch["image"].shape[0] < 2:
        raise ValueError(
            "MixupCutmix: there is one image in the batch and nothing to mix it with; use a larger batch_size, and "
            "drop_last: true in training"
        )
