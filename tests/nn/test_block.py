import numpy as np
import paddle
import pytest

from plsc.nn.block import Block


@pytest.mark.parametrize("layer_scale", [0.1, 0.0, None])
def test_residual_branches_and_scales(layer_scale):
    paddle.seed(0)
    block, x = Block(8, 2, mlp_ratio=2.0, layer_scale=layer_scale), paddle.randn([2, 5, 8])
    scale = layer_scale or 1.0
    middle = x + scale * block.attn(block.norm1(x))
    expected = middle + scale * block.mlp(block.norm2(middle))
    np.testing.assert_allclose(block(x).numpy(), expected.numpy(), atol=1e-6)
    scales = [name for name, _ in block.named_parameters() if name.startswith("gamma")]
    assert scales == (["gamma_1", "gamma_2"] if layer_scale else [])
    assert block.mlp.fc1.weight.shape == [8, 16]


def test_a_dropped_branch_does_not_change_the_sample():
    paddle.seed(0)
    block, x = Block(8, 2, drop_path_rate=0.9), paddle.randn([64, 5, 8])
    unchanged = (block(x).numpy() == x.numpy()).all(axis=(1, 2)).mean()
    assert 0.65 < unchanged < 0.95


def test_bias_reaches_the_attention():
    paddle.seed(0)
    block, x = Block(8, 2), paddle.randn([2, 5, 8])
    assert not np.allclose(block(x, paddle.randn([2, 5, 5])).numpy(), block(x).numpy())
