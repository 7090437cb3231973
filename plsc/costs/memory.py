"""Values that a forward pass keeps for the backward pass, from sizes.

The values that the operators of `plsc.nn` keep are counted; `tests/planning/test_planning.py` compares the result with
measured memory. All counts are for one image whose branches are all kept, an upper bound on a CPU, where `DropPath`
skips the others.
"""

from dataclasses import dataclass
from typing import Dict


@dataclass(frozen=True)
class Saved:
    """Counts of kept values, grouped by their width in bits.

    Attributes:
        products: Inputs of matmuls and of GELU: 16 bits with mixed precision.
        scales: Inputs of channel scales and dropped paths: 16 bits if the parameters have 16 bits.
        norms: Inputs and statistics of normalizations, and values kept by losses: always 32 bits.
        weights: Attention weights: not kept if one kernel computes attention.
    """

    products: int = 0
    scales: int = 0
    norms: int = 0
    weights: int = 0

    def __add__(self, other: "Saved") -> "Saved":
        return Saved(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def count(self) -> int:
        """Number of all values."""
        return self.products + self.scales + self.norms + self.weights


@dataclass(frozen=True)
class Activations:
    """Values that a layer keeps, with and without recomputation in the backward pass.

    Attributes:
        saved: Values kept by the forward pass.
        inputs: Values kept if the layer is recomputed; none if it cannot be recomputed.
        passing: Values held during the forward pass of a layer without gradient.
    """

    saved: Saved
    inputs: Saved = Saved()
    passing: Saved = Saved()


ByLayer = Dict[str, Activations]  # name of a layer in the model -> its kept values, in the order of the forward pass


def norm_saved(tokens: int, dim: int) -> Saved:
    """Values kept by a layer normalization: its input, mean and variance."""
    return Saved(norms=tokens * (dim + 2))


def branch_saved(tokens: int, dim: int, scaled: bool, drop_path: bool, dropout: bool) -> Saved:
    """Values kept at the end of a residual branch: inputs of scale and drop path, a dropout mask of bytes."""
    return Saved(scales=tokens * dim * (int(scaled) + int(drop_path)), norms=tokens * dim // 4 * int(dropout))


def attention_saved(queries: int, keys: int, dim: int, num_heads: int, cross: bool, dropout: bool) -> Saved:
    """Values kept by attention with its projections: their inputs, heads and attention weights.

    Self-attention projects one input, cross-attention has one for each of queries, keys and values.
    """
    inputs = queries + 2 * keys if cross else queries
    heads = queries + 2 * keys
    weights = num_heads * queries * keys
    dropped = weights + weights // 4 if dropout else 0  # the weights after dropout, and its mask
    return Saved(products=(inputs + heads + queries) * dim, weights=weights + dropped)


def mlp_saved(tokens: int, dim: int, hidden: int) -> Saved:
    """Values kept by an MLP: its input, and its hidden layer before and after GELU."""
    return Saved(products=tokens * (dim + 2 * hidden))
