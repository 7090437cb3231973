"""What makes a documented command small enough for a test, and which commands are not run: all of it is in here."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Mapping, Sequence

from plsc.cli import VERBS
from plsc.config import files as config_files

NO_NETWORK = "installs or fetches packages"
NOT_RUN = {
    "git clone REPOSITORY plsc && cd plsc": NO_NETWORK,
    "python3 -m venv .venv && . .venv/bin/activate": "the tests have their environment",
    "pip install -e '.[cpu]'": NO_NETWORK,
    "pip install -e '.[gpu]'": NO_NETWORK,
    "pip install ./toy_plugin": "tests/plugins builds the package and trains it",
    "make test": "is these tests",
    "OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests/losses": "is a part of these tests",
    ".venv/bin/ruff check .": "is a part of `make test`",
    ".venv/bin/ruff format plsc tests tools": "changes files",
    ".venv/bin/mypy": "is a part of `make test`",
    "pip install pre-commit && pre-commit install": NO_NETWORK,
    'master=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):37777': "asks Slurm",
}
OPTIONAL = {"onnx": "onnxruntime"}  # a command with this word needs this package
# Placeholders; and, in any word: steps that a short run does not reach, the width of a toy encoder, few images.
WORDS = {"CONFIG": "configs/quickstart/scratch.yaml", "RUN": "output/quickstart/finetune"}
REPLACED = {
    r"checkpoints/step_\d+$": "checkpoints/latest",
    r"in_features: 64\b": "in_features: 16",
    r"loader\.batch_size=\d+$": "loader.batch_size=2",
}
# Options that are added to a tool's command.
DIGITS = ["--data", "mnist", "--output", "runs"]
SHORT = ["Global.max_train_step=2", "DataLoader.Train.loader.batch_size=8"]
OPTIONS = {
    "benchmark": ["--seconds", "0.2"],
    "evaluate-frozen": ["--epochs", "2"],
    "sweep": ["--dry-run"],
    "prepare": ["--out", "mnist"],
    "quickstart": [*DIGITS, "-o", *SHORT],
    "evidence": [*DIGITS, "--results", "results", "--seeds", "0", "--changes", "random codes as targets", "-o", *SHORT],
}
WHOLE = ("plan", "doctor", "convert", "report", "replay")  # need nothing to be small
UNTOUCHED = ("--print-config", "--list")
STEPS = ["Global.device=cpu", "Global.progress=none", "Global.max_train_step=2", "Global.global_batch_size=null"]
STEPS += ["Global.resume=null"]
ENCODER = {"embed_dim": 16, "depth": 2, "num_heads": 2}


def smaller(path: Any, overrides: Sequence[str] = ()) -> List[str]:
    """Overrides that make a run of a config take seconds; what the user overrides comes after them and wins."""
    tree = config_files.load(path, overrides)
    changes = [*STEPS, "DataLoader.Train.loader.batch_size=2", "DataLoader.Train.loader.num_workers=0"]
    if tree["DataLoader"].get("Eval"):
        changes += ["DataLoader.Eval.loader.batch_size=4", "DataLoader.Eval.loader.num_workers=0"]
    if (tree.get("Tokenizer") or {}).get("name") == "DVAETokenizer":
        changes.append("Model.vocab_size=8")
    return changes + _narrower(tree["Model"])


def _narrower(model: Mapping[str, Any]) -> List[str]:
    if model["name"] == "DiscreteVAE":
        return ["Model.vocab_size=8", "Model.width=8"]
    changes = []
    if model.get("encoder", {}).get("name") == "ViT":
        changes += [f"Model.encoder.{key}={value}" for key, value in ENCODER.items()]
        if "in_features" in model.get("head", {}):
            changes.append(f"Model.head.in_features={ENCODER['embed_dim']}")
    return changes


def words_of(command: str) -> List[str]:
    """A command's words without comment, redirection and what follows `||`, placeholders filled in."""
    words = shlex.split(command, comments=True)
    ends = [index for index, word in enumerate(words) if word in (">", "||")]
    return [_replaced(WORDS.get(word, word)) for word in words[: min(ends, default=len(words))]]


def _replaced(word: str) -> str:
    for pattern, text in REPLACED.items():
        word = re.sub(pattern, text, word)
    return word


def lacks(command: str) -> str:
    """The package that a command needs and that is not installed; empty if there is none."""
    needed = [package for word, package in OPTIONAL.items() if word in words_of(command)]
    return next((package for package in needed if importlib.util.find_spec(package) is None), "")


def verb_of(word: str) -> str:
    return Path(word).stem.replace("_", "-")


def arguments_of(verb: str, arguments: Sequence[str]) -> List[str]:
    """A verb's arguments, made small."""
    given = list(arguments)
    if verb in WHOLE or set(UNTOUCHED) & set(given):
        return given
    options = OPTIONS.get(verb, [])
    if "-c" not in given:
        return [*given, *options]
    return ["-o", *smaller(given[given.index("-c") + 1], _overrides(given)), *given, *options]


def _overrides(arguments: Sequence[str]) -> List[str]:
    """What follows each `-o`."""
    taken, taking = [], False
    for word in arguments:
        taking = word == "-o" or (taking and not word.startswith("-"))
        if taking and word != "-o":
            taken.append(word)
    return taken


def run(command: str, cli: Any, folder: Path) -> None:
    """Runs a documented command in `folder`, a verb in this process; an error if it fails or is of no known kind."""
    words = words_of(command)
    if "paddle.distributed.launch" in words:
        words = ["python", *words[words.index("tools/train.py") :], "--dry-run"]
    if words[0] == "make":
        made = subprocess.run(["make", "-n", words[1]], cwd=_root(), capture_output=True, text=True, check=True).stdout
        for line in made.splitlines():
            if "tools/" in line:
                run(line[line.index("python ") :], cli, folder)
    elif words[0] == "tools/launch_local.sh":
        _process([*words[:2], *arguments_of("train", words[2:])], folder)
    elif words[0] == "plsc" or (words[0] == "python" and verb_of(words[1]) in VERBS):
        verb = verb_of(words[1])
        code, _, err = cli(verb, *arguments_of(verb, words[2:]))
        assert code == 0, err
    else:
        assert words[0] == "python" and words[1].startswith("tools/"), f"{command!r}: how is this run?"
        _process([sys.executable, *words[1:], *OPTIONS.get(verb_of(words[1]), [])], folder)


def _process(words: Sequence[str], folder: Path) -> None:
    from tests.integration.runs import environment

    surroundings = {**environment(), "PYTHON": sys.executable}
    done = subprocess.run(words, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _root() -> Path:
    return Path(__file__).resolve().parent.parent.parent
