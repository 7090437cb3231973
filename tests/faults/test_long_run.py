"""20,000 steps with workers, evaluation, checkpoints and a report: only the logs grow."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.reader import Checkpoint
from tests.faults.scenes import size_of
from tests.faults.test_signals import start
from tests.integration.runs import make_digits, metrics

STEPS, KEEP = 20_000, 3
SETTINGS = [
    "Global.epochs=null", f"Global.steps={STEPS}", "Global.save_every_steps=500",
    f"Global.keep_last={KEEP}", "Global.eval_every_epochs=5", "Global.log_every_steps=20", "Global.report=true",
    "Model.encoder.image_size=8", "Model.encoder.embed_dim=8", "Model.encoder.depth=1", "Model.head.in_features=8",
    "DataLoader.Train.transforms=[]", "DataLoader.Eval.transforms=[]", "DataLoader.Train.loader.batch_size=2",
    "DataLoader.Train.loader.num_workers=2", "DataLoader.Train.loader.on_bad_image=skip",
    "DataLoader.Eval.loader.num_workers=1", "DataLoader.Eval.loader.batch_size=50",
]  # fmt: skip


def measure(pid, run):
    """Steps taken, and of the training process: resident MiB, open files, threads; MiB of checkpoints, of the rest."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        status = dict(line.split(":", 1) for line in file)
    with open(run / "metrics.jsonl", encoding="utf-8") as file:
        step = json.loads(file.read().splitlines()[-1])["step"]
    files = len(os.listdir(f"/proc/{pid}/fd"))
    kept, whole = size_of(run / "checkpoints"), size_of(run)
    return step, int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"]), kept / 2**20, whole - kept


@pytest.mark.slow
def test_memory_and_files_do_not_grow_over_twenty_thousand_steps(tmp_path, tally):
    images = make_digits(tmp_path / "images", per_class=200, size=8)
    (images / "train" / "1" / "7.png").write_bytes(b"bad")
    run, samples = tmp_path / "run", []
    process = start(images, run, *SETTINGS)
    while process.poll() is None:
        time.sleep(0.5)
        try:
            samples.append(measure(process.pid, run))
        except (OSError, IndexError, KeyError, ValueError):
            continue  # missing, or an incomplete line
    assert process.returncode == 0, process.stdout.read()
    found = np.array(samples)
    steps, memory, files, threads, kept, logs = found.T
    late = steps > STEPS / 2
    training = late & (steps < STEPS)  # after the last step, the report needs more memory, once
    slope = np.polyfit(steps[training], memory[training], 1)[0] * 1000
    one = size_of(Checkpoint.open(run).path) / 2**20
    print(f"\n{len(found)} samples; memory {memory[training][0]:.1f} MiB at half time, {memory[training][-1]:.1f} at "
          f"the last step, slope {slope:+.3f} MiB per 1,000 steps; open files {np.median(files[late]):.0f}, at most "
          f"{files.max():.0f}; threads {np.median(threads[late]):.0f}, at most {threads.max():.0f}; checkpoints at "
          f"most {kept.max():.2f} MiB of {one:.2f}; logs {logs[-1] / STEPS:.1f} bytes a step")  # fmt: skip
    assert slope < 1.0
    assert np.median(files[late]) <= np.median(files[~late]) + 1 and files[late].max() <= files[~late].max() + 4
    assert threads[late].max() <= threads[~late].max() + 2
    assert kept.max() <= (KEEP + 3) * one  # the best, the one being written, one being deleted
    assert len(checkpoint_files.checkpoints(run / "checkpoints")) <= KEEP + 1
    assert logs[-1] < 200 * STEPS, "logs grow with the steps; this is how much"
    assert metrics(run)[-1]["step"] == STEPS and (run / "report.html").is_file()
    assert not list(Path("/dev/shm").glob(f"paddle_{process.pid}_*"))
    tally.add("steps of the long run", STEPS)
