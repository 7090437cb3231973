"""Tokenizers: images in, targets of the pretext task out. Importing this package registers them."""

from plsc.tokenizers.dalle import DalleTokenizer
from plsc.tokenizers.dvae import DiscreteVAE, DVAETokenizer
from plsc.tokenizers.pixel import PixelTarget
from plsc.tokenizers.projection import RandomTokenizer

__all__ = ["DVAETokenizer", "DalleTokenizer", "DiscreteVAE", "PixelTarget", "RandomTokenizer"]
