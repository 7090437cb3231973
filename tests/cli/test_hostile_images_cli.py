"""Decompression bombs: every verb that reads images names the file and ends."""

import json

import pytest

from tests.data.toys import jpeg_bomb, png_bomb

MESSAGE = "pixels, but the limit is 89,478,485 pixels"


@pytest.fixture(params=["pillow", "fast"])
def folder(request, tmp_path, toy_runs):
    """A folder of one class with a decompression bomb, and overrides for a run on it with one of the decoders."""
    root = tmp_path / "images"
    (root / "0").mkdir(parents=True)
    (root / "0" / "bomb.png").write_bytes(png_bomb(10_000, 9_000))
    (root / "0" / "bomb.jpg").write_bytes(jpeg_bomb(60_000, 60_000))
    decoder = f"decoder={request.param}"
    return root, [f"DataLoader.{part}.dataset.{key}" for part in ("Train", "Eval") for key in (f"root={root}", decoder)]


@pytest.mark.filterwarnings("ignore")
def test_each_verb(cli, toy_runs, folder):
    root, overrides = folder
    checkpoint = ["--checkpoint", toy_runs.classifier]
    code, out, _ = cli("predict", root, *checkpoint, "--format", "json")
    errors = [json.loads(line)["error"] for line in out.splitlines()]
    assert code == 1 and len(errors) == 2 and all(MESSAGE in error for error in errors)
    code, _, err = cli("extract-features", root, *checkpoint, "--out", "x.npz")
    assert code == 2 and MESSAGE in err and "Traceback" not in err
    code, _, err = cli("extract-features", "--split", "Eval", *checkpoint, "--out", "x.npz", "-o", *overrides)
    assert code == 2 and MESSAGE in err and "Traceback" not in err
    config = ["-c", toy_runs.classifier / "config.yaml", "-o", *overrides]
    code, out, _ = cli("doctor", *config)
    assert code == 1 and "problem  DataLoader.Train " in out and MESSAGE in out
    code, _, err = cli("train", *config, "Global.output_dir=run", "DataLoader.Train.loader.batch_size=2")
    assert code == 2 and MESSAGE in err and "Traceback" not in err
