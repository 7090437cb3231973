"""Which samples make up which micro-batch of which process: a function of seed, epoch and step alone."""

from typing import Iterator, List, Tuple

import numpy as np

Position = Tuple[int, int]  # (epoch, index)


class EpochBatchSampler:
    """Micro-batches of one process over one epoch, from any optimizer step on.

    Optimizer step s takes samples `order[s * G : (s + 1) * G]`, G = batch_size * accumulate * world_size; its
    micro-batch a on process r is the slice that starts at `(a * world_size + r) * batch_size`. So the union over
    processes and micro-batches does not depend on how a global batch is divided.

    Args:
        num_samples: Size of the dataset.
        batch_size: Samples per micro-batch and process.
        accumulate: Micro-batches per optimizer step.
        rank: This process.
        world_size: Number of processes.
        shuffle: Whether the order is a new permutation every epoch; otherwise it is 0, 1, 2...
        seed: Of the permutation.
        drop_last: Leaves out the samples that fill no global batch. Otherwise they are dealt to the processes in
            nearly equal parts, without repeats: every sample counts once, and a process may get one batch less.

    Raises:
        ValueError: If a number is out of range, nothing would be left, or unequal parts meet several processes or
            micro-batches in training.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = True,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("accumulate", accumulate), ("world_size", world_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if not drop_last and (accumulate > 1 or (shuffle and world_size > 1)):
            raise ValueError(
                "drop_last: false would give the last step of an epoch unequal micro-batches "
                f"({accumulate} a step, {world_size} processes); set drop_last: true for training"
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.rank = rank
        self.world_size = world_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self._check_not_empty()
        self.set_position(0, 0)

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer step over all processes."""
        return self.batch_size * self.accumulate * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in a whole epoch."""
        whole, rest = divmod(self.num_samples, self.global_batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def set_position(self, epoch: int, step: int) -> None:
        """Chooses the epoch and the optimizer step in it at which the next iteration starts."""
        self.epoch, self.step = epoch, step

    def __len__(self) -> int:
        """Micro-batches of this process in a whole epoch."""
        whole, rest = divmod(self.num_samples, self.global_batch_size)
        return whole * self.accumulate + (0 if self.drop_last else len(self._parts_of_rest(np.arange(rest))))

    @property
    def batches_of_all(self) -> int:
        """Micro-batches that every process has; without `drop_last` some may have one more."""
        whole, rest = divmod(self.num_samples, self.global_batch_size)
        return whole * self.accumulate + (1 if not self.drop_last and rest >= self.world_size else 0)

    def __iter__(self) -> Iterator[List[Position]]:
        epoch, first = self.epoch, self.step
        order = self.order(epoch)
        size = self.global_batch_size
        for step in range(first, self.num_samples // size):
            for indices in self._parts(order[step * size : (step + 1) * size]):
                yield [(epoch, int(index)) for index in indices]
        if not self.drop_last and first < self.steps_per_epoch:
            for indices in self._parts_of_rest(order[self.num_samples // size * size :]):
                yield [(epoch, int(index)) for index in indices]

    def order(self, epoch: int) -> np.ndarray:
        """All samples in the order of `epoch`, int64 (num_samples,)."""
        if not self.shuffle:
            return np.arange(self.num_samples)
        return np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)

    def _parts(self, indices: np.ndarray) -> np.ndarray:
        """Micro-batches of this process in one step: (G,) -> (accumulate, batch_size)."""
        return indices.reshape(self.accumulate, self.world_size, self.batch_size)[:, self.rank]

    def _parts_of_rest(self, indices: np.ndarray) -> List[np.ndarray]:
        mine = np.array_split(indices, self.world_size)[self.rank]
        return [mine] if len(mine) else []

    def _check_not_empty(self) -> None:
        if self.num_samples < 1:
            raise ValueError("the dataset is empty")
        if self.drop_last and self.num_samples < self.global_batch_size:
            raise ValueError(
                f"the dataset has {self.num_samples} samples, fewer than one global batch of "
                f"{self.global_batch_size} ({self.batch_size} a micro-batch x {self.accumulate} accumulated x "
                f"{self.world_size} processes); reduce batch_size, or set drop_last: false with one process"
            )
