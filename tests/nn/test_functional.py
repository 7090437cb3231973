"""The fast CPU functions against Paddle's operators, in float64."""

import itertools

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from plsc.nn.functional import LayerNorm, Linear, attend, linear, project_heads, scale_channels
from plsc.nn.functional import _attend_fused as attend_fused
from plsc.nn.functional import _has_flash_attention as has_flash_attention


def draw(*shape, scale=1.0):
    return scale * np.random.default_rng(sum(shape)).normal(size=shape)


def native_heads(x, weight, *biases):
    parts = F.linear(x, weight).split(3, axis=-1)
    if biases:
        parts = parts[0] + biases[0], parts[1], parts[2] + biases[1]
    return tuple(part.reshape([*x.shape[:2], 3, -1]).transpose([0, 2, 1, 3]) for part in parts)


def native_attend(q, k, v, *bias):
    scores = paddle.matmul(q * 0.3, k, transpose_y=True)
    weights = F.softmax(scores + bias[0] if bias else scores, axis=-1)
    return paddle.matmul(weights, v).transpose([0, 2, 1, 3]).flatten(2)


def layer_norm(x, weight, bias):
    layer = LayerNorm(x.shape[-1], epsilon=1e-6)
    del layer.weight, layer.bias
    layer.weight, layer.bias = weight, bias
    return layer(x)


def native_layer_norm(x, weight, bias):
    return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-6)


def heads(x, weight, *biases):
    return project_heads(x, weight, *(biases or (None, None)), num_heads=3)


def attention(q, k, v, *bias):
    return attend(q, k, v, 0.3, *bias)


HEADS = ((2, 5, 6), (6, 18), (6,), (6,))
ATTENTION = ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4), (3, 5, 7))
CASES = {
    "linear": (linear, F.linear, ((2, 5, 6), (6, 4), (4,))),
    "linear, no bias": (linear, F.linear, ((2, 5, 6), (6, 4))),
    "linear, two axes": (linear, F.linear, ((5, 6), (6, 4), (4,))),
    "scale": (scale_channels, lambda x, scale: x * scale, ((2, 5, 6), (6,))),
    "layer norm": (layer_norm, native_layer_norm, ((2, 5, 6), (6,), (6,))),
    "heads": (heads, native_heads, HEADS),
    "heads, no bias": (heads, native_heads, HEADS[:2]),
    "attention": (attention, native_attend, ATTENTION[:3]),
    "attention, bias": (attention, native_attend, ATTENTION),
}
LEARNING = [
    (name, learns)
    for name, (_, _, shapes) in CASES.items()
    for learns in itertools.product([True, False], repeat=len(shapes))
    if any(learns)
]


def run(function, shapes, learns):
    """Return the outputs of a function, and the gradients of the inputs that need one."""
    inputs = [paddle.to_tensor(draw(*shape)) for shape in shapes]
    for tensor, learning in zip(inputs, learns):
        tensor.stop_gradient = not learning
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert any(not y.stop_gradient for y in outputs) == any(learns)
    if any(learns):
        sum((y * paddle.to_tensor(draw(*y.shape))).sum() for y in outputs).backward()
    return [y.numpy() for y in outputs], [None if t.grad is None else t.grad.numpy() for t in inputs]


@pytest.mark.parametrize(("name", "learns"), LEARNING)
def test_values_and_gradients_for_any_trained_inputs(name, learns):
    fast, native, shapes = CASES[name]
    values, gradients = run(fast, shapes, learns)
    expected, expected_gradients = run(native, shapes, learns)
    assert [g is not None for g in gradients] == list(learns)
    for actual, wanted in zip([*values, *gradients], [*expected, *expected_gradients]):
        if wanted is not None:
            np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_values_without_gradients(name):
    fast, native, shapes = CASES[name]
    nothing = [False] * len(shapes)
    for actual, wanted in zip(run(fast, shapes, nothing)[0], run(native, shapes, nothing)[0]):
        np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-12)
    with paddle.no_grad():
        frozen = run(fast, shapes, nothing)[0]
    np.testing.assert_array_equal(frozen[0], run(fast, shapes, nothing)[0][0])


@pytest.mark.parametrize("size", [1e-3, 1.0, 10.0, 100.0, 1000.0])
@pytest.mark.parametrize("shift", [0.0, -300.0, 300.0])
def test_scores_of_any_size(size, shift):
    """Scores are shifted if their exponentials would over- or underflow."""
    q, k, v = (paddle.to_tensor(draw(*shape, scale=size).astype("float32")) for shape in ATTENTION[:3])
    bias = paddle.full([3, 5, 7], shift)
    actual = attend(q, k, v / size, 0.3, bias).numpy()
    wanted = native_attend(*(t.astype("float64") for t in (q, k, v / size)), bias.astype("float64")).numpy()
    assert np.isfinite(actual).all()
    tolerance = 2e-3 if size > 10 else 1e-5  # scores of 1e6 have few decimal places in float32
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance)


def test_one_row_out_of_range_among_others():
    q, k, v = (paddle.to_tensor(draw(*shape).astype("float32")) for shape in ATTENTION[:3])
    bias = np.zeros((3, 5, 7), np.float32)
    bias[1, 2] = -200.0
    actual = attend(q, k, v, 0.3, paddle.to_tensor(bias)).numpy()
    np.testing.assert_allclose(actual, attend(q, k, v, 0.3).numpy(), atol=1e-5)


def test_nan_is_kept():
    q, k, v = (paddle.to_tensor(draw(*shape).astype("float32")) for shape in ATTENTION[:3])
    q[0, 0, 0, 0] = float("nan")
    y = attend(q, k, v, 0.3).numpy()
    assert np.isnan(y[0, 0, :4]).all()
    assert np.isfinite(y[1]).all()


def test_a_mask_of_minus_infinity_hides():
    q, k, v = (paddle.to_tensor(draw(*shape)) for shape in ATTENTION[:3])
    bias = np.zeros((3, 5, 7))
    bias[..., 5:] = -np.inf
    hidden = attend(q, k, v, 0.3, paddle.to_tensor(bias)).numpy()
    np.testing.assert_allclose(hidden, attend(q, k[:, :, :5], v[:, :, :5], 0.3).numpy(), atol=1e-12)


def test_layers_have_the_names_and_state_of_paddles():
    ours, native = Linear(6, 4), paddle.nn.Linear(6, 4)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in native.state_dict().items()}
    x = paddle.randn([3, 6])
    native.set_state_dict(ours.state_dict())
    np.testing.assert_allclose(ours(x).numpy(), native(x).numpy(), atol=1e-6)
    free = LayerNorm(6, weight_attr=False, bias_attr=False)
    np.testing.assert_allclose(free(x).numpy(), F.layer_norm(x, [6]).numpy(), atol=1e-6)


@pytest.mark.parametrize("cross", [False, True])
def test_one_kernel_computes_the_same_attention(cross):
    """Used on GPUs only, but available on every device."""
    values = [draw(2, 3, n, 8) for n in (5, 7 if cross else 5, 7 if cross else 5)]
    outcomes = []
    for function in (lambda *qkv: attend_fused(*qkv, 0.3, 0.0), native_attend):
        inputs = [paddle.to_tensor(value, dtype="float32", stop_gradient=False) for value in values]
        y = function(*inputs)
        (y * paddle.arange(24, dtype="float32")).sum().backward()
        outcomes.append([y.numpy(), *(x.grad.numpy() for x in inputs)])
    for actual, wanted in zip(*outcomes):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_cpu_has_no_flash_attention(dtype):
    assert not has_flash_attention(paddle.zeros([1, 1, 2, 8], dtype))
