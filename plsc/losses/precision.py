"""Precision of losses."""

import paddle


def at_least_float32(x: paddle.Tensor) -> paddle.Tensor:
    """Cast half precision to float32; float64 is not changed."""
    return x if x.dtype in (paddle.float32, paddle.float64) else x.astype(paddle.float32)
