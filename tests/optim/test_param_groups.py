import pytest

from plsc.optim.param_groups import group_parameters, is_decayed, layer_scale

PARAMETERS = [
    ("model.encoder.cls_token", [1, 1, 4]),
    ("model.encoder.blocks.0.norm.weight", [4]),
    ("model.encoder.blocks.0.fc.weight", [4, 4]),
    ("model.head.weight", [4, 2]),
    ("model.head.bias", [2]),
]


def depth(name):
    return 0 if "cls_token" in name else 1 if ".blocks.0." in name else 2


@pytest.mark.parametrize(
    "name, shape, patterns, expected",
    [
        ("head.weight", [4, 2], (), True),
        ("head.bias", [2], (), False),
        ("norm.weight", [4], (), False),
        ("scale", [], (), False),
        ("odd.bias", [2, 2], (), False),
        ("bias", [2, 2], (), False),
        ("blocks.0.attn.relative_position_bias", [9, 4], (), True),
        ("encoder.cls_token", [1, 1, 4], (), True),
        ("encoder.cls_token", [1, 1, 4], ("*.cls_token",), False),
        ("encoder.CLS_token", [1, 4], ("*.cls_token",), True),
    ],
)
def test_is_decayed(name, shape, patterns, expected):
    assert is_decayed(name, shape, patterns) is expected


def test_layer_scale():
    assert [layer_scale(i, 4, 0.5) for i in range(4)] == [0.125, 0.25, 0.5, 1.0]


def test_two_groups_without_layer_decay():
    decay, no_decay = group_parameters(PARAMETERS, 0.05)
    assert (decay.name, decay.weight_decay, decay.lr_scale) == ("decay", 0.05, 1.0)
    assert decay.parameters == ["model.encoder.cls_token", "model.encoder.blocks.0.fc.weight", "model.head.weight"]
    assert (no_decay.name, no_decay.weight_decay, no_decay.lr_scale) == ("no_decay", 0.0, 1.0)
    assert no_decay.parameters == ["model.encoder.blocks.0.norm.weight", "model.head.bias"]


def test_a_group_for_each_depth_with_layer_decay():
    groups = group_parameters(PARAMETERS, 0.05, ["*.cls_token"], 0.5, depth, 3)
    assert {group.name: (group.weight_decay, group.lr_scale, group.parameters) for group in groups} == {
        "layer_0_no_decay": (0.0, 0.25, ["model.encoder.cls_token"]),
        "layer_1_no_decay": (0.0, 0.5, ["model.encoder.blocks.0.norm.weight"]),
        "layer_1_decay": (0.05, 0.5, ["model.encoder.blocks.0.fc.weight"]),
        "layer_2_decay": (0.05, 1.0, ["model.head.weight"]),
        "layer_2_no_decay": (0.0, 1.0, ["model.head.bias"]),
    }


@pytest.mark.parametrize("factor", [0.0, -0.5, 1.1])
def test_layer_decay_out_of_range(factor):
    with pytest.raises(ValueError, match=r"layer_decay must be in \(0, 1\] \(or null\), got"):
        group_parameters(PARAMETERS, 0.05, (), factor, depth, 3)


def test_layer_decay_of_a_model_without_depths():
    with pytest.raises(ValueError, match="layer_decay needs a model with layer_index"):
        group_parameters(PARAMETERS, 0.05, (), 0.5, depth, None)


def test_a_model_may_scale_the_learning_rate_of_some():
    options = {"layer_decay": 0.5, "layer_index": depth, "num_layers": 3}
    groups = group_parameters(PARAMETERS, 0.05, **options, lr_scale=lambda name: 10.0 if "head" in name else 1.0)
    scales = {name: group.lr_scale for group in groups for name in group.parameters}
    assert scales["model.head.weight"] == scales["model.head.bias"] == 10.0
    assert scales["model.encoder.cls_token"] == 0.25
    assert {group.name for group in groups if "_x10" in group.name} == {"layer_2_decay_x10", "layer_2_no_decay_x10"}
