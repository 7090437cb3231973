import paddle
import pytest

from plsc.losses.precision import at_least_float32


@pytest.mark.parametrize("dtype, expected", [("float16", "float32"), ("bfloat16", "float32"), ("float64", "float64")])
def test_at_least_float32(dtype, expected):
    assert at_least_float32(paddle.ones([2]).astype(dtype)).dtype == getattr(paddle, expected)
