"""One optimizer step, for every method."""

from contextlib import nullcontext
from typing import Any, Callable, ContextManager, Dict, Mapping, Optional, Sequence

import numpy as np
import paddle

from plsc import distributed
from plsc.data.batch_transforms import BatchTransform
from plsc.engine.nonfinite import NonFinitePolicy
from plsc.nn.precision import Precision
from plsc.tasks.base import Batch, Task

BATCH_SALT = 7919  # separates the random streams of batch transforms and samples
Scalars = Dict[str, paddle.Tensor]


class TrainStep:
    """One optimizer step without a run around it: no loader, callbacks, log or checkpoints.

    A call takes one step, in this order: set the learning rate; seed the random state; for each micro-batch: batch
    transforms, `task.prepare`, `task.forward`, backward pass; average the gradients over the processes; unscale and
    clip them; check that they are finite; `task.before_step`; update; `task.on_step_end`.

    The random state is a function of (seed, step, rank), so a resumed run and a replayed step draw the same values.

    Args:
        task: Networks and losses.
        optimizer: A plsc.optim optimizer over the task's parameters.
        schedule: Learning rate as a function of the optimizer steps taken.
        batch_transforms: `(batch, rng) -> batch`, applied in order on the device.
        precision: Autocast and loss scaling.
        total_steps: Length of the run in optimizer steps, for the progress that task and optimizer are told.
        seed: Seed of the run.
        nonfinite: Policy for gradients that are not finite; by default such a step raises FloatingPointError.
        step: Optimizer steps taken so far.
        rank: Process whose random values are drawn; by default this process.

    Attributes:
        skipped: True if the last step left the weights unchanged because its gradients were not finite.
        parameters: The task's trainable parameters.
        timer: Measures the stages of a step: `timer(stage)` returns a context manager that is entered around the
            stage. The stages are "batch transforms", "targets" (`task.prepare`), "forward", "backward", "gradient
            exchange", "gradient clip", "task before the update", "optimizer" and "task after the update"; those of
            the micro-batches occur once for each of them, and no stage is inside another. By default nothing is
            measured. It may be replaced between two steps.
    """

    def __init__(
        self,
        task: Task,
        optimizer: Any,
        schedule: Callable[[int], float],
        batch_transforms: Sequence[BatchTransform],
        precision: Precision,
        total_steps: int,
        seed: int = 0,
        nonfinite: Optional[NonFinitePolicy] = None,
        step: int = 0,
        rank: Optional[int] = None,
    ) -> None:
        self.task = task
        self.optimizer = optimizer
        self.schedule = schedule
        self.batch_transforms = list(batch_transforms)
        self.precision = precision
        self.total_steps = total_steps
        self.seed = seed
        self.nonfinite = nonfinite or NonFinitePolicy()
        self.step = step
        self.rank = distributed.rank() if rank is None else rank
        self.skipped = False
        self.timer: Callable[[str], ContextManager[Any]] = nullcontext
        self.parameters = [p for p in task.parameters() if not p.stop_gradient]
        self.exchange = distributed.GradientExchange(task, self.parameters)

    def __call__(self, micro_batches: Sequence[Batch]) -> Scalars:
        """Take one optimizer step; the weights stay unchanged if the gradients are not finite.

        Args:
            micro_batches: Batches of equal size, whose gradients are averaged.

        Returns:
            The task's scalars averaged over the micro-batches, and `grad_norm` (before clipping); on the device.

        Raises:
            ValueError: If a batch lacks a key that the task needs.
            FloatingPointError: If the gradients are not finite and `nonfinite` stops the run.
            Rewind: If they are not finite and `nonfinite` goes back to the last checkpoint.
        """
        progress = self.step / self.total_steps
        self.optimizer.set_lr(self.schedule(self.step))
        self.optimizer.set_progress(progress)
        scalars = self.accumulate_gradients(micro_batches, self.exchange.forward)
        with self.timer("gradient exchange"):
            self.exchange.finish()
        with self.timer("gradient clip"):
            self.precision.unscale(self.parameters)
            scalars["grad_norm"] = self.optimizer.clip_gradients()
        self.skipped = not self._may_update(scalars["grad_norm"], micro_batches)
        if not self.skipped:
            with self.timer("task before the update"):
                self.task.before_step(progress)
            with self.timer("optimizer"):
                self.optimizer.step()
        with self.timer("optimizer"):
            self.optimizer.clear_grad()
        self.step += 1
        with self.timer("task after the update"):
            self.task.on_step_end(self.step / self.total_steps)
        return scalars

    def accumulate_gradients(
        self, micro_batches: Sequence[Batch], last_forward: Optional[Callable[[Batch], Scalars]] = None
    ) -> Scalars:
        """Add up this process's gradients of the current step; repeated calls give the same gradients.

        Args:
            micro_batches: Batches of equal size.
            last_forward: Called with the last micro-batch instead of the task, so that the backward pass after it can
                average the gradients over the processes.

        Returns:
            The task's scalars averaged over the micro-batches.
        """
        paddle.seed(self._seed_of_step())
        rng = np.random.default_rng([self.seed, self.step, self.rank, BATCH_SALT])
        scalars: Scalars = {}
        for number, batch in enumerate(micro_batches, start=1):
            forward = last_forward if last_forward and number == len(micro_batches) else self.task
            batch = self.prepare(batch, rng)
            with self.timer("forward"), self.precision.autocast():
                outputs = forward(batch)
            with self.timer("backward"):
                self.precision.backward(outputs["loss"] / len(micro_batches))
            for name, value in outputs.items():
                part = value.detach() / len(micro_batches)
                scalars[name] = scalars[name] + part if name in scalars else part
        return scalars

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Apply the batch transforms and `task.prepare`: the batch that `task.forward` takes.

        Raises:
            ValueError: If the batch lacks a key that the task needs.
        """
        missing = [key for key in self.task.required_keys if key not in batch]
        if missing:
            raise ValueError(
                f"{type(self.task).__name__} needs {', '.join(missing)} in a batch, but the batch has "
                f"{', '.join(batch)}; labels come from a folder with one sub-folder per class, masks from the section "
                "MaskGenerator"
            )
        with paddle.no_grad():
            with self.timer("batch transforms"):
                for transform in self.batch_transforms:
                    batch = transform(batch, rng)
            with self.timer("targets"):
                return self.task.prepare(batch)

    def _may_update(self, norm: paddle.Tensor, micro_batches: Sequence[Batch]) -> bool:
        """Return whether the step's gradients may change the weights.

        The norm is that of the averaged gradients, so all processes decide alike. It is the only value that a step
        reads back from the device: a run that goes on with broken weights costs more than this wait.
        """
        if self.step in self.nonfinite.left_out:
            return False
        if np.isfinite(float(norm)):
            self.precision.succeeded()
            return True
        if self.precision.overflowed():
            self.nonfinite.overflows += 1
        else:
            self.nonfinite.handle(self, micro_batches)
        return False

    def _seed_of_step(self) -> int:
        """Return the seed of Paddle's generator, for drop path, dropout and noise."""
        return int(np.random.SeedSequence([self.seed, self.step, self.rank]).generate_state(1)[0])

    def state_dict(self) -> Dict[str, Any]:
        """Return the state besides weights and optimizer state that a resumed run needs, as plain data."""
        return {
            "step": self.step,
            "seed": self.seed,
            "scaler": self.precision.state_dict(),
            "nonfinite": self.nonfinite.state_dict(),
        }

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`; the seed stays that of this run."""
        self.step = int(state["step"])
        self.precision.set_state_dict(state.get("scaler", {}))
        self.nonfinite.set_state_dict(state.get("nonfinite", {}))
