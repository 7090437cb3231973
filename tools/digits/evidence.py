#!/usr/bin/env python
"""Measure the gain of pre-training on digits: probes, fine-tuning with few labels and one-change ablations.

    python tools/digits/prepare.py && python tools/digits/evidence.py

Pre-trains with three seeds, pre-trains again with one setting of the recipe changed at a time, evaluates all encoders,
and writes docs/results.md with its plots. Hyperparameters are selected on a validation part of the training images; the
held-out images are evaluated once, at the end. Completed runs are skipped; an interrupted run continues.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from plsc.runtime import available_cores  # noqa: E402
from plsc.sweep.jobs import Job, Stopped, run_jobs  # noqa: E402

SEEDS = (0, 1, 2)
RATES = ("1.0e-3", "2.0e-3", "4.0e-3")  # learning rates tried for fine-tuning and for training from scratch
PIXELS = "{_delete_: true, name: PixelTarget, patch_size: 4, normalize: layernorm}"
CODES = "{_delete_: true, name: RandomTokenizer, vocab_size: 128, patch_size: 4}"
BLOCKS = "{_delete_: true, name: BlockMask, grid: [8, 8], num_masked: 40, min_block: 6}"
RECIPE = "the recipe unchanged"
# Name of the change -> overrides of configs/evidence/pretrain.yaml.
CHANGES: Dict[str, Sequence[str]] = {
    RECIPE: [],
    "no alignment": ["Loss.alignment_weight=0"],
    "alignment weight 2, as for ImageNet": ["Loss.alignment_weight=2.0"],
    "teacher is the encoder (EMA 0)": ["Model.teacher_momentum=0"],
    "teacher EMA 0.996": ["Model.teacher_momentum=0.996"],
    "half of the patches masked": ["MaskGenerator.num_masked=32"],
    "three quarters masked": ["MaskGenerator.num_masked=48"],
    "block masks": [f"MaskGenerator={BLOCKS}"],
    "pixels as targets": [f"Tokenizer={PIXELS}", "Model.vocab_size=48", "Loss.main=mse"],
    "random codes as targets": [f"Tokenizer={CODES}"],
    "two regressor blocks": ["Model.regressor_depth=2"],
    "two decoder blocks": ["Model.decoder_depth=2"],
}
CHANGE_EPOCHS = 10  # length of these runs: they are compared with each other only
# Percentage of the labels -> (fraction, optimizer steps, batch size).
SHARES: Dict[str, Tuple[float, int, int]] = {"1%": (0.01, 400, 40), "10%": (0.1, 400, 40), "100%": (1.0, 744, 64)}


class Plan:
    """Jobs in two stages: the second stage depends on the learning rates selected in the first.

    Args:
        data: Folder with `train` and `val`.
        output: Folder of the runs.
        extra: Overrides of every training run, such as a shorter length.
        seeds: Seeds of the main runs.
        changes: Names in CHANGES to run; the unchanged recipe always runs.
    """

    def __init__(
        self,
        data: Path,
        output: Path,
        extra: Sequence[str] = (),
        seeds: Sequence[int] = SEEDS,
        changes: Sequence[str] = tuple(CHANGES),
    ) -> None:
        self.train_set, self.test_set = data / "train", data / "val"
        self.output, self.extra, self.seeds = output, list(extra), seeds
        self.changes = [name for name in CHANGES if name == RECIPE or name in changes]

    def first(self) -> List[Job]:
        """Return the jobs for tokenizer, pre-training, frozen evaluation and learning rate selection."""
        jobs = [self._train("tokenizer", "tokenizer", self._data(evaluation=True))]
        jobs += [self._pretrain(f"pretrain_{seed}", seed) for seed in self.seeds]
        short = f"Global.epochs={CHANGE_EPOCHS}"
        jobs += [self._pretrain(slug(name), self.seeds[0], [short, *CHANGES[name]]) for name in self.changes]
        for seed in self.seeds:
            name = f"pretrain_{seed}"
            jobs.append(self._frozen(f"frozen_{seed}", seed, self._checkpoint(name), (name,)))
            jobs.append(self._frozen(f"frozen_random_{seed}", seed, "null", ()))
        for name in self.changes:
            where = self._checkpoint(slug(name))
            jobs.append(self._frozen(f"frozen_{slug(name)}", self.seeds[0], where, (slug(name),), validation=True))
        for kind in ("finetune", "scratch"):
            jobs += [self._supervised(kind, "10%", self.seeds[0], rate, validation=True) for rate in RATES]
        return jobs

    def second(self, rates: Dict[str, str]) -> List[Job]:
        """Return the jobs for fine-tuning, training from scratch and probes of intermediate checkpoints.

        Args:
            rates: Selected learning rate of `finetune` and of `scratch`.
        """
        jobs = [
            self._supervised(kind, share, seed, rates[kind])
            for share in SHARES
            for seed in self.seeds
            for kind in ("finetune", "scratch")
        ]
        for step in self.steps_on_the_way():
            where = self.output / f"pretrain_{self.seeds[0]}" / "checkpoints" / f"step_{step:08d}"
            name = f"frozen_step_{step}"
            jobs.append(self._frozen(name, self.seeds[0], where, (), validation=True))
        return jobs

    def steps_on_the_way(self) -> List[int]:
        """Return the steps of the checkpoints kept by the first pre-training run, without the last one."""
        folder = self.output / f"pretrain_{self.seeds[0]}" / "checkpoints"
        return sorted(int(path.name[len("step_") :]) for path in folder.glob("step_*"))[:-1]

    def _checkpoint(self, name: str) -> Path:
        return self.output / name

    def _data(self, evaluation: bool) -> List[str]:
        found = [f"DataLoader.Train.dataset.root={self.train_set}"]
        return found + ([f"DataLoader.Eval.dataset.root={self.test_set}"] if evaluation else [])

    def _command(self, verb: str, config: str, name: str, overrides: Sequence[str], *options: str) -> Tuple[str, ...]:
        own = [f"Global.output_dir={self.output / name}", "Global.num_threads=1", *overrides]
        path = f"configs/evidence/{config}.yaml"
        return (sys.executable, "-m", "plsc", verb, "-c", path, *options, "-o", *own)

    def _train(self, name: str, config: str, overrides: Sequence[str], needs: Sequence[str] = ()) -> Job:
        command = self._command("train", config, name, [*overrides, *self.extra])
        return Job(name, command, self.output / name, tuple(needs))

    def _pretrain(self, name: str, seed: int, changes: Sequence[str] = ()) -> Job:
        given = any(change.startswith("Tokenizer=") for change in changes)
        own = [] if given else [f"Tokenizer.checkpoint={self.output / 'tokenizer'}"]
        overrides = [f"Global.seed={seed}", *self._data(evaluation=False), *own, *changes]
        return self._train(name, "pretrain", overrides, () if given else ("tokenizer",))

    def _frozen(self, name: str, seed: int, checkpoint: Any, needs: Sequence[str], validation: bool = False) -> Job:
        overrides = [f"Global.seed={seed}", f"Init.checkpoint={checkpoint}", *self._data(evaluation=True)]
        options = ["--json", str(self.output / name / "results.json")]
        options += ["--validation-only", "--protocols", "knn", "linear"] if validation else []
        sizes = [text for text in self.extra if text.startswith("Model.encoder.")]
        command = self._command("evaluate-frozen", "frozen", name, [*overrides, *sizes], *options)
        return Job(name, command, self.output / name, tuple(needs))

    def _supervised(self, kind: str, share: str, seed: int, rate: str, validation: bool = False) -> Job:
        fraction, steps, batch = SHARES[share]
        part = "part: train, " if validation else ""
        images = f"dataset: {{name: ImageFolder, root: {self.train_set}}}"
        few = f"{{_delete_: true, name: Subset, {part}fraction: {fraction:g}, seed: {seed}, {images}}}"
        held_out = f"{{_delete_: true, name: Subset, part: validation, seed: {seed}, {images}}}"
        overrides = [
            f"Global.seed={seed}",
            "Global.epochs=null",
            f"Global.steps={steps}",
            f"LRScheduler.learning_rate={rate}",
            f"DataLoader.Train.dataset={few}",
            f"DataLoader.Train.loader.batch_size={batch}",
            f"DataLoader.Eval.dataset={held_out}" if validation else f"DataLoader.Eval.dataset.root={self.test_set}",
        ]
        name = f"{kind}_{rate}_validation" if validation else f"{kind}_{share.strip('%')}_{seed}"
        needs: Tuple[str, ...] = ()
        if kind == "finetune":
            overrides.append(f"Init.checkpoint={self._checkpoint(f'pretrain_{seed}')}")
            needs = (f"pretrain_{seed}",) if validation else ()
        return self._train(name, kind, overrides, needs)


def slug(name: str) -> str:
    """Convert the name of a change to a folder name."""
    return "change_" + "".join(letter if letter.isalnum() else "_" for letter in name)


def top1(run: Path) -> float:
    """Return the last top-1 accuracy in a run's metrics.jsonl, in percent."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["top1"] for row in rows if row["split"] == "eval"][-1]


def best_rates(output: Path) -> Dict[str, str]:
    """Return the learning rate with the best validation accuracy for `finetune` and `scratch`."""
    return {
        kind: max(RATES, key=lambda rate: top1(output / f"{kind}_{rate}_validation"))
        for kind in ("finetune", "scratch")
    }


def main(argv: Optional[List[str]] = None) -> int:
    """Run all jobs and write the page; return the exit code, 1 if a job failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path("datasets/digits"), help="folder written by tools/digits/prepare.py"
    )
    parser.add_argument("--output", type=Path, default=Path("output/evidence"), help="folder for the runs")
    parser.add_argument("--results", type=Path, default=Path("docs"), help="folder for results.md and its plots")
    parser.add_argument(
        "--at-once", type=int, default=available_cores(), help="number of parallel runs, one thread each"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="seeds of the main runs")
    parser.add_argument("--changes", nargs="*", default=list(CHANGES), choices=list(CHANGES), metavar="NAME")
    parser.add_argument("-o", "--override", nargs="+", default=[], help="overrides for every training run")
    arguments = parser.parse_args(argv)
    os.chdir(ROOT)  # paths of configs are relative to it
    plan = Plan(arguments.data, arguments.output, arguments.override, arguments.seeds, arguments.changes)
    started = time.time()
    try:
        failed = run(plan, arguments.at_once)
    except Stopped as stopped:
        print(f"{stopped}; run the same command to continue", file=sys.stderr)
        return 128 + stopped.signal_number
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, reason in failed.items():
        print(f"{name}: {reason}", file=sys.stderr)
    if failed:
        return 1
    from tools.digits.evidence_report import write

    written = write(plan, arguments.results)
    print(f"{(time.time() - started) / 60:.0f} minutes; written: {', '.join(map(str, written))}")
    return 0


def run(plan: Plan, at_once: int) -> Dict[str, str]:
    """Run both stages; return the reason of each failed job by name."""
    environment = {"OMP_NUM_THREADS": "1"}

    def say(line: str) -> None:
        print(line, flush=True)

    failed = run_jobs(plan.first(), at_once, environment, say)
    return failed or run_jobs(plan.second(best_rates(plan.output)), at_once, environment, say)


if __name__ == "__main__":
    sys.exit(main())
