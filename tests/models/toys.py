"""Tiny networks and inputs."""

import numpy as np
import paddle

from plsc.models import ViT


def tiny_vit(**changes):
    options = {"image_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0}
    return ViT(**{**options, **changes})


def images(batch=2, height=16, width=16, channels=3):
    rng = np.random.default_rng(0)
    return paddle.to_tensor(rng.normal(size=(batch, channels, height, width)).astype(np.float32))


def split_positions(batch=2, patches=16, masked=6):
    """Visible and masked positions, int64 (B, V) and (B, M)."""
    rng = np.random.default_rng(1)
    order = np.stack([rng.permutation(patches) for _ in range(batch)])
    return tuple(paddle.to_tensor(np.sort(part, axis=1)) for part in (order[:, masked:], order[:, :masked]))
