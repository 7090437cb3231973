"""Numbers that a forward pass keeps for the backward pass, from sizes.

Counted from what the operators of `plsc.nn` keep; `tests/planning/test_planning.py` compares it with the memory that is
measured. Everything is for one image whose branches are all kept: an upper bound on a CPU, where `DropPath` computes no
others.
"""

from dataclasses import dataclass
from typing import Dict


@dataclass(frozen=True)
class Saved:
    """Kept numbers, by what decides about their width.

    Attributes:
        products: Inputs of products and of GELU: 16 bits with mixed precision.
        scales: Inputs of channel scales and dropped paths: 16 bits if the parameters are.
        norms: Inputs and statistics of normalisations, and what losses keep: always 32 bits.
        weights: Attention weights: not kept at all where one kernel computes attention.
    """

    products: int = 0
    scales: int = 0
    norms: int = 0
    weights: int = 0

    def __add__(self, other: "Saved") -> "Saved":
        return Saved(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def count(self) -> int:
        """All of them."""
        return self.products + self.scales + self.norms + self.weights


@dataclass(frozen=True)
class Activations:
    """What a layer keeps, or what it keeps instead if it is computed again in the backward pass.

    Attributes:
        saved: Kept by the forward pass.
        inputs: Kept if the layer is recomputed; nothing if it cannot be.
        passing: Held while it is computed, if that is without gradient.
    """

    saved: Saved
    inputs: Saved = Saved()
    passing: Saved = Saved()


ByLayer = Dict[str, Activations]  # name of a layer in the model -> what it keeps, in the order of the forward pass


def norm_saved(tokens: int, dim: int) -> Saved:
    """A layer normalisation: its input, mean and variance."""
    return Saved(norms=tokens * (dim + 2))


def branch_saved(tokens: int, dim: int, scaled: bool, drop_path: bool, dropout: bool) -> Saved:
    """The end of a residual branch: inputs of scale and dropped path, the mask of a dropout (a byte a number)."""
    return Saved(scales=tokens * dim * (int(scaled) + int(drop_path)), norms=tokens * dim // 4 * int(dropout))


def attention_saved(queries: int, keys: int, dim: int, num_heads: int, cross: bool, dropout: bool) -> Saved:
    """Attention with its projections, from their inputs to that of the output's.

    Self-attention projects one input, cross-attention has one for each of queries, keys and values.
    """
    inputs = queries + 2 * keys if cross else queries
    heads = queries + 2 * keys
    weights = num_heads * queries * keys
    dropped = weights + weights // 4 if dropout else 0  # the weights after dropout, and its mask
    return Saved(products=(inputs + heads + queries) * dim, weights=weights + dropped)


def mlp_saved(tokens: int, dim: int, hidden: int) -> Saved:
    """A perceptron: its input, and its hidden layer before and after GELU."""
    return Saved(products=tokens * (dim + 2 * hidden))
