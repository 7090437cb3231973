"""Batch normalization of feature vectors for linear probes."""

import paddle
from paddle import nn

from plsc import distributed


class FeatureBatchNorm(nn.Layer):
    """Batch normalization of features without learned scale and shift.

    The running variance is the unbiased one, as in PyTorch and therefore in the reference; `paddle.nn.BatchNorm1D`
    keeps the biased one.

    Args:
        num_features: Width D of the features.
        eps: Added to the variance.
        momentum: Weight of the batch statistics in the running statistics.

    Attributes:
        over_processes: Compute statistics over the batches of all processes, which must have the same size.
    """

    over_processes = False

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.register_buffer("running_mean", paddle.zeros([num_features]))
        self.register_buffer("running_var", paddle.ones([num_features]))

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        """Normalize: (B, D) -> (B, D), in the dtype of the buffers.

        Raises:
            ValueError: If the batch has a single sample in training, so that the variance is undefined.
        """
        features = features.astype(self.running_mean.dtype)
        if not self.training:
            return (features - self.running_mean) * paddle.rsqrt(self.running_var + self.eps)
        processes = distributed.world_size() if self.over_processes else 1
        batch = features.shape[0] * processes
        if batch < 2:
            raise ValueError("batch normalization needs at least 2 samples per device in training; raise batch_size")
        mean = self._mean(features, processes)
        centered = features - mean
        variance = self._mean(centered.square(), processes)
        self._update_running(mean, variance * (batch / (batch - 1)))
        return centered * paddle.rsqrt(variance + self.eps)

    @staticmethod
    def _mean(values: paddle.Tensor, processes: int) -> paddle.Tensor:
        """Mean over the batches of `processes`: (B, D) -> (D)."""
        mean = values.mean(axis=0)
        return mean if processes == 1 else distributed.differentiable_sum(mean) / processes

    @paddle.no_grad()
    def _update_running(self, mean: paddle.Tensor, variance: paddle.Tensor) -> None:
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            running.scale_(1.0 - self.momentum)
            running.add_(new.detach() * self.momentum)
