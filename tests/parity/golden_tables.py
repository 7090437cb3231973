"""Parts of a golden set without a network: DALL-E's convolutions, tables, schedules, groups, statistics; NumPy only."""

import math
import random

import numpy as np
from scipy.interpolate import CubicSpline

from tests.parity import oracle

GRIDS = {"golden_tall": ((5, 3), (8, 4)), "golden_wide": ((2, 6), (3, 7))}
DRAWS = 20000


# ---- DALL-E


def conv(x, weight, bias):
    """Convolution that keeps the size: (B, C, H, W) with (O, C, k, k)."""
    size = weight.shape[2]
    pad = (size - 1) // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    return np.einsum("bchwij,ocij->bohw", windows, weight, optimize=True) + bias[:, None, None]


def relu(x):
    return np.maximum(x, 0)


def dalle_block(weights, name, x, layers):
    inner = x
    for i in range(1, 5):
        inner = conv(relu(inner), weights[f"{name}.res_path.conv_{i}.w"], weights[f"{name}.res_path.conv_{i}.b"])
    path = conv(x, weights[f"{name}.id_path.w"], weights[f"{name}.id_path.b"]) if f"{name}.id_path.w" in weights else x
    return path + inner / layers**2


def pool(x):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))


def enlarge(x):
    return x.repeat(2, axis=2).repeat(2, axis=3)


def dalle_network(weights, x, blocks, between):
    x = conv(x, weights["blocks.input.w"], weights["blocks.input.b"])
    for i in range(1, 5):
        for j in range(1, blocks + 1):
            x = dalle_block(weights, f"blocks.group_{i}.block_{j}", x, 4 * blocks)
        x = between(x) if i < 4 else x
    return conv(relu(x), weights["blocks.output.conv.w"], weights["blocks.output.conv.b"])


def unmap(x):
    return np.clip((x - 0.1) / 0.8, 0, 1)


def dalle_weights(config, rng, encoder):
    """Weights of one of DALL-E's networks by its own names."""
    hidden, blocks = config["n_hid"], config["n_blk_per_group"]
    widths = [hidden * 2**i for i in range(4)]
    kernels = (3, 3, 3, 1) if encoder else (1, 3, 3, 3)
    if encoder:
        shapes = {"blocks.input": (hidden, 3, 7)}
        chain, last = [hidden, *widths], config["vocab_size"]
    else:
        shapes = {"blocks.input": (config["n_init"], config["vocab_size"], 1)}
        chain, last = [config["n_init"], *widths[::-1]], 6
    for i in range(1, 5):
        inputs, outputs = chain[i - 1], chain[i]
        for j in range(1, blocks + 1):
            name, inner = f"blocks.group_{i}.block_{j}", outputs // 4
            if inputs != outputs:
                shapes[f"{name}.id_path"] = (outputs, inputs, 1)
            sizes = (inputs, inner, inner, inner, outputs)
            for k, kernel in enumerate(kernels):
                shapes[f"{name}.res_path.conv_{k + 1}"] = (sizes[k + 1], sizes[k], kernel)
            inputs = outputs
    shapes["blocks.output.conv"] = (last, chain[-1], 1)
    found = {}
    for name, (outputs, inputs, kernel) in shapes.items():
        deviation = 1.5 / math.sqrt(inputs * kernel**2)
        found[f"{name}.w"] = rng.normal(0, deviation, (outputs, inputs, kernel, kernel)).astype(np.float32)
        found[f"{name}.b"] = rng.normal(0, 0.1, outputs).astype(np.float32)
    return found


def dalle_inputs(config, rng):
    arrays = {}
    for part in ("encoder", "decoder"):
        arrays.update({f"{part}/{n}": v for n, v in dalle_weights(config, rng, part == "encoder").items()})
    size = (config["batch"], 3, config["height"], config["width"])
    arrays["pixels01"] = rng.uniform(size=size).astype(np.float32)
    arrays["unmap_in"] = rng.uniform(-0.2, 1.2, (1, 1, 3, 5)).astype(np.float32)
    return arrays


def dalle_outputs(config, arrays):
    parts = {
        part: {n[8:]: v.astype(np.float64) for n, v in arrays.items() if n.startswith(f"{part}/")}
        for part in ("encoder", "decoder")
    }
    mapped, blocks = 0.8 * arrays["pixels01"].astype(np.float64) + 0.1, config["n_blk_per_group"]
    logits = dalle_network(parts["encoder"], mapped, blocks, pool)
    ids = logits.argmax(axis=1)
    one_hot = np.eye(config["vocab_size"])[ids].transpose(0, 3, 1, 2)
    decoded = dalle_network(parts["decoder"], one_hot, blocks, enlarge)
    best = np.sort(logits, axis=1)
    return {
        "mapped": mapped.astype(np.float32), "enc_logits": logits.astype(np.float32), "codebook_indices": ids,
        "argmax_margin_min": np.float32((best[:, -1] - best[:, -2]).min()), "decoder_out": decoded.astype(np.float32),
        "recon_unmapped": unmap(1 / (1 + np.exp(-decoded[:, :3]))).astype(np.float32),
        "unmap_out": unmap(arrays["unmap_in"].astype(np.float64)).astype(np.float32),
    }  # fmt: skip


# ---- tables


def arrays_of(name):
    """npz files of a set that hold no network: {filename: arrays}."""
    rng = np.random.default_rng(len(name))
    source, target = GRIDS[name]
    tables = {}
    for grid in (source, target):
        for dim in (8, 20):
            tables[f"grid{grid[0]}x{grid[1]}_dim{dim}"] = oracle.sincos(grid, dim)
            tables[f"grid{grid[0]}x{grid[1]}_dim{dim}_nocls"] = oracle.sincos(grid, dim, cls_row=False)
    return {
        "sincos.npz": tables,
        "interpolation.npz": interpolation(source, target, rng),
        "rgb_targets_derived.npz": pixel_targets(rng, patch=2 if name == "golden_wide" else 6),
    }


def interpolation(source, target, rng):
    positions = rng.normal(size=(1, 1 + source[0] * source[1], 12)).astype(np.float32)
    sizes = [2 * length - 1 for length in source]
    table = rng.normal(size=(sizes[0] * sizes[1] + 3, 2)).astype(np.float32)
    grid = bicubic(bicubic(positions[0, 1:].reshape(*source, -1), 0, target[0]), 1, target[1])
    offsets = spline(spline(table[:-3].reshape(*sizes, -1), 0, target[0]), 1, target[1])
    return {
        "pos_embed_src": positions,
        "pos_embed_dst": np.concatenate([positions[0, :1], grid.reshape(-1, 12)])[None].astype(np.float32),
        "rel_table_src": table,
        "rel_table_dst": np.concatenate([offsets.reshape(-1, 2), table[-3:]]).astype(np.float32),
        "rel_position_index_src": oracle.relative_index(source),
        "rel_position_index_dst": oracle.relative_index(target),
    }


def bicubic(values, axis, length):
    """torch's `interpolate(mode="bicubic", align_corners=False)` along one axis."""
    values = np.moveaxis(values.astype(np.float64), axis, 0)

    def kernel(t):
        t, a = abs(t), -0.75
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    rows = []
    for i in range(length):
        centre = (i + 0.5) * len(values) / length - 0.5
        taps = range(math.floor(centre) - 1, math.floor(centre) + 3)
        rows.append(sum(kernel(centre - tap) * values[min(max(tap, 0), len(values) - 1)] for tap in taps))
    return np.moveaxis(np.array(rows), 0, axis)


def spline(values, axis, length):
    """BEiT's rule for relative positions along one axis; `length` is of the target's grid."""
    values = np.moveaxis(values.astype(np.float64), axis, 0)
    size, wanted = len(values), 2 * length - 1
    if size == wanted:
        return np.moveaxis(values, 0, axis)
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        if (1.0 - q ** (size // 2)) / (1.0 - q) > wanted // 2:
            high = q
        else:
            low = q
    steps, current = [], 1.0
    for i in range(size // 2):
        steps.append(current)
        current += q ** (i + 1)
    knots = np.array([-step for step in reversed(steps)] + [0.0] + steps)
    points = np.clip(np.arange(-(wanted // 2), wanted // 2 + 1), knots[0], knots[-1])
    if size < 4:
        degree = np.polyfit(knots, values.reshape(size, -1), size - 1)
        powers = np.stack([points**p for p in range(size - 1, -1, -1)], axis=1)
        found = (powers @ degree).reshape(len(points), *values.shape[1:])
    else:
        found = CubicSpline(knots, values, axis=0, bc_type="not-a-knot")(points)
    return np.moveaxis(found, 0, axis)


def pixel_targets(rng, patch):
    samples = rng.normal(size=(2, 3, 3 * patch, 2 * patch)).astype(np.float32)
    found = {"samples": samples, "patch_size": np.array(patch)}
    mean, std = (np.array(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for denorm in (0, 1):
        pixels = samples * std + mean if denorm else samples.astype(np.float64)
        cut = pixels.reshape(2, 3, 3, patch, 2, patch).transpose(0, 2, 4, 3, 5, 1).reshape(2, 6, patch * patch, 3)
        flat = cut.reshape(2, 6, -1)
        mid = flat - flat.mean(-1, keepdims=True)
        by_channel = (cut - cut.mean(2, keepdims=True)) / (cut.std(2, ddof=1, keepdims=True) + 1e-6)
        targets = {
            "none": flat, "layernorm": mid / np.sqrt(flat.var(-1, keepdims=True) + 1e-6),
            "patch": mid / np.sqrt(flat.var(-1, ddof=1, keepdims=True) + 1e-6),
            "channel": by_channel.reshape(2, 6, -1), "channel_cfirst": by_channel.swapaxes(2, 3).reshape(2, 6, -1),
        }  # fmt: skip
        found.update({f"target_{name}_denorm{denorm}": value.astype(np.float32) for name, value in targets.items()})
    return found


# ---- records


def records_of(name):
    """JSON files of a set: {filename: content}."""
    tall = name == "golden_tall"
    return {
        "schedules.json": schedules(tall),
        "param_groups.json": groups(tall),
        "mask_stats.json": [mask_stats(args) for args in (TALL_MASKS if tall else WIDE_MASKS)],
        "augment_stats.json": crop_stats(tall),
    }


def schedules(tall):
    cosine = [
        {
            "base_value": 2e-3,
            "final_value": 1e-4,
            "epochs": 3,
            "niter_per_ep": 5,
            "warmup_epochs": 2,
            "warmup_steps": -1,
        },
        {"base_value": 0.3, "final_value": 0.0, "epochs": 2, "niter_per_ep": 9, "warmup_epochs": 0, "warmup_steps": -1},
        {"base_value": 0.1, "final_value": 0.02, "epochs": 5, "niter_per_ep": 3, "warmup_epochs": 1, "warmup_steps": 7},
    ]
    cosine = cosine[:2] if tall else cosine[1:]
    fine = {
        "lr": 3e-3,
        "min_lr": 0.0,
        "epochs": 3,
        "niter_per_ep": 5,
        "warmup_epochs": 1,
        "layer_decay": 0.8,
        "depth": 5,
    }
    probes = [
        {
            "blr": 0.2,
            "batch_size": 48,
            "accum_iter": 3,
            "world_size": 2,
            "epochs": 4,
            "warmup_epochs": 1,
            "min_lr": 0.01,
            "niter_per_ep": 5,
        },
        {
            "blr": 0.05,
            "batch_size": 10,
            "accum_iter": 3,
            "world_size": 1,
            "epochs": 3,
            "warmup_epochs": 2,
            "min_lr": 0.0,
            "niter_per_ep": 8,
        },
    ]
    names = ("base_value", "final_value", "epochs", "niter_per_ep", "warmup_epochs")
    return {
        "pretrain_cosine_scheduler": [
            {
                "args": args,
                "values": oracle.cosine_schedule(*(args[n] for n in names), warmup_steps=args["warmup_steps"]).tolist(),
            }
            for args in cosine
        ],
        "finetune_per_group_lr": {
            "args": fine,
            "base_lr": oracle.cosine_schedule(
                fine["lr"], fine["min_lr"], fine["epochs"], fine["niter_per_ep"], fine["warmup_epochs"]
            ).tolist(),
            "layer_scales": [fine["layer_decay"] ** (fine["depth"] + 1 - i) for i in range(fine["depth"] + 2)],
        },
        "linprobe": [probe_schedule(args) for args in (probes[:1] if tall else probes)],
    }


def probe_schedule(args):
    batch = args["batch_size"] * args["accum_iter"] * args["world_size"]
    base, count, values, rate = args["blr"] * batch / 256, args["niter_per_ep"], [], 0.0
    for position in range(args["epochs"] * count):
        epoch, i = divmod(position, count)
        if i % args["accum_iter"] == 0:
            rate = oracle.probe_rate(epoch + i / count, base, args["min_lr"], args["epochs"], args["warmup_epochs"])
        values.append(float(rate))
    return {"args": args, "eff_batch_size": batch, "absolute_lr": base, "values_per_data_iter": values}


def groups(tall):
    """Decay and rate of every parameter, by the authors' `get_parameter_groups`."""
    from tests.parity import make_golden

    sizes = {**make_golden.TALL, **make_golden.CLASSIFIER, "kind": "finetune", "rel_pos_bias": True, "depth": 2}
    if not tall:
        sizes.update(use_mean_pooling=True, qkv_bias=True, layer_scale_init_value=0.1)
    shapes = {n: v.shape for n, v in make_golden.classifier_weights(sizes, np.random.default_rng(0)).items()}
    args = {"depth": 2, "layer_decay": 0.75, "wd": 0.1, "disable": not tall}
    skipped = ["cls_token", "pos_embed"] if not tall else ["patch_embed.proj.weight", "blocks.1.mlp.fc1.weight"]
    if tall:
        args["no_weight_decay"] = skipped
    frozen = ["pos_embed"]

    def settings(name):
        layer = 0 if name.startswith(("cls_token", "patch_embed", "pos_embed")) else 3
        layer = int(name.split(".")[1]) + 1 if name.startswith("blocks.") else layer
        off = name in skipped or (args["disable"] and name.endswith("relative_position_bias_table"))
        decayed = len(shapes[name]) > 1 and not name.endswith(".bias") and not off
        return {"lr_scale": 0.75 ** (3 - layer), "weight_decay": 0.1 if decayed else 0.0}

    case = {
        "layer_scales": [0.75 ** (3 - i) for i in range(4)],
        "params": {name: settings(name) for name in shapes if name not in frozen},
        "frozen": frozen,
    }
    other = {"depth": 9, "layer_decay": 0.5, "wd": 1.0, "disable": False}
    return {"args": other, "finetune_own_args": {**case, "args": args}}


TALL_MASKS = [
    {"type": "block", "input_size": [9, 4], "num_masking_patches": 17, "min_num_patches": 3, "max_num_patches": 9},
    {"type": "random", "input_size": [9, 4], "ratio_masking_patches": 0.7},
]
WIDE_MASKS = [
    {"type": "block", "input_size": [4, 10], "num_masking_patches": 12, "min_num_patches": 2, "max_num_patches": None}
]


def block_mask(args, rng):
    """The authors' `MaskingGenerator`."""
    (rows, columns), total = args["input_size"], args["num_masking_patches"]
    mask, done = np.zeros((rows, columns), int), 0
    largest = args["max_num_patches"] or total
    ratios = (math.log(0.3), math.log(1 / 0.3))
    while done < total:
        room, added = min(total - done, largest), 0
        for _ in range(10):
            area = rng.uniform(args["min_num_patches"], room)
            ratio = math.exp(rng.uniform(*ratios))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if w >= columns or h >= rows:
                continue
            top, left = rng.randint(0, rows - h), rng.randint(0, columns - w)
            block = mask[top : top + h, left : left + w]
            fresh = block.size - block.sum()
            if 0 < fresh <= room:
                block[:] = 1
                added = int(fresh)
                break
        done += added
    return mask


def mask_stats(args):
    rng, rows, columns = random.Random(7), *args["input_size"]
    masks = []
    for _ in range(DRAWS):
        if args["type"] == "block":
            masks.append(block_mask(args, rng))
            continue
        count = int(args["ratio_masking_patches"] * rows * columns)
        flat = [1] * count + [0] * (rows * columns - count)
        rng.shuffle(flat)
        masks.append(np.array(flat).reshape(rows, columns))
    masks = np.array(masks)
    numbers, times = np.unique(masks.sum(axis=(1, 2)), return_counts=True)
    counts = {str(number): int(time) for number, time in zip(numbers, times)}
    frequency = masks.mean(axis=0).round(5).tolist()
    return {"args": args, "stats": {"draws": DRAWS, "counts_per_draw": counts, "marginal_frequency": frequency}}


def crop_stats(tall):
    """Statistics of the retrying crop and of the clamped crop, which has another scale."""
    size = (120, 260) if tall else (500, 180)
    whole = {"image_wh": list(size), "scale": [0.3, 0.9], "ratio": [0.5, 1.5], "draws": DRAWS}
    part = {"scale": [0.2, 1.0], "ratio": [0.75, 4 / 3]}
    regions = retried(size, whole)
    area, aspect = shares(regions, size)
    room = {axis: size[axis] - regions[:, 2 + axis] for axis in (0, 1)}
    places = {axis: (regions[:, axis] / np.maximum(room[axis], 1))[room[axis] > 0].mean() for axis in (0, 1)}
    cut = clamped(size, part)
    return {
        **whole, **quantiles(area, aspect), "area_fraction_mean": float(area.mean()),
        "log_aspect_mean": float(aspect.mean()), "top_fraction_of_range_mean": float(places[1]),
        "left_fraction_of_range_mean": float(places[0]),
        "min_max": {n: [float(regions[:, c].min()), float(regions[:, c].max())] for c, n in enumerate("jiwh")},
        "linprobe_random_resized_crop": {
            **part, **quantiles(*shares(cut, size)),
            "fraction_clamped_to_full_width": float((cut[:, 2] == size[0]).mean()),
            "fraction_clamped_to_full_height": float((cut[:, 3] == size[1]).mean()),
        },
    }  # fmt: skip


def shares(regions, size):
    return regions[:, 2] * regions[:, 3] / (size[0] * size[1]), np.log(regions[:, 2] / regions[:, 3])


def quantiles(area, aspect):
    levels = ("0.05", "0.25", "0.5", "0.75", "0.95")
    return {
        name: {level: float(np.quantile(values, float(level))) for level in levels}
        for name, values in (("area_fraction_quantiles", area), ("log_aspect_w_over_h_quantiles", aspect))
    }


def sides(size, rng, settings):
    area = size[0] * size[1] * rng.uniform(*settings["scale"])
    ratio = math.exp(rng.uniform(*(math.log(r) for r in settings["ratio"])))
    return round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))


def retried(size, settings):
    """timm's and torchvision's random resized crop: ten tries, then the largest central region."""
    rng, found = random.Random(3), []
    for _ in range(DRAWS):
        for _ in range(10):
            w, h = sides(size, rng, settings)
            if w <= size[0] and h <= size[1]:
                found.append((rng.randint(0, size[0] - w), rng.randint(0, size[1] - h), w, h))
                break
        else:
            w, h, (low, high) = *size, settings["ratio"]
            w, h = (w, round(w / low)) if w / h < low else (round(h * high), h) if w / h > high else (w, h)
            found.append(((size[0] - w) // 2, (size[1] - h) // 2, w, h))
    return np.array(found)


def clamped(size, settings):
    """The crop of MAE's and CAE's linear probe: one try, cut at the border."""
    rng, found = random.Random(4), []
    for _ in range(DRAWS):
        w, h = sides(size, rng, settings)
        w, h = min(w, size[0]), min(h, size[1])
        found.append((rng.randint(0, size[0] - w), rng.randint(0, size[1] - h), w, h))
    return np.array(found)
