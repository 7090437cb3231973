"""CAE and its classifiers in NumPy, float64, by the authors' names: an oracle that shares nothing with plsc.

Written from the formulas of the authors' code (lxtGH/CAE, `models/modeling_cae_helper.py`, `modeling_finetune.py`);
`test_oracle.py` compares it with the numbers of that code. Weights are a dict of `Var` by the authors' names, linear
weights (out, in).
"""

import numpy as np

from tests.parity.autodiff import Var, concat, detach, erf, exp, log


def pair(value):
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def grid_of(config):
    (height, width), (rows, columns) = pair(config["img_size"]), pair(config["patch_size"])
    return height // rows, width // columns


def linear(weights, name, x):
    y = x @ weights[f"{name}.weight"].transpose(1, 0)
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def layer_norm(weights, name, x, eps):
    return normalise(x, eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def normalise(x, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred / ((centred * centred).mean(-1, keepdims=True) + eps) ** 0.5


def softmax(x):
    e = exp(x - x.value.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x):
    shifted = x - x.value.max(-1, keepdims=True)
    return shifted - log(exp(shifted).sum(-1, keepdims=True))


def gelu(x):
    return x * 0.5 * (erf(x * np.sqrt(0.5)) + 1.0)


def heads_first(x, heads):
    """(B, N, D) -> (B, heads, N, D / heads)."""
    b, n, d = x.shape
    return x.reshape(b, n, heads, d // heads).transpose(0, 2, 1, 3)


def attend(q, k, v, heads, scale, bias=None):
    q, k, v = (heads_first(x, heads) for x in (q, k, v))
    scores = (q * scale) @ k.transpose(0, 1, 3, 2)
    scores = scores if bias is None else scores + bias
    mixed = (softmax(scores) @ v).transpose(0, 2, 1, 3)
    return mixed.reshape(*mixed.shape[:2], mixed.shape[2] * mixed.shape[3])


def scale_of(config, dim, heads):
    return config.get("qk_scale") or (dim // heads) ** -0.5


def self_attention(weights, name, x, heads, config, bias=None):
    qkv, dim = linear(weights, f"{name}.qkv", x), x.shape[-1]
    q, k, v = (qkv[:, :, i * dim : (i + 1) * dim] for i in range(3))
    if f"{name}.q_bias" in weights:
        q, v = q + weights[f"{name}.q_bias"], v + weights[f"{name}.v_bias"]
    return linear(weights, f"{name}.proj", attend(q, k, v, heads, scale_of(config, dim, heads), bias))


def cross_attention(weights, name, q, k, v, heads, config):
    q, k, v = (linear(weights, f"{name}.{part}", x) for part, x in (("q", q), ("k", k), ("v", v)))
    if f"{name}.q_bias" in weights:
        q, v = q + weights[f"{name}.q_bias"], v + weights[f"{name}.v_bias"]
    return linear(weights, f"{name}.proj", attend(q, k, v, heads, scale_of(config, q.shape[-1], heads)))


def mlp(weights, name, x):
    return linear(weights, f"{name}.fc2", gelu(linear(weights, f"{name}.fc1", x)))


def scaled(weights, name, x):
    return weights[name] * x if name in weights else x


def block(weights, name, x, heads, config, bias=None):
    eps = config["norm_eps"]
    attended = self_attention(
        weights, f"{name}.attn", layer_norm(weights, f"{name}.norm1", x, eps), heads, config, bias
    )
    x = x + scaled(weights, f"{name}.gamma_1", attended)
    return x + scaled(
        weights, f"{name}.gamma_2", mlp(weights, f"{name}.mlp", layer_norm(weights, f"{name}.norm2", x, eps))
    )


def regressor_block(weights, name, x, kv, position_q, position_kv, heads, config):
    eps = config["norm_eps"]
    q = layer_norm(weights, f"{name}.norm1_q", x + position_q, eps)
    k = layer_norm(weights, f"{name}.norm1_k", kv + position_kv, eps)
    v = layer_norm(weights, f"{name}.norm1_v", kv, eps)
    x = x + weights[f"{name}.gamma_1_cross"] * cross_attention(weights, f"{name}.cross_attn", q, k, v, heads, config)
    x = layer_norm(weights, f"{name}.norm2_cross", x, eps)
    return x + weights[f"{name}.gamma_2_cross"] * mlp(weights, f"{name}.mlp_cross", x)


def sincos(grid, dim, cls_row=True):
    """The authors' fixed table in float32, in their order: on grids that are not square it runs along the columns."""
    rows, columns = grid
    sides = (np.arange(length, dtype=np.float32) for length in (columns, rows))
    along_w, along_h = np.meshgrid(*sides, indexing="ij")
    omega = np.arange(dim // 4, dtype=np.float32) / np.float32(dim // 4)
    omega = (1.0 / np.float32(10000.0) ** omega).astype(np.float32)
    w, h = (np.outer(along.ravel(), omega).astype(np.float32) for along in (along_w, along_h))
    table = np.concatenate([np.sin(w), np.cos(w), np.sin(h), np.cos(h)], axis=1).astype(np.float32)
    return np.concatenate([np.zeros((int(cls_row), dim), np.float32), table])[None]


def relative_index(grid):
    """Rows of the bias table for every pair of tokens, the class token first: int (1 + N, 1 + N)."""
    rows, columns = grid
    places = [(r, c) for r in range(rows) for c in range(columns)]
    count = (2 * rows - 1) * (2 * columns - 1)
    index = np.zeros((len(places) + 1,) * 2, np.int64)
    for i, (r, c) in enumerate(places):
        for j, (s, d) in enumerate(places):
            index[1 + i, 1 + j] = (r - s + rows - 1) * (2 * columns - 1) + c - d + columns - 1
    index[0, :], index[:, 0], index[0, 0] = count, count + 1, count + 2
    return index


def patches(images, config):
    """(B, C, H, W) -> (B, N, C h w), row by row."""
    (rows, columns), (h, w) = grid_of(config), pair(config["patch_size"])
    b, c = images.shape[:2]
    cut = np.asarray(images, np.float64).reshape(b, c, rows, h, columns, w).transpose(0, 2, 4, 1, 3, 5)
    return cut.reshape(b, rows * columns, c * h * w)


def embed(weights, prefix, images, config):
    weight = weights[f"{prefix}patch_embed.proj.weight"]
    flat = weight.reshape(weight.shape[0], int(np.prod(weight.shape[1:])))
    return Var(patches(images, config)) @ flat.transpose(1, 0) + weights[f"{prefix}patch_embed.proj.bias"]


def picked(tokens, index):
    """Rows `index` (B, M) of (B, N, D) or (1, N, D)."""
    batch = np.arange(len(index))[:, None] if tokens.shape[0] > 1 or len(index) == 1 else np.zeros((1, 1), int)
    return tokens[batch, index]


def encode(weights, prefix, images, index, config):
    """The pre-training encoder on the patches `index` (B, V): (B, 1 + V, D), normalized."""
    tokens = picked(embed(weights, prefix, images, config), index)
    b, d = tokens.shape[0], tokens.shape[2]
    x = concat([weights[f"{prefix}cls_token"] + np.zeros((b, 1, d)), tokens], 1)
    rows = np.concatenate([np.zeros((b, 1), int), index + 1], axis=1)
    x = x + picked(weights[f"{prefix}pos_embed"], rows)
    for i in range(config["depth"]):
        x = block(weights, f"{prefix}blocks.{i}", x, config["num_heads"], config)
    return layer_norm(weights, f"{prefix}norm", x, config["norm_eps"])


def places(mask):
    return np.stack([np.flatnonzero(row) for row in mask])


def pretraining(weights, config, images, mask, labels):
    """One forward pass of pre-training: dict of `Var` by the fixtures' names.

    Args:
        weights: Weights with `teacher.*`.
        config: Of a fixture.
        images: (B, C, H, W), normalized.
        mask: Bool (B, N).
        labels: Token ids (B * M), or values (B * M, K).
    """
    visible, masked, eps = places(~mask), places(mask), config["norm_eps"]
    dim, heads = config["decoder_embed_dim"], config["decoder_num_heads"]
    encoded = encode(weights, "encoder.", images, visible, config)
    target = encode(weights, "teacher.", images, masked, config)

    def project(x):
        if "encoder_to_decoder.weight" not in weights:
            return x
        return layer_norm(weights, "encoder_to_decoder_norm", linear(weights, "encoder_to_decoder", x), eps)

    latents, target = project(encoded)[:, 1:], detach(project(detach(target))[:, 1:])
    own = config["pos_emb"].startswith("abs") and "encoder_to_decoder.weight" not in weights
    table = weights["encoder.pos_embed"] if own else Var(sincos(grid_of(config), dim))
    position_v, position_m = picked(table, visible + 1), picked(table, masked + 1)
    x = weights["mask_token"] + np.zeros((*masked.shape, dim))
    for i in range(config["regressor_depth"]):
        kv, position_kv = concat([latents, x], 1), concat([position_v, position_m], 1)
        x = regressor_block(
            weights, f"pretext_neck.regressor_blocks.{i}", x, kv, position_m, position_kv, heads, config
        )
    latent = layer_norm(weights, "pretext_neck.norm", x, eps)
    x = latent + position_m
    for i in range(config["decoder_depth"]):
        x = block(weights, f"pretext_neck.decoder_blocks.{i}", x, heads, config)
    logits = linear(weights, "pretext_neck.head", layer_norm(weights, "pretext_neck.norm2", x, eps))
    logits = logits.reshape(-1, logits.shape[-1])
    if config["target_mode"] == "rgb":
        main = ((logits - labels) ** 2).mean()
    else:
        main = cross_entropy(logits, labels)
    align = alignment(latent, target, config.get("dual_loss_type", "mse"))
    loss = main + align * config["align_loss_weight"]
    return {
        "enc_visible": encoded, "logits": logits, "latent": latent, "latent_target": target, "loss_main": main,
        "mse": align, "loss_dual": align * config["align_loss_weight"], "loss": loss, "decoder_pos_embed": table,
    }  # fmt: skip


def alignment(latent, target, kind):
    if kind == "mse":
        return ((latent - target) ** 2).mean()
    goal = softmax(target)  # PLSC's `F.kl_div(..., reduction="mean")`
    return (goal * (log(goal) - log_softmax(latent))).mean()


def cross_entropy(logits, labels, smoothing=0.0):
    """Mean over rows; `labels` are classes, or rows of probabilities."""
    if np.ndim(labels) == 1:
        labels = np.eye(logits.shape[-1])[labels]
    goal = labels * (1.0 - smoothing) + smoothing / logits.shape[-1]
    return -(log_softmax(logits) * goal).sum(-1).mean()


def tokens(weights, config, images):
    """Tokens of the fine-tuning network before any last norm, (B, 1 + N, D)."""
    x = embed(weights, "", images, config)
    b, _, d = x.shape
    x = concat([weights["cls_token"] + np.zeros((b, 1, d)), x], 1)
    if config["abs_pos_emb"] or config["sin_pos_emb"]:
        x = x + detach(weights["pos_embed"])

    def bias(name):
        if f"{name}relative_position_bias_table" not in weights:
            return None
        return weights[f"{name}relative_position_bias_table"][relative_index(grid_of(config))].transpose(2, 0, 1)

    shared = bias("rel_pos_bias.")
    for i in range(config["depth"]):
        own = bias(f"blocks.{i}.attn.")
        both = shared if own is None else own if shared is None else own + shared
        x = block(weights, f"blocks.{i}", x, config["num_heads"], config, both)
    return layer_norm(weights, "norm", x, config["norm_eps"]) if "norm.weight" in weights else x


def finetuning_features(weights, config, images):
    x = tokens(weights, config, images)
    if config["use_mean_pooling"]:
        return layer_norm(weights, "fc_norm", x[:, 1:].mean(1), config["norm_eps"])
    return x[:, 0]


def batch_norm(x, running, training, eps, momentum=0.1):
    """Without affine; `running` is a dict of mean and variance, which training moves in place (unbiased)."""
    if not training:
        return (x - running["mean"]) * (running["var"] + eps) ** -0.5
    mean = x.mean(0)
    variance = ((x - mean) ** 2).mean(0)
    count = x.shape[0]
    for key, new in (("mean", mean.value), ("var", variance.value * count / (count - 1))):
        running[key] = (1 - momentum) * running[key] + momentum * new
    return (x - mean) * (variance + eps) ** -0.5


def attentive_features(weights, config, images, blocks="attentive_blocks", positioned=False):
    """Features pooled by the query, (B, D)."""
    x = tokens(weights, config, images)
    x = x + detach(weights["pos_embed"]) if positioned else x
    query = weights["query_token"] + np.zeros((x.shape[0], 1, x.shape[2]))
    eps, heads = config["norm_eps"], config["num_heads"]
    for i in range(config.get("linear_depth", 1)):
        name = f"{blocks}.{i}"
        if config["linear_type"] == "attentive_no_parameter":
            q, kv = normalise(query, eps), normalise(x, eps)
            query = attend(q, kv, kv, heads, scale_of(config, x.shape[2], heads))
            continue
        q, k, v = (
            layer_norm(weights, f"{name}.norm1_{part}", y, eps) for part, y in (("q", query), ("k", x), ("v", x))
        )
        query = cross_attention(weights, f"{name}.cross_attn", q, k, v, heads, config)
    return query[:, 0]


class AdamW:
    """torch.optim.AdamW over arrays by name; `decayed` tells which are decayed."""

    def __init__(self, betas, eps, decayed):
        self.betas, self.eps, self.decayed = betas, eps, decayed
        self.state, self.steps = {}, 0

    def step(self, weights, gradients, lr, decay):
        self.steps += 1
        b1, b2 = self.betas
        for name, g in gradients.items():
            m, v = self.state.get(name, (0.0, 0.0))
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            self.state[name] = m, v
            value = weights[name].value * (1 - lr * decay if self.decayed(name) else 1.0)
            root = np.sqrt(v / (1 - b2**self.steps)) + self.eps
            weights[name] = Var(value - lr * m / (1 - b1**self.steps) / root)


class Lars:
    """LARS of MAE's and CAE's linear probes over arrays by name."""

    def __init__(self, weight_decay, momentum=0.9, trust=0.001):
        self.weight_decay, self.momentum, self.trust, self.velocity = weight_decay, momentum, trust, {}

    def step(self, weights, gradients, lr):
        for name, g in gradients.items():
            value = weights[name].value
            if value.ndim > 1:
                g = g + self.weight_decay * value
                weight, update = np.linalg.norm(value), np.linalg.norm(g)
                g = g * (self.trust * weight / update if weight > 0 and update > 0 else 1.0)
            self.velocity[name] = self.momentum * self.velocity.get(name, 0.0) + g
            weights[name] = Var(value - lr * self.velocity[name])


class Nesterov:
    """torch.optim.SGD(nesterov=True) over arrays by name."""

    def __init__(self, momentum, weight_decay=0.0):
        self.momentum, self.weight_decay, self.velocity = momentum, weight_decay, {}

    def step(self, weights, gradients, lr):
        for name, g in gradients.items():
            value = weights[name].value
            g = g + (self.weight_decay * value if value.ndim > 1 else 0.0)
            self.velocity[name] = self.momentum * self.velocity[name] + g if name in self.velocity else g
            weights[name] = Var(value - lr * (g + self.momentum * self.velocity[name]))


def cosine_schedule(base, final, epochs, niter, warmup_epochs=0, start=0.0, warmup_steps=-1):
    """The authors' `utils.cosine_scheduler`."""
    count = warmup_steps if warmup_steps > 0 else warmup_epochs * niter
    warmup = np.linspace(start, base, count) if warmup_epochs > 0 else np.zeros(0)
    rest = np.arange(epochs * niter - count)
    cosine = final + 0.5 * (base - final) * (1 + np.cos(np.pi * rest / max(len(rest), 1)))
    return np.concatenate([warmup, cosine])


def probe_rate(epoch, base, final, epochs, warmup_epochs):
    """MAE's `lr_sched.adjust_learning_rate` at a fractional epoch."""
    if epoch < warmup_epochs:
        return base * epoch / warmup_epochs
    return final + (base - final) * 0.5 * (1 + np.cos(np.pi * (epoch - warmup_epochs) / (epochs - warmup_epochs)))
