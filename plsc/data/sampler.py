"""Sampler of micro-batches per process; the samples depend on seed, epoch and step only."""

from typing import Iterator, List, Tuple

import numpy as np

Position = Tuple[int, int]  # (epoch, index)


class EpochBatchSampler:
    """Yields the micro-batches of one process over one epoch, starting at any optimizer step.

    Optimizer step s takes the samples `order[s * G : (s + 1) * G]`, where G = batch_size * accumulate * world_size.
    Micro-batch a of process r is the slice of these that starts at `(a * world_size + r) * batch_size`. The samples of
    a step do not depend on how the global batch is divided.

    Args:
        num_samples: Size of the dataset.
        batch_size: Samples per micro-batch and process.
        accumulate: Micro-batches per optimizer step.
        rank: Rank of this process.
        world_size: Number of processes.
        shuffle: Use a new permutation every epoch; otherwise the order is 0, 1, 2...
        seed: Seed of the permutation.
        drop_last: Leave out the samples that do not fill a global batch. Otherwise they are divided among the processes
            in nearly equal parts: each sample occurs once, and a process may get one batch less.

    Raises:
        ValueError: If an argument is out of range, there would be no batch, or training would have unequal
            micro-batches.
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
                f"({accumulate} per step, {world_size} processes); set drop_last: true for training"
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
        """Set the epoch and the optimizer step in it at which the next iteration starts."""
        self.epoch, self.step = epoch, step

    def __len__(self) -> int:
        """Micro-batches of this process in a whole epoch."""
        whole, rest = divmod(self.num_samples, self.global_batch_size)
        return whole * self.accumulate + (0 if self.drop_last else len(self._parts_of_rest(np.arange(rest))))

    @property
    def batches_of_all(self) -> int:
        """Micro-batches that every process has; without `drop_last` some processes may have one more."""
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
            raise ValueError("the dataset is empty; check its root")
        if self.drop_last and self.num_samples < self.global_batch_size:
            raise ValueError(
                f"the dataset has {self.num_samples} samples, fewer than one global batch of "
                f"{self.global_batch_size} ({self.batch_size} per micro-batch x {self.accumulate} accumulated x "
                f"{self.world_size} processes); reduce batch_size, or set drop_last: false with one process"
            )
