"""Floating-point operations of a forward pass, from sizes; a multiply-add counts as two.

Only matmuls are counted, as is usual; normalizations, softmax and activations add a few percent.
"""


def linear_flops(tokens: int, inputs: int, outputs: int) -> int:
    """Operations of a linear layer over `tokens` vectors."""
    return 2 * tokens * inputs * outputs


def attention_flops(queries: int, keys: int, dim: int) -> int:
    """Operations of attention: projections of queries, keys, values and output, scores and weighted sum."""
    projections = 2 * linear_flops(queries, dim, dim) + 2 * linear_flops(keys, dim, dim)
    return projections + 2 * linear_flops(queries, dim, keys)


def block_flops(queries: int, keys: int, dim: int, hidden: int) -> int:
    """Operations of a transformer block: attention and a two-layer MLP on the queries."""
    return attention_flops(queries, keys, dim) + 2 * linear_flops(queries, dim, hidden)
