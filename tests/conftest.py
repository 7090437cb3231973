"""Finished toy runs, trained once for all tests that look at runs; counts, shown at the end of a session."""

from collections import Counter
from types import SimpleNamespace

import pytest

from plsc import runtime
from plsc.cli import main
from tests.integration.runs import ROOT, SMALL, SMALL_ENCODER, data, make_digits

SHORT = ["Global.epochs=2", "LRScheduler.warmup_epochs=0", "Model.head.in_features=16", "Model.head.num_classes=2"]
PIXELS = ["Tokenizer={_delete_: true, name: PixelTarget, patch_size: 4}", "Model.vocab_size=48"]
PIXELS += ["Loss.main=mse", "Global.epochs=1", "Callbacks.0.every_epochs=1"]


class Tally:
    """What tests count over a session, such as inputs tried or faults survived, by name."""

    def __init__(self):
        self.counts = Counter()

    def add(self, name, count=1):
        """Adds to a count; zero makes it appear all the same."""
        self.counts[name] += count

    def lines(self):
        return [f"{count:>12,}  {name}" for name, count in self.counts.items()]


TALLY = pytest.StashKey[Tally]()


def pytest_configure(config):
    config.stash[TALLY] = Tally()


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash[TALLY].lines()
    if lines:
        terminalreporter.section("counts")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def tally(pytestconfig):
    """Counts that the session ends with: `tally.add("inputs tried", 100)`; not collected from processes of xdist."""
    return pytestconfig.stash[TALLY]


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
