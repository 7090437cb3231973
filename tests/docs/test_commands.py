"""What the pages tell to type is typed: every command, Python block and config, section by section, on toy runs."""

import contextlib
import re
import runpy
import shutil
import sys

import pytest

import plsc
from plsc import api, runtime
from plsc.cli import main
from plsc.config import files as config_files
from plsc.config import plugins, registry, schema
from plsc.config.registry import Registry
from plsc.config.tree import ConfigError, parse
from tests.docs import toy
from tests.docs.pages import ROOT, blocks, by_section, commands, shown
from tests.integration.runs import data

SLOW = {
    ("README.md", "Two commands"),
    ("docs/performance.md", "Performance"),
    ("docs/getting_started.md", "The digits"),
    ("docs/distributed.md", "Starting a job"),
    ("docs/results.md", "The commands"),
}
PLUGIN = ROOT / "tests" / "plugins" / "toy_plugin"
SOURCES = [path for path in PLUGIN.rglob("*.*") if path.suffix in (".py", ".yaml", ".toml")]
QUOTED = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
RUNS = {"tokenizer": "tokenizer", "pretrain": "pretrain", "finetune": "classifier", "scratch": "classifier"}
RUNS.update(linprobe="pretrain")
INCOMPLETE = re.compile("the config does not say, and|needs this section$")


def sections():
    for (page, section), parts in by_section().items():
        if any(part.language in ("sh", "console", "python", "yaml", "toml") for part in parts):
            marks = [pytest.mark.slow] if (page, section) in SLOW else []
            yield pytest.param(parts, id=f"{page.removeprefix('docs/')}-{section}".replace(" ", "_"), marks=marks)


@pytest.fixture(scope="session")
def earlier(toy_runs, tmp_path_factory):
    """Runs that pages take as given: one that broke off at gradients that were not finite, one on somebody's images."""
    folder = tmp_path_factory.mktemp("earlier")
    broken = [*data(toy_runs.images), "LRScheduler.learning_rate=9e18", "LRScheduler.warmup_epochs=0"]
    broken.append("Global.max_train_step=4")
    train("configs/quickstart/scratch.yaml", [*broken, f"Global.output_dir={folder / 'broken'}"], 1)
    own = [*data(toy_runs.images, evaluation=False), f"Global.output_dir={folder / 'own'}"]
    train("configs/cae/pretrain_image_folder.yaml", own)
    return folder


def train(path, overrides, code=0):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "setup", lambda num_threads=None: {})
        assert main(["train", "-c", path, "-o", *toy.smaller(path), *overrides]) == code


@pytest.fixture
def checkout(toy_runs, earlier, tmp_path, cli, monkeypatch):
    """A folder that looks like a checkout after the quickstart, with images of somebody's own."""
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    for name in ("configs", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    copies = {f"output/quickstart/{name}": getattr(toy_runs, source) for name, source in RUNS.items()}
    copies.update({"output/evidence/pretrain": toy_runs.pretrain, "output/image_folder/pretrain": earlier / "own"})
    copies["output/run/nonfinite/step_00001234"] = next((earlier / "broken" / "nonfinite").iterdir())
    copies.update({"datasets/digits": toy_runs.images, "my_images": toy_runs.images})
    copies["plsc_rotation"] = PLUGIN / "plsc_rotation"
    for target, source in copies.items():
        shutil.copytree(source, tmp_path / target)
    for part in ("train", "val"):
        shutil.copytree(toy_runs.images / part / "0", tmp_path / "datasets" / "digits" / part / "3")
    shutil.copy(toy_runs.images / "val" / "0" / "0.png", tmp_path / "datasets/digits/val/3/1502.png")
    for name in ("a.png", "b.png"):
        shutil.copy(toy_runs.images / "val" / "0" / "0.png", tmp_path / name)
    config_of_plugin = (PLUGIN / "plsc_rotation" / "rotation.yaml").read_text(encoding="utf-8")
    (tmp_path / "rotation.yaml").write_text(f"imports: [plsc_rotation]\n{config_of_plugin}", encoding="utf-8")
    monkeypatch.setattr(plsc, "train", lambda c, o=(): api.train(c, [*toy.smaller(c), *o]), raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with forgetting_components(tmp_path):
        yield tmp_path


@contextlib.contextmanager
def forgetting_components(folder):
    """Afterwards the modules of `folder` and what they have registered are unknown again."""
    known = {entries: dict(entries._components) for entries in vars(registry).values() if isinstance(entries, Registry)}
    yield
    for entries, components in known.items():
        entries._components = components
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]


@pytest.mark.parametrize("parts", sections())
def test_a_section_can_be_followed(parts, checkout, cli):
    names, lacking = {}, []
    for block in parts:
        if block.file:
            take_file(block, checkout)
        elif block.language == "sh":
            for command in commands(block):
                lacking.append(toy.lacks(command))
                if command not in toy.NOT_RUN and not lacking[-1]:
                    toy.run(command, cli, checkout)
        elif block.language == "console":
            compare_output(block, cli)
        elif block.language == "python" and block.text not in QUOTED:
            script = checkout / "block.py"
            script.write_text(block.text, encoding="utf-8")
            names.update(runpy.run_path(str(script), names))
        elif block.language == "yaml":
            check_part(block.text)
        elif block.language == "toml":
            assert block.text in QUOTED
    if any(lacking):
        pytest.skip(f"all was run but what needs {', '.join(filter(None, lacking))}")


def take_file(block, folder):
    """A block that is a whole file: the same as the one in the repository, or a new one, which is checked."""
    if (ROOT / block.file).exists():
        assert parse(block.text, "doc") == parse((ROOT / block.file).read_text(encoding="utf-8"), "file")
        return
    path = folder / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    if path.suffix == ".yaml":
        tree = config_files.load(path)
        plugins.load(tree)
        schema.check(tree)


def check_part(text):
    """A part of a config has no mistake but that the rest is missing."""
    if text in QUOTED:
        return
    tree = parse(text, "doc")
    if "apiVersion" in tree:  # for Kubernetes
        return
    plugins.load(tree)
    try:
        schema.check(tree)
    except ConfigError as error:
        assert [problem for problem in error.problems if not INCOMPLETE.search(problem)] == []


def compare_output(block, cli):
    command, expected = shown(block)
    words = toy.words_of(command)
    assert words[0] in ("python", "plsc"), command
    _, *printed = cli(toy.verb_of(words[1]), *words[2:])
    text = without_layout("".join(printed))
    for part in without_layout(expected).split("...\n"):
        part = part.strip("\n")
        assert part in text
        text = text[text.index(part) + len(part) :]


def without_layout(text):
    """Line numbers and columns move with every edit of a config; the rest must be what is shown."""
    return re.sub(r"(\.yaml):\d+", r"\1", re.sub(" +", " ", text))


def test_what_is_not_run_is_in_the_pages():
    """So that the list of exceptions does not grow old; every other command is run above."""
    written = {line for block in blocks() if block.language == "sh" for line in commands(block)}
    assert set(toy.NOT_RUN) <= written


def test_a_block_says_what_it_is():
    """An unknown language, or an `sh` block with output in it, would be passed over."""
    known = {"sh", "console", "python", "yaml", "toml", "text"}
    for block in blocks():
        assert block.language in known, f"{block.page}: {block.section}: give each block a language"


def test_an_unknown_command_is_not_passed_over(cli, tmp_path):
    with pytest.raises(AssertionError, match="'rm -r output': how is this run"):
        toy.run("rm -r output", cli, tmp_path)
