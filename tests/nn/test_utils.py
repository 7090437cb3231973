import paddle
import pytest
from paddle import nn

from plsc.nn.utils import count_parameters, freeze, set_training, to_pair


@pytest.mark.parametrize("value, pair", [(3, (3, 3)), ((2, 5), (2, 5)), ([2, 5], (2, 5))])
def test_to_pair(value, pair):
    assert to_pair(value, "image_size") == pair


@pytest.mark.parametrize("value", [0, 1.5, True, (1, 2, 3), "16", (4, -1)])
def test_to_pair_refuses(value):
    with pytest.raises(ValueError, match="image_size must be a positive whole number or two of them"):
        to_pair(value, "image_size")


def test_set_training_reaches_every_layer():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    set_training(model, False)
    assert not any(layer.training for layer in model.sublayers(include_self=True))
    set_training(model, True)
    assert all(layer.training for layer in model.sublayers(include_self=True))


def test_freeze_and_count():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    model.register_buffer("table", paddle.zeros([5]))
    freeze(model[0])
    assert count_parameters(model) == {"trained": 16, "frozen": 9, "buffers": 5}
