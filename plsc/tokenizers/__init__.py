"""Tokenizers and other targets of pretext tasks. Importing this package registers the built-in ones."""

from plsc.tokenizers.base import Target
from plsc.tokenizers.dalle import DalleTokenizer
from plsc.tokenizers.dvae import DiscreteVAE, DVAETokenizer
from plsc.tokenizers.pixel import PixelTarget
from plsc.tokenizers.projection import RandomTokenizer

__all__ = ["DVAETokenizer", "DalleTokenizer", "DiscreteVAE", "PixelTarget", "RandomTokenizer", "Target"]
