"""Networks. Importing this package registers the built-in ones."""

from plsc.models.cae import CAE
from plsc.models.classifier import Classifier
from plsc.models.encoder import Encoder
from plsc.models.heads import AttentiveHead, EfficientProbingHead, Head, LinearHead
from plsc.models.linear_grid import LinearGrid
from plsc.models.vit import ViT

__all__ = [
    "CAE",
    "AttentiveHead",
    "Classifier",
    "EfficientProbingHead",
    "Encoder",
    "Head",
    "LinearGrid",
    "LinearHead",
    "ViT",
]
