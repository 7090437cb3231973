"""Writes `golden_tall` and `golden_wide`: two golden sets of the form of `golden/`, with settings unlike its own.

    python -m tests.parity.make_golden [FOLDER]

Their numbers come from `oracle.py`, which shares nothing with plsc and is compared with the authors' numbers by
`test_oracle.py`. Grids are not square (tall: 5 x 3 tokens, wide: 2 x 4), and most other settings differ from those of
`golden/`: channels, heads, biases, epsilons, depths, momenta, losses, accumulation, crops, patterns without decay.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy as np

from tests.parity import golden_tables, oracle
from tests.parity.autodiff import Var

HERE = Path(__file__).parent
TALL = {
    "img_size": [20, 12], "patch_size": 4, "in_chans": 1, "embed_dim": 12, "depth": 3, "num_heads": 3, "mlp_ratio": 1.5,
    "qkv_bias": False, "qk_scale": 0.3, "norm_eps": 1e-5, "layer_scale_init_value": 0.05, "drop_path": 0.0,
    "official": False,
}  # fmt: skip
WIDE = {
    "img_size": [8, 12], "patch_size": [4, 3], "in_chans": 3, "embed_dim": 16, "depth": 1, "num_heads": 8,
    "mlp_ratio": 3.0, "qkv_bias": True, "qk_scale": None, "norm_eps": 1e-6, "layer_scale_init_value": 0.0,
    "drop_path": 0.0, "official": False,
}  # fmt: skip
TALL_CAE = {
    **TALL, "kind": "pretrain", "pos_emb": "sincos", "regressor_depth": 1, "decoder_depth": 3, "decoder_embed_dim": 8,
    "decoder_num_heads": 2, "decoder_num_classes": 11, "decoder_layer_scale_init_value": 0.2, "base_momentum": 0.7,
    "align_loss_weight": 0.5, "target_mode": "clusterID", "batch": 3, "num_mask": 5, "save_teacher_after": True,
}  # fmt: skip
WIDE_CAE = {
    **WIDE, "kind": "pretrain", "pos_emb": "abs_derived", "regressor_depth": 3, "decoder_depth": 0,
    "decoder_embed_dim": 16, "decoder_num_heads": 4, "decoder_num_classes": 36, "decoder_layer_scale_init_value": 0.0,
    "base_momentum": 0.99, "align_loss_weight": 3.0, "dual_loss_type": "kld", "target_mode": "rgb", "batch": 2,
    "num_mask": 3,
}  # fmt: skip
STEPS = {
    "kind": "steps", "num_steps": 5, "weight_decay": 0.3, "weight_decay_end": 0.02, "lr": 0.01, "min_lr": 1e-3,
    "opt_eps": 1e-7, "opt_betas": [0.8, 0.95], "epochs": 2, "niter_per_ep": 4, "warmup_epochs": 0, "clip_grad": 0.5,
}  # fmt: skip
CLASSIFIER = {
    "abs_pos_emb": False, "sin_pos_emb": True, "rel_pos_bias": False, "shared_rel_pos_bias": False,
    "use_mean_pooling": False, "lin_probe": False, "linear_type": "standard", "num_classes": 7, "batch": 5,
    "smoothing": 0.25, "mixup_lam": 0.6,
}  # fmt: skip
PROBE = {
    "lin_probe": True, "blr": 0.3, "eff_batch_size": 768, "min_lr": 0.01, "epochs": 6, "warmup_epochs": 2,
    "niter_per_ep": 3, "start_epoch": 1, "num_steps": 5, "weight_decay": 0.02, "momentum": 0.8,
}  # fmt: skip
ATTENTIVE = {
    **PROBE, "kind": "attentive", "linear_type": "attentive", "start_epoch": 0, "num_steps": 20, "lr": 0.1, "epochs": 7,
}  # fmt: skip
SETS = {
    "golden_tall": {
        "pretrain_projected": TALL_CAE,
        "pretrain_steps_decay": {**TALL_CAE, **STEPS},
        "finetune_mean_both": {
            **TALL, **CLASSIFIER, "kind": "finetune", "rel_pos_bias": True, "shared_rel_pos_bias": True,
            "use_mean_pooling": True,
        },
        "linprobe_without_norm": {**TALL, **CLASSIFIER, **PROBE, "kind": "linprobe", "use_mean_pooling": True},
        "attentive_without_norm": {**TALL, **CLASSIFIER, **ATTENTIVE, "use_mean_pooling": True, "momentum": 0.9},
        "attentive_plsc_deep": {
            **TALL, **CLASSIFIER, **PROBE, "kind": "attentive_plsc", "linear_type": "attentive", "linear_depth": 2,
        },
        "dalle_tall": {
            "kind": "dalle", "n_hid": 4, "n_init": 6, "n_blk_per_group": 2, "vocab_size": 20, "batch": 2, "height": 32,
            "width": 16, "official": False,
        },
    },
    "golden_wide": {
        "pretrain_pixels": WIDE_CAE,
        "finetune_cls_abs": {**WIDE, **CLASSIFIER, "kind": "finetune", "sin_pos_emb": False, "abs_pos_emb": True},
        "linprobe_cls": {**WIDE, **CLASSIFIER, **PROBE, "kind": "linprobe", "weight_decay": 0.0},
        "attentive_cls": {**WIDE, **CLASSIFIER, **ATTENTIVE, "momentum": 0.7},
        "attentive_free": {
            **WIDE, **CLASSIFIER, **PROBE, "kind": "attentive_plsc", "linear_type": "attentive_no_parameter",
            "use_mean_pooling": True,
        },
        "dalle_wide": {
            "kind": "dalle", "n_hid": 4, "n_init": 8, "n_blk_per_group": 1, "vocab_size": 16, "batch": 1, "height": 16,
            "width": 40, "official": False,
        },
    },
}  # fmt: skip


def main(folder):
    for name, cases in SETS.items():
        target = Path(folder) / name
        target.mkdir(parents=True, exist_ok=True)
        for case, config in cases.items():
            np.savez_compressed(target / f"{case}.npz", config_json=np.array(json.dumps(config)), **make(case, config))
        for filename, arrays in golden_tables.arrays_of(name).items():
            np.savez_compressed(target / filename, **arrays)
        for filename, content in golden_tables.records_of(name).items():
            (target / filename).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def make(case, config):
    """All arrays of a fixture: random weights and inputs, and the oracle's results."""
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    arrays = INPUTS[config["kind"]](config, rng)
    arrays.update(COMPUTE[config["kind"]](config, arrays))
    return {name: _stored(name, value) for name, value in arrays.items()}


def _stored(name, value):
    """Cast weights and updated weights to float32, as in `golden/`."""
    value = np.asarray(value)
    in_float32 = ("param/", "final/", "teacher_after/", "lars_step", "sgd_step", "encoder/", "decoder/")
    return value.astype(np.float32) if name.startswith(in_float32) and value.dtype == np.float64 else value


# ---- weights and inputs


def draw(shapes, rng):
    """Weights by name at the scales of `golden/`, float32."""
    found = {}
    for name, shape in shapes.items():
        normal = rng.normal(size=shape)
        if "norm" in name and name.endswith("weight"):
            value = 1 + 0.1 * normal
        elif "gamma" in name:
            value = 0.1 + 0.03 * normal
        elif "_table" in name or name.endswith(("token", "pos_embed")):
            value = (0.5 if "_table" in name else 0.3) * normal
        else:
            value = (0.05 if len(shape) == 1 else 0.15) * normal
        found[name] = value.astype(np.float32)
    return found


def _norm(name, dim):
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _linear(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _biases(name, dim, config):
    return {f"{name}.q_bias": (dim,), f"{name}.v_bias": (dim,)} if config["qkv_bias"] else {}


def _mlp(name, dim, config):
    hidden = int(dim * config["mlp_ratio"])
    return {**_linear(f"{name}.fc1", dim, hidden), **_linear(f"{name}.fc2", hidden, dim)}


def _block(name, dim, scale, config):
    scales = {f"{name}.gamma_1": (dim,), f"{name}.gamma_2": (dim,)} if scale > 0 else {}
    return {
        **scales, **_norm(f"{name}.norm1", dim), **_biases(f"{name}.attn", dim, config),
        f"{name}.attn.qkv.weight": (3 * dim, dim), **_linear(f"{name}.attn.proj", dim, dim),
        **_norm(f"{name}.norm2", dim), **_mlp(f"{name}.mlp", dim, config),
    }  # fmt: skip


def _cross(name, dim, config):
    matrices = {f"{name}.cross_attn.{part}.weight": (dim, dim) for part in "qkv"}
    norms = {k: v for part in ("1_q", "1_k", "1_v", "2_cross") for k, v in _norm(f"{name}.norm{part}", dim).items()}
    biases = _biases(f"{name}.cross_attn", dim, config)
    return {**norms, **biases, **matrices, **_linear(f"{name}.cross_attn.proj", dim, dim)}


def _encoder(prefix, config):
    dim, scale = config["embed_dim"], config["layer_scale_init_value"]
    shapes = {f"{prefix}cls_token": (1, 1, dim)}
    shapes[f"{prefix}patch_embed.proj.weight"] = (dim, config["in_chans"], *oracle.pair(config["patch_size"]))
    shapes[f"{prefix}patch_embed.proj.bias"] = (dim,)
    for i in range(config["depth"]):
        shapes.update(_block(f"{prefix}blocks.{i}", dim, scale, config))
    return shapes


def cae_weights(config, rng):
    """State dict of the authors' pre-training model with its teacher."""
    width, dim, grid = config["embed_dim"], config["decoder_embed_dim"], oracle.grid_of(config)
    learned = {"encoder.pos_embed": (1, 1 + grid[0] * grid[1], width)} if config["pos_emb"].startswith("abs") else {}
    encoder = {**_encoder("encoder.", config), **learned, **_norm("encoder.norm", width)}
    shapes, scale = {"mask_token": (1, 1, dim), **encoder}, config["decoder_layer_scale_init_value"]
    if dim != width:
        shapes.update({**_linear("encoder_to_decoder", width, dim), **_norm("encoder_to_decoder_norm", dim)})
    for i in range(config["regressor_depth"]):
        name = f"pretext_neck.regressor_blocks.{i}"
        shapes.update({f"{name}.gamma_1_cross": (dim,), f"{name}.gamma_2_cross": (dim,)})
        shapes.update({**_cross(name, dim, config), **_mlp(f"{name}.mlp_cross", dim, config)})
    for i in range(config["decoder_depth"]):
        shapes.update(_block(f"pretext_neck.decoder_blocks.{i}", dim, scale, config))
    shapes.update({**_norm("pretext_neck.norm", dim), **_norm("pretext_neck.norm2", dim)})
    shapes.update(_linear("pretext_neck.head", dim, config["decoder_num_classes"]))
    weights = draw(shapes, rng)
    if scale <= 0:
        fixed = [name for name in weights if "gamma_" in name and name.endswith("_cross")]
        weights.update({name: np.ones_like(weights[name]) for name in fixed})
    if not learned:
        weights["encoder.pos_embed"] = oracle.sincos(grid, width)
    teacher = dict(encoder.items())
    copies = {name: weights[name] for name in teacher} if config["kind"] == "steps" else draw(teacher, rng)
    copies.setdefault("encoder.pos_embed", weights["encoder.pos_embed"])
    return {**weights, **{name.replace("encoder.", "teacher.", 1): value.copy() for name, value in copies.items()}}


def classifier_weights(config, rng):
    """State dict of the authors' fine-tuning or probing model."""
    dim, grid, probe = config["embed_dim"], oracle.grid_of(config), config["lin_probe"]
    heads, classes, kind = config["num_heads"], config["num_classes"], config["linear_type"]
    shapes = _encoder("", config)
    rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3
    if config["rel_pos_bias"]:
        tables = {f"blocks.{i}.attn.relative_position_bias_table": (rows, heads) for i in range(config["depth"])}
        shapes.update(tables)
    if config["shared_rel_pos_bias"]:
        shapes["rel_pos_bias.relative_position_bias_table"] = (rows, heads)
    if config["abs_pos_emb"]:
        shapes["pos_embed"] = (1, 1 + grid[0] * grid[1], dim)
    if not config["use_mean_pooling"]:
        shapes.update(_norm("norm", dim))
    elif not probe:
        shapes.update(_norm("fc_norm", dim))
    if kind != "standard":
        shapes["query_token"] = (1, 1, dim)
    plsc = config["kind"] == "attentive_plsc"
    if kind == "attentive":
        for i in range(config.get("linear_depth", 1)):
            shapes.update(_cross(f"{'linear' if plsc else 'attentive'}_blocks.{i}", dim, config))
    numbered = config["kind"] in ("linprobe", "attentive_plsc")
    shapes.update(_linear("head.1" if numbered else "head", dim, classes))
    weights = draw(shapes, rng)
    if config["sin_pos_emb"] and not config["abs_pos_emb"]:
        weights["pos_embed"] = oracle.sincos(grid, dim)
    if probe:
        running = "head.0" if numbered else "fc_norm"
        weights[f"{running}.running_mean"] = rng.normal(size=dim).astype(np.float32)
        weights[f"{running}.running_var"] = rng.uniform(0.5, 2, size=dim).astype(np.float32)
        weights[f"{running}.num_batches_tracked"] = np.array(0)
    return weights


def _under(prefix, arrays):
    return {f"{prefix}/{name}": value for name, value in arrays.items()}


def _below(arrays, prefix):
    return {name[len(prefix) + 1 :]: value for name, value in arrays.items() if name.startswith(prefix + "/")}


def _images(config, rng):
    return rng.normal(size=(config["batch"], config["in_chans"], *oracle.pair(config["img_size"]))).astype(np.float32)


def _masks(config, rng):
    count = int(np.prod(oracle.grid_of(config)))
    mask = np.zeros((config["batch"], count), bool)
    for row in mask:
        row[rng.choice(count, config["num_mask"], replace=False)] = True
    return mask


def pretrain_inputs(config, rng):
    arrays = {**_under("param", cae_weights(config, rng)), "samples": _images(config, rng)}
    arrays["bool_masked_pos"] = mask = _masks(config, rng)
    if config["target_mode"] == "rgb":
        patches = oracle.patches(arrays["samples"], config)
        mean, variance = patches.mean(-1, keepdims=True), patches.var(-1, keepdims=True)
        arrays["labels"] = ((patches - mean) / np.sqrt(variance + 1e-6))[mask]
    else:
        arrays["input_ids"] = rng.integers(0, config["decoder_num_classes"], mask.shape)
        arrays["labels"] = arrays["input_ids"][mask]
    return arrays


def steps_inputs(config, rng):
    arrays = _under("param", cae_weights(config, rng))
    for step in range(config["num_steps"]):
        arrays[f"samples_{step}"] = _images(config, rng)
        arrays[f"bool_masked_pos_{step}"] = mask = _masks(config, rng)
        arrays[f"input_ids_{step}"] = rng.integers(0, config["decoder_num_classes"], mask.shape)
    return arrays


def classifier_inputs(config, rng):
    arrays = {**_under("param", classifier_weights(config, rng)), "images": _images(config, rng)}
    arrays["labels"] = labels = rng.integers(0, config["num_classes"], config["batch"])
    arrays["images_eval"] = _images(config, rng)
    smoothing, lam = config["smoothing"], config["mixup_lam"]
    smooth = np.eye(config["num_classes"])[labels] * (1 - smoothing) + smoothing / config["num_classes"]
    arrays["soft_targets"] = lam * smooth + (1 - lam) * smooth[::-1]
    return arrays


# ---- results of the oracle


def variables(arrays):
    return {name: Var(value) for name, value in _below(arrays, "param").items() if value.dtype.kind == "f"}


def gradients(weights, names):
    return {name: weights[name].grad for name in names}


def cae_trained(weights, config):
    fixed_scales = config["decoder_layer_scale_init_value"] <= 0
    learned = config["pos_emb"].startswith("abs")
    return [
        name
        for name in weights
        if not name.startswith("teacher.")
        and not (name == "encoder.pos_embed" and not learned)
        and not (fixed_scales and "gamma_" in name and name.endswith("_cross"))
    ]


def moved_teacher(weights, config):
    """Teacher weights after the update that follows the forward pass."""
    keep = config["base_momentum"]
    return {
        name: weights[name].value * keep + weights[name.replace("teacher.", "encoder.", 1)].value * (1 - keep)
        for name in weights
        if name.startswith("teacher.")
    }


def pretrain_outputs(config, arrays):
    weights = variables(arrays)
    outputs = oracle.pretraining(
        weights, config, arrays["samples"], arrays["bool_masked_pos"].astype(bool), arrays["labels"]
    )
    outputs["loss"].backward()
    found = {name: value.value for name, value in outputs.items()}
    found.update(_under("grad", gradients(weights, cae_trained(weights, config))))
    if config.get("save_teacher_after"):
        moved = {name.replace("teacher.", "", 1): value for name, value in moved_teacher(weights, config).items()}
        found.update(_under("teacher_after", moved))
    if config["target_mode"] != "rgb":
        found["mlm_acc"] = (found["logits"].argmax(1) == arrays["labels"]).mean()
    found["teacher_equals_encoder_after"] = np.array(config["base_momentum"] == 0)
    return found


def norm_of(weights, prefix):
    return np.sqrt(sum((value.value**2).sum() for name, value in weights.items() if name.startswith(prefix)))


def steps_outputs(config, arrays):
    weights = variables(arrays)
    trained = cae_trained(weights, config)
    optimizer = oracle.AdamW(
        config.get("opt_betas", (0.9, 0.999)), config["opt_eps"], lambda name: weights[name].value.ndim > 1
    )
    plan = (config["epochs"], config["niter_per_ep"])
    rates = oracle.cosine_schedule(config["lr"], config["min_lr"], *plan, config["warmup_epochs"])
    decays = oracle.cosine_schedule(config["weight_decay"], config["weight_decay_end"], *plan)
    names = ("loss_main", "loss_dual", "loss", "grad_norm", "lr", "wd", "teacher_l2", "encoder_l2")
    found = {name: [] for name in (*names, "teacher_minus_encoder_l2_after_opt")}
    for step in range(config["num_steps"]):
        weights = {name: Var(value.value) for name, value in weights.items()}
        mask = arrays[f"bool_masked_pos_{step}"].astype(bool)
        outputs = oracle.pretraining(
            weights, config, arrays[f"samples_{step}"], mask, arrays[f"input_ids_{step}"][mask]
        )
        outputs["loss"].backward()
        grads = gradients(weights, trained)
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        factor = min(1.0, config["clip_grad"] / (norm + 1e-6))
        weights.update({name: Var(value) for name, value in moved_teacher(weights, config).items()})
        optimizer.step(weights, {name: g * factor for name, g in grads.items()}, rates[step], decays[step])
        apart = [
            weights[n].value - weights[n.replace("teacher.", "encoder.", 1)].value
            for n in weights
            if n.startswith("teacher.")
        ]
        values = [outputs[name].value for name in names[:3]] + [norm, rates[step], decays[step]]
        values += [
            norm_of(weights, "teacher."),
            norm_of(weights, "encoder."),
            np.sqrt(sum((d**2).sum() for d in apart)),
        ]
        for name, value in zip(found, values):
            found[name].append(float(value))
    final = {name: value.value for name, value in weights.items() if not name.startswith("teacher.")}
    return {**{name: np.array(values) for name, values in found.items()}, **_under("final", final)}


def finetune_outputs(config, arrays):
    found = {}
    losses = {
        "loss_ls": lambda logits: oracle.cross_entropy(logits, arrays["labels"], config["smoothing"]),
        "loss_soft": lambda logits: oracle.cross_entropy(logits, arrays["soft_targets"]),
        "loss_ce": lambda logits: oracle.cross_entropy(logits, arrays["labels"]),
    }
    for name, function in losses.items():
        weights = variables(arrays)
        features = oracle.finetuning_features(weights, config, arrays["images"])
        logits = oracle.linear(weights, "head", features)
        loss = function(logits)
        loss.backward()
        found[name] = loss.value
        trained = [n for n in weights if weights[n].grad is not None]
        if name == "loss_soft":
            found.update(_under("grad_soft", gradients(weights, trained)))
        elif name == "loss_ls":
            found.update(
                _under("grad_ls", gradients(weights, [n for n in trained if n in ("cls_token",) or "head" in n]))
            )
    return {**found, "features": features.value, "logits": logits.value}


def running_of(weights, name):
    return {key: weights[f"{name}.running_{key}"].value.copy() for key in ("mean", "var")}


def linprobe_outputs(config, arrays):
    weights = variables(arrays)
    running, eps, trained = running_of(weights, "head.0"), 1e-6, ["head.1.weight", "head.1.bias"]

    def forward(images, training):
        features = oracle.detach(oracle.tokens(weights, config, images)[:, 0])
        return features, oracle.linear(weights, "head.1", oracle.batch_norm(features, running, training, eps))

    found = {"logits_eval_before": forward(arrays["images_eval"], False)[1].value}
    base = config["blr"] * config["eff_batch_size"] / 256
    rates, optimizer, losses = [], oracle.Lars(config["weight_decay"], config.get("momentum", 0.9)), []
    for step in range(config["num_steps"]):
        weights.update({name: Var(weights[name].value) for name in trained})
        features, logits = forward(arrays["images"], True)
        loss = oracle.cross_entropy(logits, arrays["labels"])
        loss.backward()
        losses.append(float(loss.value))
        grads = gradients(weights, trained)
        if step == 0:
            found.update({"features": features.value, "logits_train": logits.value, "loss": loss.value})
            found.update({f"running_{key}_after1": running[key] for key in running})
            found.update(_under("grad", grads))
        epoch = config["start_epoch"] + step / config["niter_per_ep"]
        rates.append(oracle.probe_rate(epoch, base, config["min_lr"], config["epochs"], config["warmup_epochs"]))
        optimizer.step(weights, grads, rates[-1])
        found.update(_under(f"lars_step{step + 1}", {name: weights[name].value for name in trained}))
    found.update(lars_losses=np.array(losses), lars_lrs=np.array(rates), trainable=np.array(trained))
    return {**found, "logits_eval_after": forward(arrays["images_eval"], False)[1].value}


def attentive_outputs(config, arrays):
    weights = variables(arrays)
    first, eps = running_of(weights, "fc_norm"), 1e-5
    trained = [
        n for n in weights if n.startswith(("query_token", "attentive_blocks", "head.")) and "norm2_cross" not in n
    ]

    def forward(images, running, training):
        features = oracle.attentive_features(weights, config, images)
        return oracle.linear(weights, "head", oracle.batch_norm(features, running, training, eps))

    running = dict(first)
    found = {"logits_is_train_false": forward(arrays["images_eval"], dict(first), False).value}
    logits = forward(arrays["images"], running, True)
    loss = oracle.cross_entropy(logits, arrays["labels"])
    loss.backward()
    found.update({"logits_is_train_true": logits.value, "loss": loss.value})
    found.update({f"running_{key}_after1": value for key, value in running.items()})
    found.update(_under("grad", gradients(weights, trained)))
    found["logits_official_evaluate"] = forward(arrays["images_eval"], running, True).value
    found["running_mean_after_evaluate"] = running["mean"]
    unused = [n for n in weights if "norm2_cross" in n]
    found["trainable"] = np.array([*trained, *unused])
    return {**found, **(attentive_steps(config, arrays, trained, forward, weights, first) if "lr" in config else {})}


def attentive_steps(config, arrays, trained, forward, weights, running):
    """The authors' attentive probe: Nesterov's momentum, warm-up with both ends."""
    rates = oracle.cosine_schedule(
        config["lr"], config["min_lr"], config["epochs"], config["niter_per_ep"], config["warmup_epochs"]
    )
    optimizer, losses, running = oracle.Nesterov(config["momentum"], config["weight_decay"]), [], dict(running)
    for step in range(config["num_steps"]):
        weights.update({name: Var(weights[name].value) for name in trained})
        loss = oracle.cross_entropy(forward(arrays["images"], running, True), arrays["labels"])
        loss.backward()
        losses.append(float(loss.value))
        optimizer.step(weights, gradients(weights, trained), rates[step])
    final = {name: weights[name].value for name in trained}
    rates = rates[: config["num_steps"]]
    return {"sgd_losses": np.array(losses), "sgd_lrs": rates, **_under("sgd_step_last", final)}


def attentive_plsc_outputs(config, arrays):
    weights = variables(arrays)
    features = oracle.attentive_features(weights, config, arrays["images"], "linear_blocks", positioned=True)
    normed = oracle.batch_norm(features, running_of(weights, "head.0"), False, 1e-6)
    return {"features": features.value, "logits_eval": oracle.linear(weights, "head.1", normed).value}


INPUTS = {
    "pretrain": pretrain_inputs, "steps": steps_inputs, "finetune": classifier_inputs, "linprobe": classifier_inputs,
    "attentive": classifier_inputs, "attentive_plsc": classifier_inputs, "dalle": golden_tables.dalle_inputs,
}  # fmt: skip
COMPUTE = {
    "pretrain": pretrain_outputs, "steps": steps_outputs, "finetune": finetune_outputs, "linprobe": linprobe_outputs,
    "attentive": attentive_outputs, "attentive_plsc": attentive_plsc_outputs, "dalle": golden_tables.dalle_outputs,
}  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else HERE)
