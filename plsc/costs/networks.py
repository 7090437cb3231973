"""Operations and activation memory of networks, one function per type.

A package that adds a network registers its costs beside it, so that the dry run, `plsc plan` and `plsc benchmark` can
count them:

    from plsc.costs.networks import network_activations, network_flops

    @network_flops.register
    def _(model: MyNetwork, num_masked: int = 0):
        return {"encoder": (encoder_flops(model.encoder), True)}
"""

from functools import singledispatch
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
from paddle import nn

from plsc.costs.flops import block_flops, linear_flops
from plsc.costs.memory import Activations, ByLayer, Saved, attention_saved, branch_saved, mlp_saved, norm_saved
from plsc.errors import PlscError
from plsc.models.cae import CAE, RegressorBlock
from plsc.models.classifier import Classifier
from plsc.models.heads import AttentiveBlock, AttentiveHead, EfficientProbingHead, LinearHead
from plsc.models.linear_grid import LinearGrid
from plsc.models.vit import ViT
from plsc.nn.block import Block
from plsc.tokenizers import dalle
from plsc.tokenizers.dvae import DiscreteVAE, DVAETokenizer
from plsc.tokenizers.pixel import PixelTarget
from plsc.tokenizers.projection import RandomTokenizer

Flops = Dict[str, Tuple[int, bool]]  # part of the network -> operations per image, and True if a backward pass follows


class UnknownCost(PlscError, ValueError):  # noqa: N818 - the name says what is unknown
    """No cost function is registered for the type of a network."""


def _unknown(layer: Any, function: str) -> UnknownCost:
    return UnknownCost(
        f"the costs of {type(layer).__name__} are unknown; register a function for it with "
        f"plsc.costs.networks.{function}, as docs/adding_a_method.md describes"
    )


# Whole networks ------------------------------------------------------------------------------------------------------


@singledispatch
def network_flops(model: nn.Layer, num_masked: int = 0) -> Flops:
    """Count the operations of a forward pass over one image, by part of the network.

    Args:
        model: The network of a task, `task.model`.
        num_masked: Masked patches of an image.

    Returns:
        Operations of each part, and True if a backward pass follows.

    Raises:
        UnknownCost: If no function is registered for the type of `model`.
    """
    raise _unknown(model, "network_flops")


@singledispatch
def network_activations(model: nn.Layer, num_masked: int = 0) -> ByLayer:
    """Count the values that a training step keeps of one image, by layer; the loss is included.

    Args:
        model: The network of a task, `task.model`.
        num_masked: Masked patches of an image.

    Raises:
        UnknownCost: If no function is registered for the type of `model`.
    """
    raise _unknown(model, "network_activations")


@network_flops.register
def _(model: CAE, num_masked: int = 0) -> Flops:
    patches = model.encoder.grid_size[0] * model.encoder.grid_size[1]
    visible, dim = patches - num_masked, model.mask_token.shape[-1]
    hidden = int(dim * model.encoder.block_options["mlp_ratio"])
    project = 0 if model.encoder_to_decoder is None else linear_flops(1, model.encoder.embed_dim, dim)
    regressor = len(model.regressor.blocks) * block_flops(num_masked, patches, dim, hidden)
    decoder = len(model.decoder.blocks) * block_flops(num_masked, num_masked, dim, hidden)
    return {
        "encoder": (encoder_flops(model.encoder, visible) + (visible + 1) * project, True),
        "teacher": (encoder_flops(model.encoder, num_masked) + (num_masked + 1) * project, False),
        "regressor": (regressor, True),
        "decoder": (decoder + linear_flops(num_masked, dim, model.vocab_size), True),
    }


@network_activations.register
def _(model: CAE, num_masked: int = 0) -> ByLayer:
    patches = model.encoder.grid_size[0] * model.encoder.grid_size[1]
    visible, dim = patches - num_masked, model.mask_token.shape[-1]
    by_layer = {f"encoder.{name}": kept for name, kept in encoder_activations(model.encoder, visible).items()}
    if model.encoder_to_decoder is not None:
        inputs = Saved(products=(visible + 1) * model.encoder.embed_dim)
        by_layer["encoder_to_decoder"] = Activations(inputs + norm_saved(visible + 1, dim))
    for i, block in enumerate(model.regressor.blocks):
        by_layer[f"regressor.blocks.{i}"] = layer_activations(block, num_masked, patches)
    by_layer["regressor.norm"] = Activations(norm_saved(num_masked, dim))
    for i, block in enumerate(model.decoder.blocks):
        by_layer[f"decoder.blocks.{i}"] = layer_activations(block, num_masked)
    by_layer["decoder.norm"] = Activations(norm_saved(num_masked, dim))
    by_layer["head"] = Activations(Saved(products=num_masked * dim))
    # the softmax of the logits, and the difference of predicted and target latents
    by_layer["loss"] = Activations(Saved(norms=num_masked * (model.vocab_size + dim)))
    return by_layer


@network_flops.register
def _(model: Classifier, num_masked: int = 0) -> Flops:
    head = linear_flops(1, model.encoder.embed_dim, model.head.num_classes)
    return {"encoder": (encoder_flops(model.encoder), not model.freeze_encoder), "head": (head, True)}


@network_activations.register
def _(model: Classifier, num_masked: int = 0) -> ByLayer:
    by_layer = {f"encoder.{name}": kept for name, kept in encoder_activations(model.encoder).items()}
    if model.freeze_encoder:
        by_layer = _without_gradient(by_layer)
    elif model.pooling in ("cls", "mean") and model.encoder.last_norm:
        by_layer["encoder.norm"] = Activations(norm_saved(1, model.encoder.embed_dim))
    return {**by_layer, "head": layer_activations(model.head, 1 + int(np.prod(model.encoder.grid_size)))}


@network_flops.register
def _(model: LinearGrid, num_masked: int = 0) -> Flops:
    heads = sum(linear_flops(1, head.in_features, model.num_classes) for head in model.heads)
    return {"encoder": (encoder_flops(model.encoder), False), "heads": (heads, True)}


@network_activations.register
def _(model: LinearGrid, num_masked: int = 0) -> ByLayer:
    by_layer = {f"encoder.{name}": kept for name, kept in encoder_activations(model.encoder).items()}
    heads = {f"heads.{number}": layer_activations(head, 1) for number, head in enumerate(model.heads)}
    return {**_without_gradient(by_layer), **heads}


@network_flops.register
def _(model: DiscreteVAE, num_masked: int = 0) -> Flops:
    tokens = model.grid_size[0] * model.grid_size[1]
    sizes = {"encoder": model.encoder, "codebook": model.codebook, "decoder": model.decoder}
    return {
        name: (sum(2 * tokens * int(np.prod(p.shape)) for p in part.parameters() if p.ndim > 1), True)
        for name, part in sizes.items()
    }


def _without_gradient(by_layer: ByLayer) -> ByLayer:
    return {name: Activations(Saved(), passing=kept.saved) for name, kept in by_layer.items()}


# Encoders ------------------------------------------------------------------------------------------------------------


@singledispatch
def encoder_flops(encoder: nn.Layer, num_patches: Optional[int] = None) -> int:
    """Count the operations of a forward pass over `num_patches` patches of one image; all patches by default.

    Raises:
        UnknownCost: If no function is registered for the type of `encoder`.
    """
    raise _unknown(encoder, "encoder_flops")


@singledispatch
def encoder_activations(encoder: nn.Layer, num_patches: Optional[int] = None) -> ByLayer:
    """Count the values that a training step keeps of `num_patches` patches of one image, by layer; all by default.

    Raises:
        UnknownCost: If no function is registered for the type of `encoder`.
    """
    raise _unknown(encoder, "encoder_activations")


@encoder_flops.register
def _(encoder: ViT, num_patches: Optional[int] = None) -> int:
    patches = encoder.patch_embed.num_patches if num_patches is None else num_patches
    pixels = encoder.patch_size[0] * encoder.patch_size[1] * encoder.patch_embed.in_channels
    dim, hidden = encoder.embed_dim, int(encoder.embed_dim * encoder.block_options["mlp_ratio"])
    blocks = encoder.depth * block_flops(patches + 1, patches + 1, dim, hidden)
    return linear_flops(patches, pixels, dim) + blocks


@encoder_activations.register
def _(encoder: ViT, num_patches: Optional[int] = None) -> ByLayer:
    patches = encoder.patch_embed.num_patches if num_patches is None else num_patches
    pixels = encoder.patch_size[0] * encoder.patch_size[1] * encoder.patch_embed.in_channels
    dropped = (patches + 1) * encoder.embed_dim // 4 if encoder.drop_rate else 0  # the mask, one byte per value
    by_layer = {"patch_embed": Activations(Saved(products=patches * pixels, norms=dropped))}
    by_layer.update({f"blocks.{i}": layer_activations(block, patches + 1) for i, block in enumerate(encoder.blocks)})
    norm = {"norm": Activations(norm_saved(patches + 1, encoder.embed_dim))} if encoder.last_norm else {}
    return {**by_layer, **norm}


# Blocks and heads ----------------------------------------------------------------------------------------------------


@singledispatch
def layer_activations(layer: nn.Layer, tokens: int, keys: Optional[int] = None) -> Activations:
    """Count the values that a training step keeps of `tokens` tokens, with the loss for heads.

    Args:
        layer: A block or a head.
        tokens: Tokens of one image; the queries of a cross-attention block.
        keys: Keys and values of a cross-attention block.

    Raises:
        UnknownCost: If no function is registered for the type of `layer`.
    """
    raise _unknown(layer, "layer_activations")


@layer_activations.register
def _(layer: Block, tokens: int, keys: Optional[int] = None) -> Activations:
    dim, heads = layer.norm1.weight.shape[0], layer.attn.num_heads
    scaled, drop_path, dropout = layer.gamma_1 is not None, layer.drop_path.rate > 0, layer.mlp.drop_rate > 0
    saved = norm_saved(tokens, dim) + attention_saved(
        tokens, tokens, dim, heads, cross=False, dropout=layer.attn.attn_drop_rate > 0
    )
    saved += norm_saved(tokens, dim) + mlp_saved(tokens, dim, layer.mlp.fc1.weight.shape[1])
    for _ in range(2):
        saved += branch_saved(tokens, dim, scaled, drop_path, dropout)
    return Activations(saved, Saved(norms=tokens * dim))


@layer_activations.register
def _(layer: RegressorBlock, tokens: int, keys: Optional[int] = None) -> Activations:
    keys = tokens if keys is None else keys
    dim, heads = layer.norm1_q.weight.shape[0], layer.cross_attn.num_heads
    dropout = layer.mlp.drop_rate > 0
    saved = norm_saved(tokens, dim) + norm_saved(keys, dim) + norm_saved(keys, dim)
    saved += attention_saved(tokens, keys, dim, heads, cross=True, dropout=layer.cross_attn.attn_drop_rate > 0)
    saved += norm_saved(tokens, dim) + mlp_saved(tokens, dim, layer.mlp.fc1.weight.shape[1])
    for _ in range(2):
        saved += branch_saved(tokens, dim, scaled=True, drop_path=layer.drop_path.rate > 0, dropout=dropout)
    return Activations(saved, Saved(norms=(tokens + keys) * dim))


@layer_activations.register
def _(layer: LinearHead, tokens: int, keys: Optional[int] = None) -> Activations:
    return Activations(Saved(products=layer.in_features, norms=layer.num_classes))


@layer_activations.register
def _(layer: AttentiveHead, tokens: int, keys: Optional[int] = None) -> Activations:
    saved = Saved(products=layer.in_features, norms=2 * layer.in_features + layer.num_classes)
    if not layer.blocks[0].parameter_free:
        saved += Saved(norms=tokens * layer.in_features)  # shared by the normalizations of all blocks
    for block in layer.blocks:
        saved += layer_activations(block, tokens).saved
    return Activations(saved)


@layer_activations.register
def _(layer: AttentiveBlock, tokens: int, keys: Optional[int] = None) -> Activations:
    dim, heads = layer.dim, layer.cross_attn.num_heads
    if layer.parameter_free:  # only the query is trained
        return Activations(Saved(products=(2 * tokens + 2) * dim, weights=heads * tokens))
    attention = attention_saved(1, tokens, dim, heads, cross=True, dropout=False)
    return Activations(attention + norm_saved(1, dim) + Saved(norms=4 * tokens))


@layer_activations.register
def _(layer: EfficientProbingHead, tokens: int, keys: Optional[int] = None) -> Activations:
    width, seen = layer.linear.weight.shape[0], tokens if layer.with_cls_token else tokens - 1
    products = (seen + layer.num_queries) * layer.in_features + width
    return Activations(Saved(products=products, norms=2 * width + layer.num_classes, weights=layer.num_queries * seen))


# Tokenizers ----------------------------------------------------------------------------------------------------------

TargetCost = Tuple[int, int, int]  # operations per image, values held at once, values of the weights
_TARGETS: Dict[type, Callable[[Tuple[int, int]], TargetCost]] = {}


def register_target_cost(tokenizer: type) -> Callable[[Callable[[Tuple[int, int]], TargetCost]], Any]:
    """Register a function from the token grid to the costs of a tokenizer class.

    The class is enough, because planning must not need the tokenizer's weights.
    """

    def keep(function: Callable[[Tuple[int, int]], TargetCost]) -> Callable[[Tuple[int, int]], TargetCost]:
        _TARGETS[tokenizer] = function
        return function

    return keep


def target_cost(tokenizer: type, grid: Tuple[int, int]) -> TargetCost:
    """Return the costs of a tokenizer class for one image.

    Args:
        tokenizer: Class of the tokenizer.
        grid: Rows and columns of tokens.

    Raises:
        UnknownCost: If no function is registered for the class.
    """
    if tokenizer not in _TARGETS:
        raise UnknownCost(
            f"the costs of the tokenizer {tokenizer.__name__} are unknown; register a function for it with "
            "plsc.costs.networks.register_target_cost"
        )
    return _TARGETS[tokenizer](grid)


@register_target_cost(PixelTarget)
@register_target_cost(RandomTokenizer)
@register_target_cost(DVAETokenizer)
def _negligible(grid: Tuple[int, int]) -> TargetCost:
    """No costs: pixels, one random projection, or a few small convolutions on the grid of tokens."""
    return 0, 0, 0


@register_target_cost(dalle.DalleTokenizer)
def _dalle(grid: Tuple[int, int]) -> TargetCost:
    """Costs of the published network."""
    tokens, width = grid[0] * grid[1], dalle.HIDDEN
    total = 3 * 49 * dalle.HIDDEN
    operations = 2 * 64 * tokens * total
    for number in range(dalle.GROUPS):
        pixels, inputs = tokens * 64 // 4**number, dalle.HIDDEN if number == 0 else width // 2
        for entry in (inputs, *[width] * (dalle.BLOCKS - 1)):
            hidden = width // 4
            weights = 9 * hidden * (entry + 2 * hidden) + hidden * width + (entry * width if entry != width else 0)
            operations += 2 * pixels * weights
            total += weights
        width *= 2
    last = 8 * dalle.HIDDEN * dalle.VOCAB
    held = 3 * 64 * tokens * dalle.HIDDEN  # input, branch and sum of a block of the first group
    return operations + 2 * tokens * last, held, total + last
