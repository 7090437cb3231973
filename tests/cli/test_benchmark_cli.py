"""Command line of the verb `benchmark`."""

import json
from pathlib import Path

import pytest

from plsc import runtime
from plsc.benchmark import inputs, step
from plsc.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = str(ROOT / "configs" / "quickstart" / "finetune.yaml")
TINY = ["DataLoader.Train.loader.batch_size=4", "Model.encoder.depth=1"]


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run `plsc benchmark ...` in an empty folder; return the exit code and the output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "setup", lambda num_threads=None: {})
    monkeypatch.setattr(inputs, "DISTINCT", 2)
    monkeypatch.setattr(step, "PRODUCT", (8, 8, 8))

    def run(*arguments):
        try:
            code = main(["benchmark", *arguments])
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    return run


def measure(cli, *arguments):
    return cli("-c", CONFIG, "--phase", "step", "--seconds", "0.01", "-o", *TINY, *arguments)


def test_a_phase_is_printed_written_drawn_and_compared(cli, tmp_path):
    code, out, _ = measure(cli)
    assert code == 0
    assert "training step" in out and "backward" in out
    folder = tmp_path / "output" / "benchmark"
    assert f"written: {Path('output/benchmark/benchmark.json')}, {Path('output/benchmark/benchmark.png')}" in out
    result = json.loads((folder / "benchmark.json").read_text())
    assert list(result["results"]) == ["step"]
    assert result["command"] == {"config": CONFIG, "overrides": TINY}

    reference = ["--against", str(folder / "benchmark.json"), "--out", "again"]
    code, out, _ = measure(cli, *reference)
    assert code == 0 and "ratio" in out
    code, out, _ = measure(cli, *reference, "--fail-below", "1000000")
    assert code == 1 and "ratio" in out
    assert (tmp_path / "again" / "benchmark.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "nowhere.yaml"], "nowhere.yaml: no config file with this path"),
        (["-c", CONFIG, "-o", "Model.encoder.detph=3"], "did you mean 'depth'?"),
        (["-c", CONFIG, "--phase", "stap"], "invalid choice: 'stap'"),
        (["-c", CONFIG, "--fail-below", "0.9"], "--fail-below needs --against"),
        (["-c", CONFIG, "--against", "nowhere.json"], "nowhere.json"),
        (["-c", CONFIG, "--against", CONFIG], "is not a JSON file"),
        (["-c", CONFIG, "--phase", "step", "-o", "Model.encoder.embed_dim=30"], "30"),
        ([], "-c"),
    ],
)
def test_mistakes_end_with_code_2_and_no_traceback(cli, tmp_path, arguments, message):
    code, _, err = cli(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
