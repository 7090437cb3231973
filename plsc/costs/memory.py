"""Activation memory of a forward pass: elements saved for the backward pass, per image.

Computed from the tensors that the operators of `plsc.nn` save; `tests/planning/test_planning.py` compares the results
with measured memory. All residual branches are counted, which is an upper bound on a CPU, where `DropPath` skips some.
"""

from dataclasses import dataclass
from typing import Dict


@dataclass(frozen=True)
class Saved:
    """Number of saved elements, by the rule for their precision.

    Attributes:
        products: Inputs of matmuls and of GELU; 16 bits under mixed precision.
        scales: Inputs of channel scales and drop path; 16 bits if the parameters have 16 bits.
        norms: Inputs and statistics of normalizations, and tensors saved by losses; always 32 bits.
        weights: Attention weights; not saved if attention is one fused kernel.
    """

    products: int = 0
    scales: int = 0
    norms: int = 0
    weights: int = 0

    def __add__(self, other: "Saved") -> "Saved":
        return Saved(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def count(self) -> int:
        """Total number of elements."""
        return self.products + self.scales + self.norms + self.weights


@dataclass(frozen=True)
class Activations:
    """Activation memory of a layer, with and without recomputation.

    Attributes:
        saved: Elements saved by the forward pass.
        inputs: Elements saved if the layer is recomputed in the backward pass; zero if it cannot be.
        passing: Elements held during a forward pass without gradient.
    """

    saved: Saved
    inputs: Saved = Saved()
    passing: Saved = Saved()


ByLayer = Dict[
    str, Activations
]  # name of a layer in the model -> its activation memory, in the order of the forward pass


def norm_saved(tokens: int, dim: int) -> Saved:
    """Elements saved by a layer normalization: input, mean and variance."""
    return Saved(norms=tokens * (dim + 2))


def branch_saved(tokens: int, dim: int, scaled: bool, drop_path: bool, dropout: bool) -> Saved:
    """Elements saved at the end of a residual branch: inputs of scale and drop path, dropout mask (1 byte each)."""
    return Saved(scales=tokens * dim * (int(scaled) + int(drop_path)), norms=tokens * dim // 4 * int(dropout))


def attention_saved(queries: int, keys: int, dim: int, num_heads: int, cross: bool, dropout: bool) -> Saved:
    """Elements saved by attention, from the inputs of the projections to the input of the output projection.

    Self-attention has one input, cross-attention one for each of queries, keys and values.
    """
    inputs = queries + 2 * keys if cross else queries
    heads = queries + 2 * keys
    weights = num_heads * queries * keys
    dropped = weights + weights // 4 if dropout else 0  # the weights after dropout, and the dropout mask
    return Saved(products=(inputs + heads + queries) * dim, weights=weights + dropped)


def mlp_saved(tokens: int, dim: int, hidden: int) -> Saved:
    """Elements saved by an MLP: its input, and the hidden layer before and after GELU."""
    return Saved(products=tokens * (dim + 2 * hidden))
