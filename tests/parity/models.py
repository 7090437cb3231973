"""Our networks built from a fixture's hyper-parameters and filled with its weights, in float64."""

from contextlib import contextmanager

import numpy as np
import paddle

from plsc.checkpoint.names import official_to_own
from plsc.models import CAE, AttentiveHead, Classifier, LinearHead, ViT
from tests.parity.deviation import check

OUTPUT = 1e-7
GRADIENT = 1e-6


@contextmanager
def double_precision():
    """Context in which new tensors and layers are float64."""
    before = paddle.get_default_dtype()
    paddle.set_default_dtype("float64")
    try:
        yield
    finally:
        paddle.set_default_dtype(before)


def tensor(array):
    """A numpy array as a tensor, floats as float64."""
    return paddle.to_tensor(array.astype(np.float64) if array.dtype.kind == "f" else array)


def vit(config, position, bias="none", last_norm=True):
    """The encoder of a fixture's `config_json`."""
    return ViT(
        image_size=config["img_size"],
        patch_size=config["patch_size"],
        in_channels=config["in_chans"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        qkv_bias=config["qkv_bias"],
        qk_scale=config.get("qk_scale"),
        drop_path_rate=config.get("drop_path", 0.0),
        layer_scale=config["layer_scale_init_value"],
        norm_eps=config["norm_eps"],
        pos_embed=position,
        relative_position_bias=bias,
        last_norm=last_norm,
    )


def cae(config):
    """The pre-training model of a fixture."""
    position = {"abs": "learned", "none": "none"}.get(config["pos_emb"].split("_")[0], "sincos_official")
    return CAE(
        vit(config, position),
        regressor_depth=config["regressor_depth"],
        decoder_depth=config["decoder_depth"],
        decoder_embed_dim=config["decoder_embed_dim"],
        decoder_num_heads=config["decoder_num_heads"],
        vocab_size=config["decoder_num_classes"],
        decoder_layer_scale=config["decoder_layer_scale_init_value"],
        regressor_drop_path_rate=config.get("drop_path", 0.0),
        decoder_drop_path_rate=config.get("drop_path", 0.0),
        teacher_momentum=config["base_momentum"],
    )


def classifier(config):
    """The fine-tuning or probing model of a fixture."""
    position = "learned" if config["abs_pos_emb"] else "sincos_official" if config["sin_pos_emb"] else "none"
    biases = {(False, False): "none", (True, False): "per_block", (False, True): "shared", (True, True): "both"}
    bias = biases[config["rel_pos_bias"], config["shared_rel_pos_bias"]]
    probe, kind = config["lin_probe"], config["linear_type"]
    # the authors' probes have a last norm only without mean pooling, and pool the class token or attend in any case
    encoder = vit(config, position, bias, last_norm=not (probe and config["use_mean_pooling"]))
    if not probe or kind == "standard":
        head = LinearHead(encoder.embed_dim, config["num_classes"], batch_norm=probe)
        mean = config["use_mean_pooling"] and not probe
        return Classifier(encoder, head, "mean" if mean else "cls", freeze_encoder=probe)
    plsc = config["kind"] == "attentive_plsc"
    head = AttentiveHead(
        encoder.embed_dim,
        config["num_classes"],
        config["num_heads"],
        depth=config.get("linear_depth", 1),
        qkv_bias=config["qkv_bias"],
        qk_scale=config.get("qk_scale"),
        norm_eps=config["norm_eps"],
        batch_norm_eps=1e-6 if plsc else 1e-5,
        parameter_free=kind == "attentive_no_parameter",
    )
    return Classifier(encoder, head, "positioned_tokens" if plsc else "tokens", freeze_encoder=True)


def to_own(arrays, is_classifier):
    """Rename arrays from the authors' names to ours, and transpose matrices to Paddle's layout."""
    own = {}
    for name, array in arrays.items():
        mapped = official_to_own(name, is_classifier)
        if mapped is not None:
            own[mapped[0]] = array.T if mapped[1] else array
    return own


def load(model, arrays):
    """Load a fixture's `param/` into a model; the names must match exactly."""
    arrays = to_own(arrays, isinstance(model, Classifier))
    state = model.state_dict()
    for name, table in model.named_buffers():
        if name in arrays and name not in state:
            load_table(table, arrays.pop(name), name)
    assert set(arrays) == set(state), set(arrays) ^ set(state)
    for name, value in state.items():
        assert list(value.shape) == list(arrays[name].shape), name
        value.set_value(tensor(arrays[name]))


def load_table(table, expected, name):
    """Compare a fixed position table, computed in float32 by both sides, then load the reference's."""
    check("position tables", table, expected, 2e-7, name=name)
    table.set_value(tensor(expected))


def check_gradients(family, model, expected, detached=()):
    """Compare the gradients of all parameters; the fixture may lack those that the reference detaches."""
    expected = to_own(expected, isinstance(model, Classifier))
    left_out = set(detached) - set(expected)
    actual = {n: p.grad for n, p in model.named_parameters() if p.grad is not None and n not in left_out}
    assert set(actual) == set(expected), set(actual) ^ set(expected)
    for name, gradient in actual.items():
        check(family, gradient, expected[name], GRADIENT, "gradients", name)


def check_outputs(family, arrays, **actual):
    """Compare outputs with the arrays of the same name."""
    for name, value in actual.items():
        check(family, value, arrays[name], OUTPUT, "outputs", name)
