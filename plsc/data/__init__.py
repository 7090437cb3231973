"""Data pipeline: datasets, sample and batch transforms, samplers and loaders."""

from plsc.data import (  # noqa: F401 - importing them registers their components
    batch_transforms,
    cifar,
    color,
    erasing,
    folder,
    list_file,
    mixup,
    rand_augment,
    subset,
    transforms,
)
