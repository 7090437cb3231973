"""Facts about a network from the config of its checkpoint, which may come from anywhere."""

from typing import Any, Mapping, Optional, Tuple

from plsc.checkpoint.arrays import CheckpointError
from plsc.config.tree import ConfigError, parse

Grid = Tuple[int, int]
_MOST_PATCHES = 2**20


def model_section(config: str) -> Mapping[str, Any]:
    """Section `Model` of a checkpoint's config; empty if it is missing.

    Raises:
        CheckpointError: If the config is not plain YAML.
    """
    try:
        tree = parse(config, "the config.yaml of the checkpoint")
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    return mapping(tree, "Model")


def mapping(tree: Any, key: str) -> Mapping[str, Any]:
    """Mapping below a key; empty if it is missing."""
    found = tree.get(key) if isinstance(tree, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def grid_of_encoder(config: str) -> Optional[Grid]:
    """Rows and columns of patches of the encoder in a checkpoint's config; None without an encoder.

    Raises:
        CheckpointError: If image or patch size are not positive integers, or there are too many patches.
    """
    encoder = mapping(model_section(config), "encoder")
    if not encoder:
        return None
    image, patch = _side_lengths(encoder, "image_size", 224), _side_lengths(encoder, "patch_size", 16)
    grid = (image[0] // patch[0], image[1] // patch[1])
    if grid[0] * grid[1] > _MOST_PATCHES:
        raise CheckpointError(f"Model.encoder of the checkpoint's config has {grid[0]} x {grid[1]} patches, too many")
    return grid


def _side_lengths(encoder: Mapping[str, Any], key: str, default: int) -> Tuple[int, int]:
    given = encoder.get(key, default)
    lengths = list(given) if isinstance(given, (list, tuple)) else [given, given]
    if len(lengths) != 2 or not all(isinstance(length, int) and length > 0 for length in lengths):
        raise CheckpointError(f"Model.encoder.{key} of the checkpoint's config is not a size: {given!r:.60}")
    return lengths[0], lengths[1]
