"""Vision transformer, the encoder of the built-in methods."""

from typing import Any, Dict, Literal, Optional, Tuple, Union

import paddle
from paddle import nn

from plsc import checks
from plsc.config.registry import MODELS
from plsc.models.encoder import Encoder
from plsc.nn.attention import RelativePositionBias
from plsc.nn.block import Block
from plsc.nn.drop_path import drop_path_ramp
from plsc.nn.functional import LayerNorm
from plsc.nn.init import (
    WIDE,
    rescale_by_depth_,
    truncated_normal_,
    truncated_normal_linear_,
    uniform_by_inputs_,
    xavier_uniform_,
    zero_bias_,
)
from plsc.nn.patch_embed import PatchEmbed
from plsc.nn.pos_embed import sincos_2d
from plsc.nn.utils import to_pair

INIT_STD = 0.02
LARGEST_EPS = 1e-3  # of a layer normalization in Paddle


def sincos_table(grid: Tuple[int, int], dim: int, cls_rows: int = 1, official_order: bool = False) -> paddle.Tensor:
    """`sincos_2d` as a tensor of the default floating-point type, (1, cls_rows + N, D)."""
    table = sincos_2d(grid, dim, cls_rows, official_order)
    return paddle.to_tensor(table).astype(paddle.get_default_dtype())


@MODELS.register()
class ViT(Encoder):
    """Vision transformer with a class token, BEiT's attention biases and layer scale.

    Dosovitskiy et al., arXiv 2010.11929; CAE, `modeling_cae_helper.VisionTransformerEncoder` and
    `modeling_finetune.VisionTransformer`.

    Args:
        image_size: Height and width in pixels.
        patch_size: Height and width of a patch in pixels.
        in_channels: Channels of the image.
        embed_dim: Width D.
        depth: Number of blocks.
        num_heads: Attention heads; D must be a multiple.
        mlp_ratio: Hidden width of the MLPs, in multiples of D.
        qkv_bias: Add a bias to queries and values; keys never have one.
        qk_scale: Factor of the queries; by default (D / heads) ** -0.5.
        drop_rate: Dropout probability of tokens and residual branches.
        attn_drop_rate: Dropout probability of attention weights.
        drop_path_rate: Probability that the last block leaves out a branch; it rises linearly from 0 in the first.
        layer_scale: Initial value of the learned scales of the residual branches; None or <= 0: no scales.
        norm_eps: Added to the variance in normalizations.
        pos_embed: `sincos`: fixed table; `sincos_official`: the same, numbered as in the authors' code, which
            differs on grids that are not square; `learned`; `none`.
        relative_position_bias: Of the attention logits: `per_block`, one `shared` by all blocks, `both` added up (the
            authors' `--shared_rel_pos_bias`), or `none`.
        init: `truncated_normal`: deviation 0.02, scaled down with depth, and PyTorch's default for the patch
            embedding, as the authors' classifier has it (`CAE` draws its encoder again, see there); or `xavier`, with
            the patch embedding, as in MAE. Narrow networks need `xavier`: the deviation of the other is fixed, so
            that their tokens depend only weakly on the image at first.
        last_norm: Normalise the tokens after the last block. The authors' probes leave it out unless they are called
            with `--use_cls`; to load a pre-trained encoder without it, set `Init.allow_unexpected: ["norm.*"]`.

    Raises:
        ValueError: If image, patch, width and heads do not fit together, or a value is out of range.
    """

    def __init__(
        self,
        image_size: Union[int, Tuple[int, int]] = 224,
        patch_size: Union[int, Tuple[int, int]] = 16,
        in_channels: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: Optional[float] = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale: Optional[float] = 0.1,
        norm_eps: float = 1e-6,
        pos_embed: Literal["sincos", "sincos_official", "learned", "none"] = "sincos",
        relative_position_bias: Literal["none", "per_block", "shared", "both"] = "none",
        init: Literal["truncated_normal", "xavier"] = "truncated_normal",
        last_norm: bool = True,
    ) -> None:
        super().__init__()
        checks.at_least(1, embed_dim=embed_dim, depth=depth, num_heads=num_heads, in_channels=in_channels)
        checks.above(0, mlp_ratio=mlp_ratio, norm_eps=norm_eps, qk_scale=1 if qk_scale is None else qk_scale)
        checks.share_below_one(drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate)
        if norm_eps > LARGEST_EPS:
            raise ValueError(f"norm_eps must be at most {LARGEST_EPS:g}, which is Paddle's limit, got {norm_eps}")
        image_size, patch_size = to_pair(image_size, "image_size"), to_pair(patch_size, "patch_size")
        self.embed_dim = embed_dim
        self.depth = depth
        self.num_layers = depth + 2
        self.num_prefix_tokens = 1
        self.num_heads = num_heads
        self.drop_rate = drop_rate
        self.position_kind = pos_embed
        self.bias_kind = relative_position_bias
        self.init_kind = init
        self.last_norm = last_norm
        self.block_options: Dict[str, Any] = {  # what the other networks of a method inherit
            "mlp_ratio": mlp_ratio,
            "qkv_bias": qkv_bias,
            "qk_scale": qk_scale,
            "drop_rate": drop_rate,
            "attn_drop_rate": attn_drop_rate,
            "norm_eps": norm_eps,
        }
        self.patch_embed = PatchEmbed(image_size, patch_size, in_channels, embed_dim)
        self.image_size, self.patch_size = self.patch_embed.image_size, self.patch_embed.patch_size
        self.grid_size = self.patch_embed.grid_size
        self.cls_token = self.create_parameter([1, 1, embed_dim])
        self._add_positions(pos_embed)
        grid, shared = self.grid_size, self.bias_kind in ("shared", "both")
        self.relative_position_bias = RelativePositionBias(grid, num_heads) if shared else None
        self.blocks = nn.LayerList(
            [
                Block(
                    embed_dim,
                    num_heads,
                    drop_path_rate=rate,
                    layer_scale=layer_scale,
                    bias_grid=grid if self.bias_kind in ("per_block", "both") else None,
                    **self.block_options,
                )
                for rate in drop_path_ramp(drop_path_rate, depth)
            ]
        )
        self.norm = LayerNorm(embed_dim, epsilon=norm_eps) if last_norm else nn.Identity()
        self._initialize(init)

    def layer_index(self, name: str) -> int:
        """Depth of a parameter, for layer-wise learning rates: 0 embeddings, i + 1 block i, depth + 1 the rest.

        CAE, `optim_factory.get_num_layer_for_vit`.
        """
        if name.startswith(("cls_token", "pos_embed", "patch_embed.")):
            return 0
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return self.depth + 1

    def forward(self, image: paddle.Tensor, visible_index: Optional[paddle.Tensor] = None) -> paddle.Tensor:
        """Encode images, or some of their patches.

        Args:
            image: Float (B, C, H, W), normalized.
            visible_index: Row-major positions of the patches to encode, int64 (B, V); by default all N.

        Returns:
            Tokens, normalized if `last_norm`, the class token first: (B, 1 + N, D) or (B, 1 + V, D).

        Raises:
            ValueError: If the size of the image is not `image_size`, or `visible_index` is given to a model with
                relative position bias.
        """
        return self.norm(self.forward_features(image, visible_index))

    def forward_features(self, image: paddle.Tensor, visible_index: Optional[paddle.Tensor] = None) -> paddle.Tensor:
        """Tokens as in `forward`, before the final normalization."""
        if visible_index is not None and self.bias_kind != "none":
            raise ValueError(
                "a part of the patches cannot be encoded with relative position bias; "
                "set relative_position_bias: none for pre-training"
            )
        tokens = self.patch_embed(image, visible_index)
        cls_token = self.cls_token.expand([tokens.shape[0], 1, self.embed_dim])
        x = paddle.concat([cls_token, tokens], axis=1)  # (B, 1 + V, D)
        if self.pos_embed is not None:
            x = x + self._positions(visible_index)
        if self.drop_rate:
            x = nn.functional.dropout(x, self.drop_rate, training=self.training)
        bias = None if self.relative_position_bias is None else self.relative_position_bias()
        for block in self.blocks:
            x = block(x, bias)
        return x

    def _positions(self, visible_index: Optional[paddle.Tensor]) -> paddle.Tensor:
        """Rows of the position table for the tokens, (1, 1 + N, D) or (B, 1 + V, D)."""
        if visible_index is None:
            return self.pos_embed
        rows = nn.functional.pad(visible_index + 1, [0, 0, 1, 0])  # row 0 is the class token's
        return paddle.gather(self.pos_embed[0], rows.flatten()).reshape([*rows.shape, self.embed_dim])

    def _add_positions(self, kind: str) -> None:
        if kind == "learned":
            self.pos_embed = self.create_parameter([1, 1 + self.patch_embed.num_patches, self.embed_dim])
        elif kind == "none":
            self.pos_embed = None
        else:
            table = sincos_table(self.grid_size, self.embed_dim, official_order=kind == "sincos_official")
            self.register_buffer("pos_embed", table, persistable=False)

    def initialize_embeddings(self) -> None:
        """Draw class token, patch embedding and learned positions as the authors' pre-training does.

        CAE, `modeling_cae_helper.VisionTransformerEncoder`: normal distributions truncated at one standard deviation.
        """
        for parameter in (self.cls_token, self.patch_embed.proj.weight):
            truncated_normal_(parameter, INIT_STD)
        zero_bias_(self.patch_embed.proj)
        if self.position_kind == "learned":
            truncated_normal_(self.pos_embed, INIT_STD)

    def _initialize(self, init: str) -> None:
        linears = [layer for layer in self.sublayers() if isinstance(layer, nn.Linear)]
        if init == "xavier":
            self.initialize_embeddings()
            for layer in (self.patch_embed.proj, *linears):
                xavier_uniform_(layer)
            return
        truncated_normal_(self.cls_token, INIT_STD, WIDE)
        if self.position_kind == "learned":
            truncated_normal_(self.pos_embed, INIT_STD, WIDE)
        uniform_by_inputs_(self.patch_embed.proj)
        for linear in linears:
            truncated_normal_linear_(linear, INIT_STD, WIDE)
        rescale_by_depth_((block.attn.proj, block.mlp.fc2) for block in self.blocks)
