import numpy as np
import paddle
import pytest

from plsc.losses import CrossEntropy, SumOverHeads


def logits_and_label(classes=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, classes)), rng.integers(0, classes, 4)


def by_hand(logits, target):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return -(target * (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))).sum(axis=1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
def test_hard_and_soft_labels(smoothing, soft):
    logits, label = logits_and_label()
    one_hot = np.eye(5)[label]
    target = 0.7 * one_hot + 0.3 * one_hot[::-1] if soft else one_hot
    given = paddle.to_tensor(target if soft else label)
    loss = CrossEntropy(smoothing)(paddle.to_tensor(logits), given)
    expected = by_hand(logits, (1 - smoothing) * target + smoothing / 5)
    assert float(loss) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype, expected", [("float16", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_precision(dtype, expected):
    logits, label = logits_and_label()
    loss = CrossEntropy(0.1)(paddle.to_tensor(logits).astype(dtype), paddle.to_tensor(label))
    assert loss.dtype == getattr(paddle, expected) and loss.shape == []


@pytest.mark.parametrize("shape", [[3], [4, 6], [4, 5, 1]])
def test_refuses_labels_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"labels of shape .* do not fit logits of shape \[4, 5\]"):
        CrossEntropy()(paddle.zeros([4, 5]), paddle.zeros(shape, dtype="int64"))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_refuses_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\)"):
        CrossEntropy(smoothing)


def test_several_heads_add_up():
    rng = np.random.default_rng(0)
    logits = paddle.to_tensor(rng.normal(size=(4, 3, 5)))
    label = paddle.to_tensor([0, 4, 2, 2])
    smoothed = CrossEntropy(label_smoothing=0.1)
    for loss in (CrossEntropy(), smoothed):
        wanted = sum(float(loss(logits[:, head], label)) for head in range(3))
        assert float(SumOverHeads(loss)(logits, label)) == pytest.approx(wanted, abs=1e-12)
    with pytest.raises(ValueError, match=r"takes logits \(images, heads, classes\), as LinearGrid gives, got \[4, 5\]"):
        SumOverHeads()(logits[:, 0], label)
