import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from plsc.nn.attention import Attention, CrossAttention, RelativePositionBias, attention_maps, split_heads
from plsc.nn.block import Block
from plsc.nn.functional import attend
from plsc.nn.utils import set_training


@pytest.fixture(autouse=True)
def seed():
    paddle.seed(0)


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def heads_of(x, count):
    return x.reshape(*x.shape[:2], count, -1).transpose(0, 2, 1, 3)


def randomise(layer):
    for parameter in layer.parameters():
        parameter.set_value(paddle.randn(parameter.shape))


@pytest.mark.parametrize("bias, scale", [(True, None), (False, None), (True, 0.3)])
def test_self_attention_by_hand(bias, scale):
    layer = Attention(8, 2, qkv_bias=bias, qk_scale=scale)
    randomise(layer)
    x = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
    q, k, v = np.split(x @ layer.qkv.weight.numpy(), 3, axis=-1)
    if bias:
        q, v = q + layer.q_bias.numpy(), v + layer.v_bias.numpy()
    q, k, v = (heads_of(part, 2) for part in (q, k, v))
    weights = softmax(q @ k.swapaxes(-1, -2) * (scale or 0.5))
    mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(3, 5, 8)
    expected = mixed @ layer.proj.weight.numpy() + layer.proj.bias.numpy()
    np.testing.assert_allclose(layer(paddle.to_tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert ("k_bias" in dict(layer.named_parameters())) is False


def test_cross_attention_equals_self_attention_on_the_same_tokens():
    own, cross = Attention(8, 2), CrossAttention(8, 2)
    randomise(own)
    for name, weight in zip("qkv", paddle.split(own.qkv.weight, 3, axis=1)):
        getattr(cross, name).weight.set_value(weight)
    for name in ("q_bias", "v_bias"):
        getattr(cross, name).set_value(getattr(own, name))
    cross.proj.set_state_dict(own.proj.state_dict())
    x = paddle.randn([2, 4, 8])
    np.testing.assert_allclose(cross(x, x, x).numpy(), own(x).numpy(), atol=1e-5)
    assert cross(x[:, :1], x, x).shape == [2, 1, 8]


def test_relative_position_bias_starts_at_zero_and_reads_its_table():
    bias = RelativePositionBias((2, 3), 4)
    assert bias.table.shape == [3 * 5 + 3, 4]
    assert not bias().numpy().any()
    bias.table.set_value(paddle.arange(18, dtype="float32").unsqueeze(1) + 100 * paddle.arange(4, dtype="float32"))
    np.testing.assert_array_equal(bias()[2].numpy(), 200 + bias.index.numpy().reshape(7, 7))
    assert set(bias.state_dict()) == {"table"}


def test_layer_bias_and_shared_bias_are_added():
    layer = Attention(8, 2, bias_grid=(2, 2))
    x, shared = paddle.randn([1, 5, 8]), paddle.randn([2, 5, 5])
    plain = layer(x, shared)
    layer.relative_position_bias.table.set_value(paddle.randn([12, 2]))
    own = layer.relative_position_bias()
    with_both = layer(x, shared)
    assert not np.allclose(with_both.numpy(), plain.numpy())
    layer.relative_position_bias = None
    np.testing.assert_allclose(layer(x, shared + own).numpy(), with_both.numpy(), atol=1e-6)


def test_dropout_of_weights_and_output_only_in_training():
    layer = Attention(8, 2, drop_rate=0.2, attn_drop_rate=0.2)
    x = paddle.randn([2, 6, 8])
    assert not np.array_equal(layer(x).numpy(), layer(x).numpy())
    set_training(layer, False)
    np.testing.assert_array_equal(layer(x).numpy(), layer(x).numpy())


def test_attend_drops_weights():
    q = split_heads(paddle.randn([1, 40, 8]), 2)
    values = paddle.ones([1, 2, 40, 4])
    dropped = attend(q, q, values, scale=1.0, drop_rate=0.5)
    np.testing.assert_allclose(attend(q, q, values, scale=1.0).numpy(), 1.0, rtol=1e-5)
    assert dropped.numpy().std() > 0.01
    assert float(F.mse_loss(dropped.mean(), paddle.ones([]))) < 0.05


@pytest.mark.parametrize("heads", [0, 3])
def test_refuses_heads_that_do_not_divide_the_width(heads):
    with pytest.raises(ValueError, match=f"num_heads must divide the width: 8 does not divide into {heads} heads"):
        Attention(8, heads)


@pytest.mark.parametrize("grid", [None, (2, 2)])
def test_weights_are_those_of_the_forward_pass(grid):
    paddle.seed(0)
    layer = Attention(8, 2, bias_grid=grid)
    if grid:
        layer.relative_position_bias.table.set_value(paddle.randn(layer.relative_position_bias.table.shape))
    x, bias = paddle.randn([3, 5, 8]), paddle.randn([2, 5, 5])
    weights = layer.weights(x, bias)
    assert weights.shape == [3, 2, 5, 5]
    assert np.allclose(weights.sum(axis=-1).numpy(), 1.0, atol=1e-6)
    values = layer._project(x)[2]
    y = layer.proj(paddle.matmul(weights, values).transpose([0, 2, 1, 3]).flatten(2))
    assert np.allclose(y.numpy(), layer(x, bias).numpy(), atol=1e-6)


def test_attention_maps_of_every_block_without_hooks_afterwards():
    paddle.seed(0)
    blocks = [Block(8, 2), Block(8, 2)]
    x = paddle.randn([1, 5, 8])
    maps = attention_maps(blocks, lambda: blocks[1](blocks[0](x)))
    assert [m.shape for m in maps] == [[1, 2, 5, 5]] * 2
    second = blocks[1].attn.weights(blocks[1].norm1(blocks[0](x)))
    assert np.allclose(maps[1].numpy(), second.numpy(), atol=1e-6)
    assert not any(block.attn._forward_pre_hooks for block in blocks)
