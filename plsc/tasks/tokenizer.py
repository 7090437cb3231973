"""Training a discrete tokenizer."""

import math
from typing import Dict

import paddle
from paddle import nn
from paddle.nn import functional as F

from plsc import checks
from plsc.config.registry import TASKS
from plsc.nn.measures import perplexity
from plsc.tasks.base import Batch, Task
from plsc.tokenizers.dvae import DiscreteVAE


@TASKS.register()
class TokenizerTraining(Task):
    """Trains a discrete VAE by reconstruction, with a weak divergence of the tokens from a uniform distribution.

    DALL-E, arXiv 2102.12092, section 2.1. The Gumbel-softmax temperature falls geometrically over the run, so that
    soft tokens become hard ones.

    Args:
        model: The discrete VAE.
        kl_weight: Factor of the divergence from uniform tokens, in nats per token.
        start_temperature: Temperature of the Gumbel-softmax at the first step.
        end_temperature: Temperature at the last step.
    """

    def __init__(
        self,
        model: nn.Layer,
        kl_weight: float = 1e-3,
        start_temperature: float = 1.0,
        end_temperature: float = 0.1,
    ) -> None:
        super().__init__(model)
        if not isinstance(model, DiscreteVAE):
            raise ValueError(f"needs a model that makes tokens, such as DiscreteVAE, got a {type(model).__name__}")
        checks.at_least(0, kl_weight=kl_weight)
        if not 0 < end_temperature <= start_temperature:
            raise ValueError(
                f"needs 0 < end_temperature <= start_temperature, got {end_temperature} and {start_temperature}"
            )
        self.kl_weight = kl_weight
        self.start_temperature = start_temperature
        self.end_temperature = end_temperature
        self._set_temperature(0.0)

    def forward(self, batch: Batch) -> Dict[str, paddle.Tensor]:
        outputs = self.model(batch["image"])
        reconstruction = F.mse_loss(outputs["reconstruction"].astype("float32"), batch["image"])
        probabilities = F.softmax(outputs["logits"].astype("float32"), axis=-1)
        log_probabilities = F.log_softmax(outputs["logits"].astype("float32"), axis=-1)
        entropy = -(probabilities * log_probabilities).sum(axis=-1).mean()
        kl = math.log(self.model.vocab_size) - entropy
        return {
            "loss": reconstruction + self.kl_weight * kl,
            "loss_reconstruction": reconstruction,
            "loss_kl": kl,
            "codebook_perplexity": perplexity(outputs["logits"].argmax(axis=-1), self.model.vocab_size),
        }

    def predict(self, batch: Batch) -> paddle.Tensor:
        return self.model(batch["image"])["reconstruction"]

    def on_step_end(self, progress: float) -> None:
        self._set_temperature(progress)

    def prepare(self, batch: Batch) -> Batch:
        if not batch["image"].is_floating_point():
            raise ValueError(
                "a tokenizer is trained on pixels in [0, 1]; add the batch transform {name: ToFloat, key: image}"
            )
        return batch

    def pictures(self, batch: Batch) -> Dict[str, paddle.Tensor]:
        """The images and their reconstructions from tokens."""
        tokens = self.model.token_logits(batch["image"]).argmax(axis=-1)
        return {"original": batch["image"], "reconstructed": self.model.decode(tokens)}

    def _set_temperature(self, progress: float) -> None:
        ratio = self.end_temperature / self.start_temperature
        self.model.temperature.fill_(self.start_temperature * ratio**progress)
