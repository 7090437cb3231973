"""Mask generators. Importing this package registers the built-in ones."""

from plsc.masking.base import MaskGenerator
from plsc.masking.block import BlockMask
from plsc.masking.uniform import RandomMask

__all__ = ["BlockMask", "MaskGenerator", "RandomMask"]
