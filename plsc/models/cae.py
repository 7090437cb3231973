"""Context autoencoder: encoder, latent regressor, decoder and teacher (arXiv 2202.03026)."""

from typing import Any, Dict, Literal, Optional

import paddle
from paddle import nn

from plsc import checks
from plsc.config import contract
from plsc.config.registry import MODELS
from plsc.models.vit import INIT_STD, ViT, sincos_table
from plsc.nn.attention import CrossAttention
from plsc.nn.block import Block
from plsc.nn.drop_path import DropPath, drop_path_ramp
from plsc.nn.functional import LayerNorm, Linear, scale_channels
from plsc.nn.init import rescale_by_depth_, truncated_normal_, truncated_normal_linear_, xavier_uniform_
from plsc.nn.mlp import Mlp
from plsc.nn.network import Network
from plsc.nn.teacher import make_teacher, update_teacher


class RegressorBlock(nn.Layer):
    """Cross-attention whose normalized output replaces the residual stream, followed by an MLP.

    With queries x and keys/values kv: x = norm2(x + g1 attn(norm(x + pos), norm(kv + pos), norm(kv))), then
    x + g2 mlp(x). Positions reach queries and keys only and do not accumulate. Without layer scale the scales are
    ones that are not trained. CAE, `modeling_cae_helper.RegressorBlock`.

    Args:
        dim: Width D.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLP, in multiples of D.
        qkv_bias: Add a bias to queries and values.
        qk_scale: Factor of the queries; by default (D / heads) ** -0.5.
        drop_rate: Dropout probability of both branches.
        attn_drop_rate: Dropout probability of the attention weights.
        drop_path_rate: Probability of leaving out a branch.
        layer_scale: Initial value of the scales; None or <= 0: fixed to 1.
        norm_eps: Added to the variance in normalizations.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: Optional[float] = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale: Optional[float] = None,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1_q = LayerNorm(dim, epsilon=norm_eps)
        self.norm1_k = LayerNorm(dim, epsilon=norm_eps)
        self.norm1_v = LayerNorm(dim, epsilon=norm_eps)
        self.cross_attn = CrossAttention(dim, num_heads, qkv_bias, qk_scale, drop_rate, attn_drop_rate)
        self.norm2 = LayerNorm(dim, epsilon=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop_rate)
        self.drop_path = DropPath(drop_path_rate)
        trained = layer_scale is not None and layer_scale > 0
        initial = nn.initializer.Constant(layer_scale if trained else 1.0)
        self.gamma_1 = self.create_parameter([dim], default_initializer=initial)
        self.gamma_2 = self.create_parameter([dim], default_initializer=initial)
        self.gamma_1.stop_gradient = self.gamma_2.stop_gradient = not trained

    def forward(
        self, x: paddle.Tensor, kv: paddle.Tensor, position_q: paddle.Tensor, position_kv: paddle.Tensor
    ) -> paddle.Tensor:
        """Queries and their positions (B, M, D), keys/values and their positions (B, V + M, D) -> (B, M, D)."""
        x = self.norm2(self.drop_path(x, self._attend, kv, position_q, position_kv))
        return self.drop_path(x, lambda x: scale_channels(self.mlp(x), self.gamma_2))

    def _attend(
        self, x: paddle.Tensor, kv: paddle.Tensor, position_q: paddle.Tensor, position_kv: paddle.Tensor
    ) -> paddle.Tensor:
        attended = self.cross_attn(self.norm1_q(x + position_q), self.norm1_k(kv + position_kv), self.norm1_v(kv))
        return scale_channels(attended, self.gamma_1)


class Regressor(nn.Layer):
    """Predicts the latents of masked patches from those of visible ones.

    Args:
        dim: Width D.
        num_heads: Attention heads.
        depth: Number of blocks.
        drop_path_rate: Drop rate of the last block; it rises linearly from 0 in the first.
        layer_scale: Initial value of the scales in the blocks.
        **options: Further arguments of `RegressorBlock`.
    """

    def __init__(
        self, dim: int, num_heads: int, depth: int, drop_path_rate: float, layer_scale: Optional[float], **options: Any
    ) -> None:
        super().__init__()
        self.blocks = nn.LayerList(
            [
                RegressorBlock(dim, num_heads, drop_path_rate=rate, layer_scale=layer_scale, **options)
                for rate in drop_path_ramp(drop_path_rate, depth)
            ]
        )
        self.norm = LayerNorm(dim, epsilon=options["norm_eps"])

    def forward(
        self, query: paddle.Tensor, visible: paddle.Tensor, position_m: paddle.Tensor, position_v: paddle.Tensor
    ) -> paddle.Tensor:
        """Queries (B, M, D), visible latents (B, V, D), positions of masked and visible -> latents (B, M, D)."""
        position_kv = paddle.concat([position_v, position_m], axis=1)
        for block in self.blocks:
            query = block(query, paddle.concat([visible, query], axis=1), position_m, position_kv)
        return self.norm(query)


class Decoder(nn.Layer):
    """Self-attention among the masked patches.

    Args:
        dim: Width D.
        num_heads: Attention heads.
        depth: Number of blocks; 0: only the normalization.
        drop_path_rate: Drop rate of the last block; it rises linearly from 0 in the first.
        layer_scale: Initial value of the scales in the blocks.
        **options: Further arguments of `Block`.
    """

    def __init__(
        self, dim: int, num_heads: int, depth: int, drop_path_rate: float, layer_scale: Optional[float], **options: Any
    ) -> None:
        super().__init__()
        self.blocks = nn.LayerList(
            [
                Block(dim, num_heads, drop_path_rate=rate, layer_scale=layer_scale, **options)
                for rate in drop_path_ramp(drop_path_rate, depth)
            ]
        )
        self.norm = LayerNorm(dim, epsilon=options["norm_eps"])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(B, M, D) -> (B, M, D)."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


@MODELS.register()
class CAE(Network):
    """Context autoencoder: predicts tokens and latents of masked patches from the visible ones.

    Chen et al., arXiv 2202.03026, section 3; `modeling_cae.VisionTransformerForMaskedImageModeling`. Regressor and
    decoder inherit MLP ratio, biases, dropout and epsilon from the encoder.

    Args:
        encoder: Encodes the visible patches; the teacher is a copy of it.
        regressor_depth: Cross-attention blocks that predict latents.
        decoder_depth: Self-attention blocks that decode them.
        decoder_embed_dim: Width of regressor and decoder; by default that of the encoder.
        decoder_num_heads: Attention heads of regressor and decoder; by default those of the encoder.
        vocab_size: Width of the prediction: number of tokens, or values of a patch for pixel targets.
        decoder_layer_scale: Initial value of the scales in regressor and decoder; None or <= 0: none.
        regressor_drop_path_rate: Drop path rate of the last block of the regressor.
        decoder_drop_path_rate: Drop path rate of the last block of the decoder.
        teacher_momentum: Weight of the teacher itself in its update, in [0, 1]; 0 copies the encoder.
        init: `xavier`: every linear layer, as in the recipe of ViT-B; `fixed`: truncated normal, scaled down with
            depth, as in that of ViT-L. Both include the encoder, whose tokens and patch embedding are drawn again
            too, cut at one deviation as the authors have it, unless the encoder has `init: xavier`.

    Raises:
        ValueError: If a depth, width, rate or the momentum is impossible, or the encoder has relative position bias.
    """

    def __init__(
        self,
        encoder: ViT,
        regressor_depth: int = 4,
        decoder_depth: int = 4,
        decoder_embed_dim: Optional[int] = None,
        decoder_num_heads: Optional[int] = None,
        vocab_size: int = 8192,
        decoder_layer_scale: Optional[float] = 0.1,
        regressor_drop_path_rate: float = 0.0,
        decoder_drop_path_rate: float = 0.0,
        teacher_momentum: float = 0.0,
        init: Literal["xavier", "fixed"] = "xavier",
    ) -> None:
        super().__init__()
        dim = encoder.embed_dim if decoder_embed_dim is None else decoder_embed_dim
        heads = encoder.num_heads if decoder_num_heads is None else decoder_num_heads
        contract.derived(encoder, ViT)
        _check_encoder(encoder)
        checks.at_least(0, regressor_depth=regressor_depth, decoder_depth=decoder_depth)
        checks.at_least(1, vocab_size=vocab_size, decoder_embed_dim=dim, decoder_num_heads=heads)
        checks.share(teacher_momentum=teacher_momentum)
        checks.share_below_one(
            regressor_drop_path_rate=regressor_drop_path_rate, decoder_drop_path_rate=decoder_drop_path_rate
        )
        if dim % heads:
            raise ValueError(
                f"decoder_embed_dim must be a multiple of decoder_num_heads: {dim} does not divide into {heads} heads"
            )
        self.vocab_size: int = vocab_size
        self.image_size = encoder.image_size
        self.teacher_momentum = teacher_momentum
        self.encoder = encoder
        options = {"layer_scale": decoder_layer_scale, **encoder.block_options}
        self.regressor = Regressor(dim, heads, regressor_depth, regressor_drop_path_rate, **options)
        self.decoder = Decoder(dim, heads, decoder_depth, decoder_drop_path_rate, **options)
        self.head = Linear(dim, vocab_size)
        self.mask_token = self.create_parameter([1, 1, dim])
        self.encoder_to_decoder = self.encoder_to_decoder_norm = None
        if dim != encoder.embed_dim:
            self.encoder_to_decoder = Linear(encoder.embed_dim, dim)
            self.encoder_to_decoder_norm = LayerNorm(dim, epsilon=encoder.block_options["norm_eps"])
        self._add_positions(dim)
        self._initialize(init)
        self.teacher = make_teacher(encoder)

    def forward(
        self, image: paddle.Tensor, visible_index: paddle.Tensor, masked_index: paddle.Tensor
    ) -> Dict[str, paddle.Tensor]:
        """Predict the masked patches.

        Args:
            image: Float (B, C, H, W), normalized.
            visible_index: Row-major positions of the visible patches, int64 (B, V), ascending.
            masked_index: Positions of the masked patches, int64 (B, M), ascending.

        Returns:
            `logits` (B, M, vocab_size), `latent` (B, M, D) of the regressor, and `latent_target` (B, M, D) of the
            teacher, without gradient.

        Raises:
            ValueError: If visible and masked patches together are not those of the encoder's grid.
        """
        self._check_counts(visible_index.shape[1], masked_index.shape[1])
        visible = self._to_decoder(self.encoder(image, visible_index))[:, 1:]  # (B, V, D)
        with paddle.no_grad():
            target = self._to_decoder(self.teacher(image, masked_index))[:, 1:]  # (B, M, D)
        position_v, position_m = self._positions(visible_index), self._positions(masked_index)
        query = self.mask_token.expand(position_m.shape)
        latent = self.regressor(query, visible, position_m, position_v)
        logits = self.head(self.decoder(latent + position_m))
        return {"logits": logits, "latent": latent, "latent_target": target}

    def update_teacher(self) -> None:
        """Move the teacher towards the encoder; call it once per optimizer step, before the update of the optimizer.

        The reference moves it in the forward pass, so it stays one update behind the encoder even with momentum 0.
        """
        update_teacher(self.teacher, self.encoder, self.teacher_momentum)

    def reset_teacher(self) -> None:
        """Make the teacher a copy of the encoder, as at the start of training."""
        update_teacher(self.teacher, self.encoder, 0.0)

    def _check_counts(self, visible: int, masked: int) -> None:
        rows, columns = self.encoder.grid_size
        if visible + masked != rows * columns or masked == 0:
            raise ValueError(
                f"the masks leave {visible} patches visible and hide {masked}, but the encoder has {rows * columns}; "
                f"set MaskGenerator.grid to [{rows}, {columns}] and hide at least one patch"
            )

    def _to_decoder(self, tokens: paddle.Tensor) -> paddle.Tensor:
        if self.encoder_to_decoder is None:
            return tokens
        return self.encoder_to_decoder_norm(self.encoder_to_decoder(tokens))

    def _add_positions(self, dim: int) -> None:
        if self.encoder.position_kind == "learned" and dim == self.encoder.embed_dim:
            self.pos_embed = None  # the encoder's own table is used
            return
        official = self.encoder.position_kind == "sincos_official"
        table = sincos_table(self.encoder.grid_size, dim, cls_rows=0, official_order=official)
        self.register_buffer("pos_embed", table, persistable=False)

    def _positions(self, index: paddle.Tensor) -> paddle.Tensor:
        """Positions at the decoder's width: int64 (B, M) -> (B, M, D)."""
        table = self.encoder.pos_embed[:, 1:] if self.pos_embed is None else self.pos_embed
        return paddle.gather(table[0], index.flatten()).reshape([*index.shape, table.shape[-1]])

    def _initialize(self, init: str) -> None:
        if self.encoder.init_kind == "truncated_normal":
            self.encoder.initialize_embeddings()
        truncated_normal_(self.mask_token, INIT_STD)
        for layer in self.sublayers():
            if not isinstance(layer, nn.Linear):
                continue
            if init == "xavier":
                xavier_uniform_(layer)
            else:
                truncated_normal_linear_(layer, INIT_STD)
        if init == "fixed":
            rescale_by_depth_((block.cross_attn.proj, block.mlp.fc2) for block in self.regressor.blocks)
            for blocks in (self.encoder.blocks, self.decoder.blocks):
                rescale_by_depth_((block.attn.proj, block.mlp.fc2) for block in blocks)


def _check_encoder(encoder: ViT) -> None:
    if encoder.bias_kind != "none":
        raise ValueError(
            f"CAE pre-trains without relative position bias, got relative_position_bias: {encoder.bias_kind}; "
            "set it to none (fine-tuning adds it)"
        )
