"""Hand-made output directories of runs."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

HOSTILE = "<script>alert(1)</script>\"'&"


def make_run(folder, name="run", task="Classification", text="plain", epochs=4, best=90.0):
    """Create a finished run whose strings contain `text`; return its directory."""
    run = Path(folder) / name
    (run / "pictures").mkdir(parents=True)
    quoted = json.dumps(text)
    (run / "config.yaml").write_text(
        f"Global:  # {text}\n  epochs: {epochs}  # base.yaml:{epochs}\n  output_dir: {quoted}\nTask:\n  name: {task}\n",
        encoding="utf-8",
    )
    versions = {"plsc": text, "paddle": "3.3.1", "device": "cpu"}
    environment = {**versions, "command": ["train", text], "runtime": {text: text}}
    (run / "env.json").write_text(json.dumps(environment), encoding="utf-8")
    with open(run / "metrics.jsonl", "w", encoding="utf-8") as file:
        for epoch in range(1, epochs + 1):
            at = {"step": 10 * epoch, "epoch": epoch, "time": 100.0 * epoch}
            train = {"loss": 1.0 / epoch, "images_per_second": 100.0, text: 1.0}
            file.write(json.dumps({**at, "split": "train", **train}) + "\n")
            file.write(json.dumps({**at, "split": "eval", "top1": best * epoch / epochs, "loss": 0.5}) + "\n")
    names = PngInfo()
    names.add_text("rows", json.dumps([text]))
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(run / "pictures" / "step_00000010.png", pnginfo=names)
    return run
