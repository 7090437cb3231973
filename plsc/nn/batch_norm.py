"""Batch normalisation of feature vectors, as linear probes use it."""

import paddle
from paddle import nn

from plsc import distributed


class FeatureBatchNorm(nn.Layer):
    """Normalises features by batch statistics, without learned scale and shift.

    `paddle.nn.BatchNorm1D` keeps a running variance that divides by the batch size; here it divides by one less, as
    in PyTorch, and so in the reference's numbers.

    Args:
        num_features: Width D of the features.
        eps: Added to the variance.
        momentum: Share of the batch's statistics in the running ones.

    Attributes:
        over_processes: Whether the statistics are those of the batches of all processes, which must be of equal size.
    """

    over_processes = False

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.register_buffer("running_mean", paddle.zeros([num_features]))
        self.register_buffer("running_var", paddle.ones([num_features]))

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        """(B, D) -> (B, D), in the buffers' precision.

        Raises:
            ValueError: If training on a single sample, whose variance is not defined.
        """
        features = features.astype(self.running_mean.dtype)
        if not self.training:
            return (features - self.running_mean) * paddle.rsqrt(self.running_var + self.eps)
        processes = distributed.world_size() if self.over_processes else 1
        batch = features.shape[0] * processes
        if batch < 2:
            raise ValueError("batch normalisation needs at least 2 samples per device in training; raise batch_size")
        mean = self._mean(features, processes)
        centered = features - mean
        variance = self._mean(centered.square(), processes)
        self._update_running(mean, variance * (batch / (batch - 1)))
        return centered * paddle.rsqrt(variance + self.eps)

    @staticmethod
    def _mean(values: paddle.Tensor, processes: int) -> paddle.Tensor:
        """(B, D) -> (D), over the batches of `processes`."""
        mean = values.mean(axis=0)
        return mean if processes == 1 else distributed.differentiable_sum(mean) / processes

    @paddle.no_grad()
    def _update_running(self, mean: paddle.Tensor, variance: paddle.Tensor) -> None:
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            running.scale_(1.0 - self.momentum)
            running.add_(new.detach() * self.momentum)
