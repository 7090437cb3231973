"""Training tasks, one for each method. Importing this package registers the built-in ones."""

from plsc.tasks import classification, masked_image_modeling, tokenizer
from plsc.tasks.base import Batch, Task

__all__ = ["Batch", "Task", "classification", "masked_image_modeling", "tokenizer"]
