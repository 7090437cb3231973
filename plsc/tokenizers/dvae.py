"""A small discrete variational autoencoder, and the tokenizer of a trained one.

After DALL-E (Ramesh et al., arXiv 2102.12092, section 2.1), but small enough for a laptop: all convolutions except the
first and the last work on the grid of tokens.
"""

from typing import Dict, Optional, Tuple, Union

import paddle
from paddle import nn
from paddle.nn import functional as F

from plsc import checks
from plsc.checkpoint.reader import Checkpoint
from plsc.config import files as config_files
from plsc.config.registry import MODELS, TOKENIZERS
from plsc.nn.network import Network
from plsc.nn.utils import parameters_at_most, set_training, to_pair
from plsc.tokenizers.base import Batch, Target, tokenizer_image


class _Residual(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(width, width, 3, padding=1)
        self.conv2 = nn.Conv2D(width, width, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


@MODELS.register()
class DiscreteVAE(Network):
    """Encodes images as a grid of tokens and decodes them.

    Args:
        image_size: Pixels, one side or (H, W).
        patch_size: Pixels per token and side; must divide the image.
        vocab_size: Number of tokens.
        width: Channels on the grid.
        num_blocks: Residual blocks of encoder and of decoder.
        straight_through: Decode hard tokens, with the gradient of the soft ones.

    Raises:
        ValueError: If the patches do not fill the image, or a number is too small.
    """

    def __init__(
        self,
        image_size: Union[int, Tuple[int, int]] = 32,
        patch_size: int = 4,
        vocab_size: int = 256,
        width: int = 64,
        num_blocks: int = 1,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        height, columns = to_pair(image_size, "image_size")
        if patch_size < 1 or height % patch_size or columns % patch_size:
            raise ValueError(f"patch_size must divide image_size, got {patch_size} for images of {height} x {columns}")
        checks.at_least(2, vocab_size=vocab_size)
        checks.at_least(1, width=width)
        checks.at_least(0, num_blocks=num_blocks)
        self.image_size = (height, columns)
        self.vocab_size = vocab_size
        self.grid_size = (height // patch_size, columns // patch_size)
        self.straight_through = straight_through
        self.register_buffer("temperature", paddle.ones([1]))  # of the Gumbel-softmax; saved, so a resumed run has it
        self.encoder = nn.Sequential(
            nn.Conv2D(3, width, patch_size, stride=patch_size),
            *[_Residual(width) for _ in range(num_blocks)],
            nn.ReLU(),
            nn.Conv2D(width, vocab_size, 1),
        )
        self.codebook = nn.Linear(vocab_size, width, bias_attr=False)
        self.decoder = nn.Sequential(
            *[_Residual(width) for _ in range(num_blocks)],
            nn.ReLU(),
            nn.Conv2D(width, 3 * patch_size * patch_size, 1),
            nn.PixelShuffle(patch_size),
        )

    def forward(self, image: paddle.Tensor) -> Dict[str, paddle.Tensor]:
        """Encode and decode: with soft tokens in training mode, with the likeliest tokens otherwise.

        Args:
            image: Float (B, 3, H, W) in [0, 1].

        Returns:
            `logits` (B, N, vocab_size) and `reconstruction` (B, 3, H, W).
        """
        logits = self.token_logits(image)
        if self.training:
            grid = self.codebook(self._soft_tokens(logits))  # (B, N, width)
        else:
            grid = F.embedding(logits.argmax(axis=-1), self.codebook.weight)
        return {"logits": logits, "reconstruction": self._decode_grid(grid)}

    def _soft_tokens(self, logits: paddle.Tensor) -> paddle.Tensor:
        """A Gumbel-softmax sample (Jang et al., arXiv 1611.01144), hard in value if `straight_through`."""
        noise = -paddle.log(-paddle.log(paddle.uniform(logits.shape, min=1e-6, max=1 - 1e-6)))
        soft = F.softmax((logits + noise) / self.temperature, axis=-1)
        if not self.straight_through:
            return soft
        hard = F.one_hot(soft.argmax(axis=-1), self.vocab_size)
        return hard + soft - soft.detach()

    def token_logits(self, image: paddle.Tensor) -> paddle.Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, N, vocab_size).

        Raises:
            ValueError: If the image has another size than the model.
        """
        if tuple(image.shape[2:]) != self.image_size:
            raise ValueError(
                f"the discrete VAE takes images of {self.image_size}, got {tuple(image.shape[2:])}; "
                "change the crop size of the transforms or Model.image_size"
            )
        return self.encoder(image * 2.0 - 1.0).flatten(2).transpose([0, 2, 1])

    def decode(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """Token ids int64 (B, N) -> images (B, 3, H, W) in [0, 1]."""
        return self._decode_grid(F.embedding(tokens, self.codebook.weight)).clip(0.0, 1.0)

    def _decode_grid(self, grid: paddle.Tensor) -> paddle.Tensor:
        """(B, N, width) -> (B, 3, H, W)."""
        return self.decoder(grid.transpose([0, 2, 1]).reshape([grid.shape[0], -1, *self.grid_size]))


@TOKENIZERS.register()
class DVAETokenizer(Target):
    """Tokenizer from a run of the task TokenizerTraining.

    Args:
        checkpoint: Directory of the run, or of one of its checkpoints.

    Raises:
        CheckpointError: If the checkpoint is missing.
        ValueError: If the run trained something else.
    """

    kind = "ids"

    def __init__(self, checkpoint: str) -> None:
        self.model = _read_model(Checkpoint.open(checkpoint))
        self.vocab_size = self.model.vocab_size
        set_training(self.model, False)

    @paddle.no_grad()
    def __call__(self, batch: Batch) -> paddle.Tensor:
        """Second crops (B, 3, h, w) in [0, 1] -> token ids int64 (B, N)."""
        return self.model.token_logits(tokenizer_image(batch)).argmax(axis=-1)

    @paddle.no_grad()
    def decode(self, targets: paddle.Tensor, batch: Optional[Batch] = None) -> paddle.Tensor:
        """Token ids int64 (B, N) -> images (B, 3, h, w) in [0, 1]."""
        return self.model.decode(targets)


def _read_model(checkpoint: Checkpoint) -> DiscreteVAE:
    path = checkpoint.path
    node = config_files.load(path / "config.yaml").get("Model")
    if not isinstance(node, dict) or node.get("name") != DiscreteVAE.__name__:
        raise ValueError(f"{path} does not hold a {DiscreteVAE.__name__}; train one with the task TokenizerTraining")
    arrays = checkpoint.model()
    with parameters_at_most(sum(array.size for array in arrays.values()), str(path)):
        model = MODELS.build(node)
    for name, value in model.state_dict().items():
        value.set_value(arrays[f"model.{name}"])
    return model
