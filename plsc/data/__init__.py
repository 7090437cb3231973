"""Files to batches: datasets, transforms of samples and of batches, order and loading."""

from plsc.data import batch_transforms, folder, transforms  # noqa: F401 - importing them registers their components
