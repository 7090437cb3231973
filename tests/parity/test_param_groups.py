"""Weight decay and learning-rate scale of every parameter by the authors' names, and of those of our networks."""

import json

import pytest

from plsc.models.names import classifier_name, pretraining_name
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
    """Names of the recorded cases that begin with `prefix`, or one skipped case that says why."""
    path = fixtures.GOLDEN_DIR / "param_groups.json"
    cases = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = [pytest.param(case, cases["args"], id=name) for name, case in cases.items() if name.startswith(prefix)]
    skip = pytest.mark.skip(reason=f"the golden folder has no {prefix} case in param_groups.json")
    return found or [pytest.param(None, None, marks=skip)]


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


def settings_of(groups):
    return {name: (group.lr_scale, group.weight_decay) for group in groups for name in group.parameters}


@pytest.mark.parametrize("case, args", recorded("finetune"))
def test_fine_tuning_groups_by_the_authors_names(case, args):
    depths = args["depth"] + 2
    assert [layer_scale(i, depths, args["layer_decay"]) for i in range(depths)] == case["layer_scales"]
    groups = group_parameters(
        [(name, shape(name)) for name in case["params"]],
        args["wd"],
        FINE_TUNING,
        args["layer_decay"],
        lambda name: depth_of(name, args["depth"]),
        depths,
    )
    assert settings_of(groups) == {n: (p["lr_scale"], p["weight_decay"]) for n, p in case["params"].items()}


@pytest.mark.parametrize("case, args", recorded("finetune"))
def test_fine_tuning_groups_of_our_classifier(case, args):
    """The networks' own names, shapes and depths, which the recorded ones are matched with one to one."""
    names = case["params"]
    config = {
        **SIZES, "depth": args["depth"], "kind": "finetune",
        "abs_pos_emb": "pos_embed" in names, "sin_pos_emb": "pos_embed" in case["frozen"],
        "rel_pos_bias": "blocks.0.attn.relative_position_bias_table" in names,
        "shared_rel_pos_bias": "rel_pos_bias.relative_position_bias_table" in names,
        "use_mean_pooling": "fc_norm.weight" in names, "lin_probe": False, "linear_type": "standard", "num_classes": 10,
    }  # fmt: skip
    optimizer = AdamW(classifier(config), args["wd"], layer_decay=args["layer_decay"], no_weight_decay=FINE_TUNING)
    expected = {classifier_name(name): (p["lr_scale"], p["weight_decay"]) for name, p in names.items()}
    assert settings_of(optimizer.groups) == expected


@pytest.mark.parametrize("case, args", recorded("pretrain"))
def test_pretraining_groups_of_our_network(case, args):
    """Class and mask token are decayed; the teacher is in no group."""
    names = case["weight_decay"]
    count = {
        kind: len({n.split(".")[2] for n in names if n.startswith(f"{kind}.")})
        for kind in ("encoder.blocks", "pretext_neck.regressor_blocks", "pretext_neck.decoder_blocks")
    }
    narrower = "encoder_to_decoder.weight" in names
    scaled = "encoder.blocks.0.gamma_1" in names
    config = {
        **SIZES, "depth": count["encoder.blocks"], "regressor_depth": count["pretext_neck.regressor_blocks"],
        "decoder_depth": count["pretext_neck.decoder_blocks"], "layer_scale_init_value": 0.1 if scaled else 0.0,
        "decoder_embed_dim": 8 if narrower else 16, "decoder_num_heads": 2, "decoder_num_classes": 12,
        "decoder_layer_scale_init_value": 0.1 if scaled else 0.0, "pos_emb": "sincos", "base_momentum": 0.0,
    }  # fmt: skip
    groups = AdamW(cae(config), args["wd"]).groups
    assert {group.lr_scale for group in groups} == set(case["lr_scale_values"])
    ours = {name: decay for name, (_, decay) in settings_of(groups).items()}
    assert ours == {pretraining_name(name): decay for name, decay in names.items()}
