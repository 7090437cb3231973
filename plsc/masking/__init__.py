"""Mask generators: which patches are hidden. Importing this package registers them."""

from plsc.masking.base import MaskGenerator
from plsc.masking.block import BlockMask
from plsc.masking.uniform import RandomMask

__all__ = ["BlockMask", "MaskGenerator", "RandomMask"]
