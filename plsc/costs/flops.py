"""Floating-point operations of a forward pass, from sizes; a multiply-add counts as two.

Only products are counted, as is usual; normalisations, softmax and activations are a few percent of them.
"""


def linear_flops(tokens: int, inputs: int, outputs: int) -> int:
    """A Linear over `tokens` vectors."""
    return 2 * tokens * inputs * outputs


def attention_flops(queries: int, keys: int, dim: int) -> int:
    """Projections of queries, keys, values and output, scores and weighted sum."""
    projections = 2 * linear_flops(queries, dim, dim) + 2 * linear_flops(keys, dim, dim)
    return projections + 2 * linear_flops(queries, dim, keys)


def block_flops(queries: int, keys: int, dim: int, hidden: int) -> int:
    """A transformer block: attention and a two-layer MLP on the queries."""
    return attention_flops(queries, keys, dim) + 2 * linear_flops(queries, dim, hidden)
