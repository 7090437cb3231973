import math

import numpy as np
import paddle

from plsc.nn.mlp import Mlp
from plsc.nn.utils import set_training


def test_exact_gelu_between_two_linear_layers():
    paddle.seed(0)
    mlp = Mlp(3, 5)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    hidden = x @ mlp.fc1.weight.numpy() + mlp.fc1.bias.numpy()
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    expected = hidden @ mlp.fc2.weight.numpy() + mlp.fc2.bias.numpy()
    np.testing.assert_allclose(mlp(paddle.to_tensor(x)).numpy(), expected, atol=1e-6)


def test_dropout_only_in_training_and_only_on_the_output():
    paddle.seed(0)
    mlp, x = Mlp(4, 8, drop_rate=0.5), paddle.ones([1, 50, 4])
    dropped = (mlp(x) == 0).numpy().mean()
    assert 0.3 < dropped < 0.7
    set_training(mlp, False)
    assert not (mlp(x) == 0).numpy().any()
