"""What losses share."""

import paddle


def at_least_float32(x: paddle.Tensor) -> paddle.Tensor:
    """Half precision becomes float32; float64 stays."""
    return x if x.dtype in (paddle.float32, paddle.float64) else x.astype(paddle.float32)
