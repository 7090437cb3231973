"""Weight decay and learning-rate scale of every parameter, by the authors' names and by ours."""

import pytest

from plsc.checkpoint.names import classifier_name, pretraining_name
from plsc.optim.optimizers import AdamW
from plsc.optim.param_groups import group_parameters, layer_scale
from tests.parity import fixtures
from tests.parity.models import cae, classifier

FINE_TUNING = ["*cls_token", "*pos_embed"]  # not decayed in fine-tuning
MATRICES = ("weight", "_table", "cls_token", "pos_embed", "mask_token", "query_token")
SIZES = {  # of a network that has every parameter of its kind
    "img_size": 16, "patch_size": 4, "in_chans": 3, "embed_dim": 16, "num_heads": 4, "mlp_ratio": 2.0,
    "qkv_bias": True, "norm_eps": 1e-6, "layer_scale_init_value": 0.1, "drop_path": 0.0,
}  # fmt: skip


def recorded(prefix):
    """The cases whose names begin with `prefix`, each with its arguments: its own ones, or those of the file."""

    def select(content):
        for name, case in content.items():
            if name.startswith(prefix):
                yield name, {**case, "args": {**content.get("args", {}), **case.get("args", {})}}

    return fixtures.recorded("param_groups.json", select)


def patterns(args):
    """Patterns of names that are not decayed: the recorded ones, or those of the authors' fine-tuning.

    `disable` is their `--disable_weight_decay_on_rel_pos_bias`.
    """
    found = [f"*{name}" for name in args["no_weight_decay"]] if "no_weight_decay" in args else FINE_TUNING
    return [*found, *(["*blocks.*.relative_position_bias*table"] if args.get("disable") else [])]


def is_vector(name):
    return "norm" in name or not name.endswith(MATRICES)


def shape(name):
    """A shape with the right number of dimensions."""
    return [2] if is_vector(name) else [2, 2]


def depth_of(name, depth):
    """The authors' layer of a name."""
    if name.startswith(("cls_token", "pos_embed", "patch_embed")):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else depth + 1


def assert_settings(groups, expected):
    """Compares (lr_scale, weight_decay) of every parameter."""
    ours = {name: (group.lr_scale, group.weight_decay) for group in groups for name in group.parameters}
    assert set(ours) == set(expected), set(ours) ^ set(expected)
    for name, settings in ours.items():
        assert settings == pytest.approx(expected[name], rel=1e-12), name


@pytest.mark.parametrize("case", recorded("finetune"))
def test_fine_tuning_groups_by_the_authors_names(case):
    args = case["args"]
    depths = args["depth"] + 2
    scales = [layer_scale(i, depths, args["layer_decay"]) for i in range(depths)]
    assert scales == pytest.approx(case["layer_scales"], rel=1e-12)
    groups = group_parameters(
        [(name, shape(name)) for name in case["params"]],
        args["wd"],
        patterns(args),
        args["layer_decay"],
        lambda name: depth_of(name, args["depth"]),
        depths,
    )
    assert_settings(groups, {n: (p["lr_scale"], p["weight_decay"]) for n, p in case["params"].items()})


@pytest.mark.parametrize("case", recorded("finetune"))
def test_fine_tuning_groups_of_our_classifier(case):
    """The networks' own names, shapes and depths, which the recorded ones are matched with one to one."""
    names, args = case["params"], case["args"]
    config = {
        **SIZES, "depth": args["depth"], "kind": "finetune",
        "abs_pos_emb": "pos_embed" in names, "sin_pos_emb": "pos_embed" in case["frozen"],
        "rel_pos_bias": "blocks.0.attn.relative_position_bias_table" in names,
        "shared_rel_pos_bias": "rel_pos_bias.relative_position_bias_table" in names,
        "qkv_bias": "blocks.0.attn.q_bias" in names,
        "layer_scale_init_value": 0.1 if "blocks.0.gamma_1" in names else 0.0,
        "use_mean_pooling": "fc_norm.weight" in names, "lin_probe": False, "linear_type": "standard", "num_classes": 10,
    }  # fmt: skip
    optimizer = AdamW(classifier(config), args["wd"], layer_decay=args["layer_decay"], no_weight_decay=patterns(args))
    expected = {classifier_name(name): (p["lr_scale"], p["weight_decay"]) for name, p in names.items()}
    assert_settings(optimizer.groups, expected)


@pytest.mark.parametrize("case", recorded("pretrain"))
def test_pretraining_groups_of_our_network(case):
    """Class and mask token are decayed; the teacher is in no group."""
    args = case["args"]
    names = case["weight_decay"]
    count = {
        kind: len({n.split(".")[2] for n in names if n.startswith(f"{kind}.")})
        for kind in ("encoder.blocks", "pretext_neck.regressor_blocks", "pretext_neck.decoder_blocks")
    }
    narrower = "encoder_to_decoder.weight" in names
    scaled = "encoder.blocks.0.gamma_1" in names
    config = {
        **SIZES, "qkv_bias": "encoder.blocks.0.attn.q_bias" in names,
        "depth": count["encoder.blocks"], "regressor_depth": count["pretext_neck.regressor_blocks"],
        "decoder_depth": count["pretext_neck.decoder_blocks"], "layer_scale_init_value": 0.1 if scaled else 0.0,
        "decoder_embed_dim": 8 if narrower else 16, "decoder_num_heads": 2, "decoder_num_classes": 12,
        "decoder_layer_scale_init_value": 0.1 if scaled else 0.0, "pos_emb": "sincos", "base_momentum": 0.0,
    }  # fmt: skip
    skipped = patterns(args) if "no_weight_decay" in args else []
    (scale,) = case["lr_scale_values"]
    groups = AdamW(cae(config), args["wd"], no_weight_decay=skipped).groups
    assert_settings(groups, {pretraining_name(name): (scale, decay) for name, decay in names.items()})
