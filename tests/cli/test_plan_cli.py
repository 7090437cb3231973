"""Command line of the verb `plan`."""

import json
from pathlib import Path

import pytest

from plsc import runtime
from plsc.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPE = str(ROOT / "configs" / "cae" / "cae_vit_base_pretrain_in1k_800e.yaml")


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run `plsc plan ...` in an empty folder; return the exit code and the output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "setup", lambda num_threads=None: {})

    def run(*arguments, config=RECIPE):
        code = main(["plan", "-c", config, *arguments])
        return (code, *capsys.readouterr())

    return run


def test_a_plan_is_a_table(cli, tmp_path):
    code, out, _ = cli("--devices", "8", "--nodes", "4", "--gpu", "a100-40g")
    assert code == 0
    for wanted in (
        "4 x 8 a100-40g, 40 GiB each",
        "global batch 2,048 = 64 a device x 32 devices x 1 micro-batches; 500,000 steps (800 epochs)",
        "optimizer shared by 8 (sharding_degree: 8)",
        "O1+recompute",
        "all-reduce: 1,152 MB a step and device",
        "recompute: encoder.blocks.*, regressor.blocks.*, decoder.blocks.*",
        "note: training set not found, so its known size is assumed (1,281,167 images)",
    ):
        assert wanted in out
    assert not list(tmp_path.iterdir())


def test_columns_are_aligned(cli):
    lines = cli("--gpu", "t4", "--devices", "1", "--batch", "32")[1].splitlines()
    table = lines[lines.index(next(line for line in lines if line.startswith("GiB a device"))) :]
    table = table[: table.index("")]
    assert len({len(line) for line in table}) == 1


def test_json_holds_the_same(cli):
    data = json.loads(cli("--gpu", "h100-80g", "--devices", "8", "--batch", "128", "--images", "20480", "--json")[1])
    assert data["work"]["batch"] == 128 and data["work"]["steps"] == 800 * 10
    own = data["variants"][0]
    assert own["level"] == "O1" and own["fits"] and own["memory"]["total"] > own["memory"]["activations"]


def test_a_measured_cost_model_is_used(cli, tmp_path):
    path = tmp_path / "benchmark.json"
    model = {"seconds": 1.0, "seconds_per_flops": 0.0, "seconds_per_activation_bytes": 0.0}
    path.write_text(json.dumps({"results": {"scaling": {"cost_model": model}}}))
    data = json.loads(cli("--gpu", "cpu", "--measured", str(path), "--batch", "8", "--json")[1])
    assert data["variants"][0]["seconds"]["forward and backward"] == 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "0"], "--devices must be at least 1, got 0"),
        (["--nodes", "-1"], "--nodes must be at least 1, got -1"),
        (["--batch", "0"], "--batch must be at least 1, got 0"),
        (["--bandwidth", "0"], "--bandwidth must be above 0"),
        (["--efficiency", "1.5"], r"--efficiency must be in (0, 1], got 1.5"),
        (["--gpu", "a100"], "no device is called 'a100'; did you mean a100-"),
        (["--batch", "96"], "Global.global_batch_size: 2048 is not a multiple of 96"),
        (["--images", "5"], "the training set has 5 images, fewer than the global batch of 2048"),
        (["--measured", "missing.json"], "missing.json"),
        (["-o", "Model.encoder.detph=3"], "did you mean 'depth'?"),
    ],
)
def test_mistakes_are_named(cli, arguments, message):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "") and message in err


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not a JSON file"), ("[]", "has no results.scaling.cost_model"), ('{"results": {}}', "cost_model")],
)
def test_a_foreign_file_is_no_measurement(cli, tmp_path, content, message):
    path = tmp_path / "other.json"
    path.write_text(content)
    code, _, err = cli("--measured", str(path))
    assert code == 2 and message in err
