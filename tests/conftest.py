"""Finished toy runs, trained once for all tests that look at runs."""

from types import SimpleNamespace

import pytest

from plsc import runtime
from plsc.cli import main
from tests.integration.runs import ROOT, SMALL, SMALL_ENCODER, data, make_digits

SHORT = ["Global.epochs=2", "LRScheduler.warmup_epochs=0", "Model.head.in_features=16", "Model.head.num_classes=2"]
PIXELS = ["Tokenizer={_delete_: true, name: PixelTarget, patch_size: 4}", "Model.vocab_size=48"]
PIXELS += ["Loss.main=mse", "Global.epochs=1", "Callbacks.0.every_epochs=1"]


@pytest.fixture(scope="session")
def toy_runs(tmp_path_factory):
    """`train_probe(directory)`, and read-only paths: `images` with train/ and val/ of two classes, and the runs
    `classifier`, `tokenizer`, `pretrain` and `pixels`.
    """
    folder = tmp_path_factory.mktemp("toy_runs")
    images = make_digits(folder / "images", per_class=6)
    runs = SimpleNamespace(images=images, **{n: folder / n for n in ("classifier", "tokenizer", "pretrain", "pixels")})
    probe = [*data(images), *SMALL_ENCODER, *SHORT, f"Init.checkpoint={runs.pretrain}"]
    runs.train_probe = lambda output: _train("linprobe", output, probe)
    _train("tokenizer", runs.tokenizer, [*data(images), "Global.epochs=1", "Model.vocab_size=8", "Model.width=8"])
    _train("scratch", runs.classifier, [*data(images), *SMALL_ENCODER, *SHORT, "Global.report=true"])
    pretrain = [*data(images, evaluation=False), *SMALL_ENCODER, "Global.epochs=1", "Callbacks.0.every_epochs=1"]
    tokens = [f"Tokenizer.checkpoint={runs.tokenizer}", "Model.vocab_size=8"]
    _train("pretrain", runs.pretrain, [*pretrain, *tokens])
    _train("pretrain", runs.pixels, [*pretrain, *PIXELS])
    return runs


def _train(config, output, overrides):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "setup", lambda num_threads=None: {})
        settings = [*SMALL, f"Global.output_dir={output}", "Global.progress=none"]
        assert main(["train", "-c", str(ROOT / f"configs/quickstart/{config}.yaml"), "-o", *settings, *overrides]) == 0
    return output


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Runs `plsc ...` in an empty folder; returns the exit code and what was printed to stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "setup", lambda num_threads=None: {})

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    return run
