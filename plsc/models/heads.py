"""Classification heads on top of an encoder."""

from typing import Optional, Tuple

import paddle
from paddle import nn
from paddle.nn import functional as F

from plsc import checks
from plsc.config.registry import MODELS
from plsc.nn.attention import CrossAttention, check_heads, split_heads
from plsc.nn.batch_norm import FeatureBatchNorm
from plsc.nn.functional import LayerNorm, Linear, attend
from plsc.nn.init import WIDE, truncated_normal_, zero_bias_


class Head(nn.Layer):
    """A classifier on features of an encoder.

    Attributes:
        in_features: Width D of the features.
        num_classes: Number of classes C of the logits (B, C).
        takes_tokens: True: it takes all tokens (B, prefix + N, D). False: it takes pooled features (B, D).
    """

    _required: Tuple[str, ...] = ("in_features", "num_classes", "forward")

    in_features: int
    num_classes: int
    takes_tokens: bool = False

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        """Features (B, D), or tokens (B, prefix + N, D) -> logits (B, C)."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(features)")


@MODELS.register()
class LinearHead(Head):
    """Linear classifier, with optional batch normalization of the features for linear probes.

    CAE, `run_class_finetuning` and `run_linear`; MAE, arXiv 2111.06377, appendix A.1.

    Args:
        in_features: Width D of the features.
        num_classes: Number of classes C.
        init_std: Standard deviation of the initial weights.
        init_scale: Factor of the initial weights.
        batch_norm: Normalize the features over the batch, without learned scale and shift.
        batch_norm_eps: Added to the variance in that normalization.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        init_std: float = 0.02,
        init_scale: float = 1.0,
        batch_norm: bool = False,
        batch_norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        checks.at_least(1, in_features=in_features, num_classes=num_classes)
        checks.above(0, init_std=init_std, init_scale=init_scale, batch_norm_eps=batch_norm_eps)
        self.in_features = in_features
        self.num_classes = num_classes
        self.batch_norm = FeatureBatchNorm(in_features, batch_norm_eps) if batch_norm else None
        self.linear = Linear(in_features, num_classes)
        _initialize(self.linear, init_std, init_scale)

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        """(B, D) -> logits (B, C)."""
        if self.batch_norm is not None:
            features = self.batch_norm(features)
        return self.linear(features)


class AttentiveBlock(nn.Layer):
    """Normalized cross-attention without residual connection or MLP.

    Args:
        dim: Width D.
        num_heads: Attention heads.
        qkv_bias: Add a bias to queries and values.
        qk_scale: Factor of the queries; by default (D / heads) ** -0.5.
        norm_eps: Added to the variance in normalizations.
        parameter_free: Attend without projections, and normalize without learned scale and shift.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: Optional[float] = None,
        norm_eps: float = 1e-6,
        parameter_free: bool = False,
    ) -> None:
        super().__init__()
        if qk_scale is not None:
            checks.above(0, qk_scale=qk_scale)
        self.dim = dim
        self.parameter_free = parameter_free
        affine = False if parameter_free else None  # False: no parameter; None: Paddle's default
        self.norm1_q, self.norm1_k, self.norm1_v = (
            LayerNorm(dim, epsilon=norm_eps, weight_attr=affine, bias_attr=affine) for _ in range(3)
        )
        attention = ProjectionFreeAttention if parameter_free else CrossAttention
        self.cross_attn = attention(dim, num_heads, qkv_bias, qk_scale)

    def forward(self, query: paddle.Tensor, tokens: paddle.Tensor) -> paddle.Tensor:
        """Queries (B, 1, D) and tokens (B, N, D) -> (B, 1, D)."""
        return self.cross_attn(self.norm1_q(query), self.norm1_k(tokens), self.norm1_v(tokens))


class ProjectionFreeAttention(nn.Layer):
    """Multi-head cross-attention without projections; takes the arguments of `CrossAttention`."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True, qk_scale: Optional[float] = None) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5

    def forward(self, q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor) -> paddle.Tensor:
        """Queries (B, N, D), keys and values (B, M, D) -> (B, N, D)."""
        q, k, v = (split_heads(x, self.num_heads) for x in (q, k, v))
        return attend(q, k, v, self.scale)


@MODELS.register()
class AttentiveHead(Head):
    """Classifier that attends to all tokens with a learned query, for attentive probes.

    CAE, section 4.2 and `modeling_finetune.VisionTransformer(linear_type="attentive")`. The reference evaluates with
    the statistics of the batch, PLSC keeps query and attention frozen; here they are trained, and evaluation uses
    the running statistics.

    Args:
        in_features: Width D of the tokens.
        num_classes: Number of classes C.
        num_heads: Attention heads; D must be a multiple.
        depth: Blocks of cross-attention that the query passes through.
        qkv_bias: Add a bias to queries and values.
        qk_scale: Factor of the queries; by default (D / heads) ** -0.5.
        norm_eps: Added to the variance in layer normalizations.
        batch_norm_eps: Added to the variance in batch normalization; PLSC uses 1e-6.
        parameter_free: Attend without projections and learned normalization, so that only the query and the
            linear layer are learned (PLSC's `attentive_no_parameter`).
        init_std: Standard deviation of the initial weights.
        init_scale: Factor of the initial weights of the linear layer.

    Raises:
        ValueError: If a number is not positive, or the heads do not divide D.
    """

    takes_tokens = True

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        num_heads: int = 12,
        depth: int = 1,
        qkv_bias: bool = True,
        qk_scale: Optional[float] = None,
        norm_eps: float = 1e-6,
        batch_norm_eps: float = 1e-5,
        parameter_free: bool = False,
        init_std: float = 0.02,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        checks.at_least(1, in_features=in_features, num_classes=num_classes, depth=depth)
        checks.above(0, norm_eps=norm_eps, init_std=init_std, init_scale=init_scale, batch_norm_eps=batch_norm_eps)
        self.in_features = in_features
        self.num_classes = num_classes
        zeros = nn.initializer.Constant(0.0)
        self.query_token = self.create_parameter([1, 1, in_features], default_initializer=zeros)
        if parameter_free:  # a query of zeros would attend to all tokens equally
            truncated_normal_(self.query_token, init_std, limit=WIDE)
        self.blocks = nn.LayerList(
            [AttentiveBlock(in_features, num_heads, qkv_bias, qk_scale, norm_eps, parameter_free) for _ in range(depth)]
        )
        self.batch_norm = FeatureBatchNorm(in_features, batch_norm_eps)
        self.linear = Linear(in_features, num_classes)
        for layer in self.sublayers():
            if isinstance(layer, nn.Linear):
                _initialize(layer, init_std, init_scale if layer is self.linear else 1.0)

    def forward(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """(B, N, D) -> logits (B, C)."""
        return self.linear(self.batch_norm(self.forward_features(tokens)))

    def forward_features(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """(B, N, D) -> output of the query, (B, D)."""
        query = self.query_token.expand([tokens.shape[0], 1, self.in_features])
        for block in self.blocks:
            query = block(query, tokens)
        return query.squeeze(1)


@MODELS.register()
class EfficientProbingHead(Head):
    """Classifier that attends to the patch tokens with several learned queries, for probes with few parameters.

    Efficient probing, arXiv 2506.10178, section 3: the tokens themselves are the keys, only the values are projected,
    and each query gathers a part of the channels of the values. Batch normalization without learned scale and shift
    and a linear layer follow, as in the authors' code.

    Args:
        in_features: Width D of the tokens.
        num_classes: Number of classes C.
        num_queries: Queries Q; the values' width must be a multiple.
        out_features: Width of the values and of the input of the linear layer; by default D.
        with_cls_token: Attend to the class token as well; the authors do for encoders whose pre-training has used it.
        batch_norm_eps: Added to the variance in batch normalization.
        init_std: Standard deviation of the initial weights and queries.
        init_scale: Factor of the initial weights of the linear layer.

    Raises:
        ValueError: If a number is not positive, or the queries do not divide the values' width.
    """

    takes_tokens = True

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        num_queries: int = 32,
        out_features: Optional[int] = None,
        with_cls_token: bool = False,
        batch_norm_eps: float = 1e-6,
        init_std: float = 0.02,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        width = in_features if out_features is None else out_features
        checks.at_least(1, in_features=in_features, num_classes=num_classes)
        checks.at_least(1, num_queries=num_queries, out_features=width)
        checks.above(0, init_std=init_std, init_scale=init_scale, batch_norm_eps=batch_norm_eps)
        if width % num_queries:
            raise ValueError(
                f"{width} channels of values do not divide into {num_queries} queries; "
                "set num_queries or out_features so that they do"
            )
        self.in_features = in_features
        self.num_classes = num_classes
        self.num_queries = num_queries
        self.with_cls_token = with_cls_token
        self.query_tokens = self.create_parameter([in_features, num_queries])
        truncated_normal_(self.query_tokens, init_std, limit=WIDE)
        self.value = nn.Linear(in_features, width, bias_attr=False)
        truncated_normal_(self.value.weight, init_std, limit=WIDE)
        self.batch_norm = FeatureBatchNorm(width, batch_norm_eps)
        self.linear = Linear(width, num_classes)
        _initialize(self.linear, init_std, init_scale)

    def forward(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """(B, 1 + N, D), the class token first -> logits (B, C)."""
        return self.linear(self.batch_norm(self.forward_features(tokens)))

    def forward_features(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """(B, 1 + N, D) -> concatenated outputs of the queries, (B, out_features)."""
        tokens = tokens if self.with_cls_token else tokens[:, 1:].contiguous()
        # Gathering before projecting gives the same result with a twentieth of the operations.
        gathered = paddle.matmul(self.attention(tokens), tokens).transpose([1, 0, 2])  # (Q, B, D)
        weight = self.value.weight.reshape([self.in_features, self.num_queries, -1]).transpose([1, 0, 2])
        return paddle.matmul(gathered, weight).transpose([1, 0, 2]).flatten(1)

    def attention(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """Attention weights of the queries: tokens (B, N, D) -> (B, Q, N), with sum 1 over N."""
        scores = paddle.matmul(tokens, self.query_tokens) * self.in_features**-0.5  # (B, N, Q)
        return F.softmax(scores.transpose([0, 2, 1]), axis=-1)


def _initialize(linear: nn.Linear, std: float, scale: float) -> None:
    truncated_normal_(linear.weight, std * scale, limit=WIDE * scale)
    zero_bias_(linear)
