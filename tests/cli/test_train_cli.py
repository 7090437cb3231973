"""Command line of the verb `train`: help, errors, printing, listing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from plsc import runtime
from plsc.cli import main
from plsc.config.files import load
from plsc.config.tree import parse

ROOT = Path(__file__).resolve().parent.parent.parent
PRETRAIN = "configs/quickstart/pretrain.yaml"
SCRATCH = "configs/quickstart/scratch.yaml"


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run `plsc ...` in an empty folder; return the exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "setup", lambda num_threads=None: {})

    def run(*arguments):
        try:
            code = main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    return run


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["eval", "--help"], ["nonsense"], ["train"]])
def test_help_and_wrong_usage_import_no_paddle(arguments):
    code = f"""
import sys
from plsc.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
assert "paddle" not in sys.modules and "numpy" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "usage: plsc" in result.stdout + result.stderr


def test_mistakes_are_named_all_at_once_by_the_script_itself(tmp_path):
    overrides = ["Optimizer.weigth_decay=0.1", "Model.encoder.detph=3", f"Global.output_dir={tmp_path / 'out'}"]
    command = [sys.executable, "tools/train.py", "-c", PRETRAIN, "-o", *overrides]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error: 2 problems",
        "-o Model.encoder.detph=3: Model.encoder.detph: ViT has no argument 'detph'; did you mean 'depth'?",
        "-o Optimizer.weigth_decay=0.1: Optimizer.weigth_decay: AdamW has no argument 'weigth_decay'; "
        "did you mean 'weight_decay'?",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "nowhere.yaml"], "error: nowhere.yaml: no config file with this path"),
        (["-c", "configs/quickstart/pretrian.yaml"], "did you mean configs/quickstart/pretrain.yaml?"),
        (["-c", PRETRAIN, "-o", "pretrained_model=x"], "did you mean Init.checkpoint?"),
        (["-c", PRETRAIN, "-o", "Global.epochs"], "error: -o Global.epochs: an override must be key=value"),
        (["-c", PRETRAIN, "-o", "imports=[no_such_module]"], "'no_such_module' cannot be imported"),
        (["-c", PRETRAIN, "-o", "Optimizer.name=SGD", "Optimizer.layer_decy=1"], "did you mean 'layer_decay'?"),
        (["--list", "optimiser"], "unknown kind; did you mean 'optimizer'? allowed: all, task, model"),
    ],
)
def test_mistakes_end_with_code_2_and_no_traceback(cli, tmp_path, arguments, message):
    code, out, err = cli("train", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_several_o_count_in_any_grouping(cli):
    first, second = ["Optimizer.beta1=0.5", "Optimizer.beta2=0.6"], ["Global.seed=3"]
    options = ["-o", *first, "-o", *second, "--print-config", "-o", "Optimizer.weight_decay=1e-3"]
    code, out, _ = cli("train", "-c", SCRATCH, *options)
    printed = parse(out, "printed")
    assert code == 0
    assert (printed["Optimizer"]["beta1"], printed["Optimizer"]["beta2"]) == (0.5, 0.6)
    assert printed["Optimizer"]["weight_decay"] == 0.001
    assert printed["Global"]["seed"] == 3


def test_the_printed_config_is_the_config_with_origins(cli):
    code, out, _ = cli("train", "-c", SCRATCH, "-o", "Global.output_dir=a b", "--print-config")
    assert code == 0
    assert parse(out, "printed") == load(SCRATCH, ["Global.output_dir=a b"])
    assert re.search(r"  output_dir: a b +# -o Global.output_dir=a b\n", out)
    assert re.search(r"    embed_dim: 64 +# .*_base_/models/vit_digits.yaml:\d+\n", out)


def test_a_config_with_mistakes_is_still_printed(cli):
    code, out, err = cli("train", "-c", SCRATCH, "-o", "Optimizer.weigth_decay=1", "--print-config")
    assert code == 2
    assert "weigth_decay: 1" in out
    assert "did you mean 'weight_decay'?" in err


def test_debug_shows_the_traceback(cli):
    _, _, err = cli("train", "-c", "nowhere.yaml", "--debug")
    assert "Traceback" in err
    assert "plsc/config/files.py" in err.replace("\\", "/")


def test_a_reader_that_ends_early_is_not_an_error():
    code = """
import sys, types
from plsc import cli
sys.modules["plsc.cli.train"] = types.SimpleNamespace(main=lambda rest: print("x\\n" * 100_000) or 0)
raise SystemExit(cli.main(["train"]))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    process.stderr.close()


@pytest.mark.parametrize("kind", ["optimizer", "optimizers", "Optimizer"])
def test_list_shows_names_signatures_and_help(cli, kind):
    code, out, _ = cli("train", "--list", kind)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "# optimizer"
    assert lines[1].startswith("AdamW(weight_decay: float = 0.05, ")
    assert "model" not in lines[1]  # comes from the engine
    assert any(line.startswith("    Adam with decoupled weight decay") for line in lines)


def test_list_all_shows_every_kind_with_one_line_of_help_each(cli):
    code, out, _ = cli("train", "--list", "all")
    assert code == 0
    kinds = [line[2:] for line in out.splitlines() if line.startswith("# ")]
    assert kinds[:6] == ["task", "model", "tokenizer", "mask_generator", "loss", "dataset"]
    assert kinds[6:] == ["transform", "batch_transform", "optimizer", "lr_scheduler", "metric", "callback"]
    undocumented = re.findall(r"^(\w+)\(.*\n(?: {8}.*\n)* {4}$", out, re.MULTILINE)
    assert undocumented == []


def test_list_includes_what_the_config_imports(cli, tmp_path):
    (tmp_path / "listed_masks.py").write_text(
        "from plsc.config.registry import MASK_GENERATORS\n\n@MASK_GENERATORS.register()\n"
        "class ListedMask:\n    '''Hides nothing.'''\n    def __init__(self, grid: int): ...\n",
        encoding="utf-8",
    )
    (tmp_path / "mine.yaml").write_text("imports: [listed_masks]", encoding="utf-8")
    code, out, _ = cli("train", "-c", "mine.yaml", "--list", "MaskGenerator")
    assert code == 0
    assert "ListedMask(grid: int)\n    Hides nothing.\n" in out


RUNNABLE = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if "_base_" not in path.parts)


def test_every_shipped_config_opens_with_the_command_that_runs_it():
    for path in RUNNABLE:
        opening = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        assert str(path.relative_to(ROOT)) in "\n".join(opening), path
