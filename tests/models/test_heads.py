import numpy as np
import paddle
import pytest

from plsc.models import AttentiveHead, EfficientProbingHead, LinearHead
from plsc.nn.utils import set_training


@pytest.fixture(autouse=True)
def seed():
    paddle.seed(0)


def test_linear_head():
    head, x = LinearHead(8, 5), paddle.randn([3, 8])
    expected = x.numpy() @ head.linear.weight.numpy() + head.linear.bias.numpy()
    np.testing.assert_allclose(head(x).numpy(), expected, atol=1e-6)
    assert set(head.state_dict()) == {"linear.weight", "linear.bias"}


def test_linear_head_initial_values():
    head = LinearHead(200, 300, init_std=0.02, init_scale=0.001)
    assert head.linear.weight.numpy().std() == pytest.approx(2e-5, rel=0.02)
    assert not head.linear.bias.numpy().any()
    assert LinearHead(200, 300, init_std=0.01).linear.weight.numpy().std() == pytest.approx(0.01, rel=0.02)


def test_linear_head_with_batch_norm():
    head, x = LinearHead(8, 5, batch_norm=True), paddle.randn([6, 8])
    normalised = (x - x.mean(axis=0)) / (x.var(axis=0, unbiased=False) + 1e-6).sqrt()
    np.testing.assert_allclose(head(x).numpy(), head.linear(normalised).numpy(), atol=1e-5)
    assert {name for name, _ in head.named_parameters()} == {"linear.weight", "linear.bias"}
    assert {"batch_norm.running_mean", "batch_norm.running_var"} < set(head.state_dict())


def test_attentive_head_trains_what_it_has():
    head, tokens = AttentiveHead(8, 5, num_heads=2), paddle.randn([6, 4, 8])
    assert head.forward_features(tokens).shape == [6, 8]
    head(tokens).square().sum().backward()
    assert all(p.grad is not None for p in head.parameters())
    assert not head.query_token.numpy().any()


def test_attentive_head_evaluates_with_running_statistics():
    head, tokens = AttentiveHead(8, 5, num_heads=2), paddle.randn([6, 4, 8])
    set_training(head, False)
    together, alone = head(tokens).numpy(), head(tokens[:1]).numpy()
    np.testing.assert_allclose(together[:1], alone, atol=1e-6)


def test_attentive_head_of_several_blocks():
    head, tokens = AttentiveHead(8, 5, num_heads=2, depth=2), paddle.randn([6, 4, 8])
    query = head.query_token.expand([6, 1, 8])
    for block in head.blocks:
        query = block(query, tokens)
    np.testing.assert_allclose(head.forward_features(tokens).numpy(), query.squeeze(1).numpy(), atol=1e-6)


def test_parameter_free_head_learns_query_and_linear_layer_only():
    head, tokens = AttentiveHead(8, 5, num_heads=2, parameter_free=True), paddle.randn([6, 4, 8])
    assert {name for name, _ in head.named_parameters()} == {"query_token", "linear.weight", "linear.bias"}
    assert head.query_token.numpy().any()
    head.query_token.set_value(paddle.zeros([1, 1, 8]))  # attends everywhere alike
    normalised = paddle.nn.functional.layer_norm(tokens, [8], epsilon=1e-6)
    np.testing.assert_allclose(head.forward_features(tokens).numpy(), normalised.mean(axis=1).numpy(), atol=1e-5)


@pytest.mark.parametrize("with_cls_token", [False, True])
def test_efficient_probing_by_hand(with_cls_token):
    """Each query is a softmax over the tokens as they are, and gathers its own channels of the values."""
    head = EfficientProbingHead(8, 5, num_queries=2, out_features=6, with_cls_token=with_cls_token)
    tokens = paddle.randn([3, 4, 8])
    head.query_tokens.set_value(paddle.randn([8, 2]))
    seen = tokens.numpy() if with_cls_token else tokens.numpy()[:, 1:]
    values, queries = seen @ head.value.weight.numpy(), head.query_tokens.numpy()
    expected = np.zeros([3, 6])
    for image in range(3):
        for query in range(2):
            powers = np.exp(seen[image] @ queries[:, query] / 8**0.5)
            share = slice(3 * query, 3 * query + 3)
            expected[image, share] = (powers / powers.sum()) @ values[image, :, share]
    np.testing.assert_allclose(head.forward_features(tokens).numpy(), expected, atol=1e-6)


def test_efficient_probing_has_few_parameters_and_trains_them_all():
    """The paper's count for ViT-B, less than 1.4 million: D^2 + Q D in the attention, and the linear layer."""
    head = EfficientProbingHead(768, 1000)
    counts = {name: int(np.prod(p.shape)) for name, p in head.named_parameters()}
    assert counts == {
        "query_tokens": 32 * 768, "value.weight": 768 * 768, "linear.weight": 768000, "linear.bias": 1000,
    }  # fmt: skip
    small, tokens = EfficientProbingHead(8, 5, num_queries=4), paddle.randn([6, 4, 8])
    small(tokens).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in small.parameters())
    with pytest.raises(ValueError, match="8 channels of values do not divide into 3 queries; set num_queries"):
        EfficientProbingHead(8, 5, num_queries=3)


def test_efficient_probing_evaluates_with_running_statistics():
    head, tokens = EfficientProbingHead(8, 5, num_queries=2), paddle.randn([6, 4, 8])
    set_training(head, False)
    np.testing.assert_allclose(head(tokens)[:1].numpy(), head(tokens[:1]).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: LinearHead(8, 0), "num_classes must be at least 1, got 0"),
        (lambda: LinearHead(0, 5), "in_features must be at least 1, got 0"),
        (lambda: AttentiveHead(8, 5, num_heads=2, depth=0), "depth must be at least 1, got 0"),
        (lambda: AttentiveHead(8, 5, num_heads=3), "8 does not divide into 3 heads"),
        (lambda: AttentiveHead(8, 5, num_heads=3, parameter_free=True), "8 does not divide into 3 heads"),
    ],
)
def test_refuses_what_does_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()
