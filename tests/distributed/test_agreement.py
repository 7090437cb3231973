"""Two nodes with separate disks: both report every difference before the first step."""

import shutil
import sys

import pytest

from tests.distributed.jobs import PRETRAIN, SMALL_CAE, logs
from tests.distributed.test_faults import start
from tests.integration.runs import ROOT, SMALL, make_digits, train

SCRATCH = "configs/quickstart/scratch.yaml"
RUN = [
    "DataLoader.Train.dataset.root=digits/train", "DataLoader.Train.loader.batch_size=4", "Global.epochs=null",
    "Global.steps=2", "LRScheduler.warmup_epochs=0", "Global.output_dir=run",
]  # fmt: skip
CLASSIFIER = [
    "Model.encoder.embed_dim=16", "Model.encoder.depth=1", "Model.encoder.num_heads=2", "Model.head.in_features=16",
    "Model.head.num_classes=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp("images") / "digits", per_class=10)


@pytest.fixture
def nodes(digits, tmp_path):
    """Create the working directories of process 0 and process 1, with the same data."""
    folders = [tmp_path / f"node{number}" for number in range(2)]
    for folder in folders:
        shutil.copytree(digits, folder / "digits")
    return folders


def run(nodes, *overrides, config=PRETRAIN, verb="train"):
    """Run a job whose processes start in their nodes' directories; return its output and exit code."""
    options = ["-c", str(ROOT / config), "-o", *SMALL, *RUN] if verb == "train" else ["--checkpoint", "run"]
    return start_on_nodes(nodes, [verb, *options, *overrides])


def start_on_nodes(nodes, arguments):
    folder = nodes[0].parent
    script = folder / "job.py"
    script.write_text(
        f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"os.chdir({str(folder / 'node')!r} + os.environ['PADDLE_TRAINER_ID'])\n"
        "from plsc.cli import main\nsys.exit(main(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", "logs"]
    shutil.rmtree(folder / "logs", ignore_errors=True)
    process = start([sys.executable, *launcher, str(script), *arguments], folder)
    process.communicate(timeout=120)
    return logs(folder), process.returncode


def refused(nodes, *overrides, config=PRETRAIN, verb="train", left=()):
    """Return the message of a job that both processes reject with the same text."""
    text, code = run(nodes, *overrides, config=config, verb=verb)
    assert code != 0, text
    _, first, *others = text.split("error: ")
    assert "Traceback" not in text and len(others) == 1, text
    assert first.split("\nI1")[0].split("=====")[0].strip() == others[0].strip(), text
    assert [(node / "run").exists() for node in nodes] == [node.name in left for node in nodes]
    return first


def test_identical_nodes_train(nodes):
    text, code = run(nodes, *SMALL_CAE)
    assert code == 0, text


def test_another_number_of_images(nodes):
    next((nodes[1] / "digits/train/0").iterdir()).unlink()
    text = refused(nodes, *SMALL_CAE)
    assert "the processes of this job do not see the same data" in text
    assert "DataLoader.Train.dataset: images: 20 in process 0, 19 in process 1" in text


def test_other_images_in_the_same_number(nodes):
    image = next((nodes[1] / "digits/train/0").iterdir())
    image.rename(image.with_name("another.png"))
    assert "DataLoader.Train.dataset: digest of names and labels: " in refused(nodes, *SMALL_CAE)


def test_classes_in_another_order(nodes):
    for node, name in zip(nodes, ("antelope", "zebra")):
        for split in ("train", "val"):
            (node / "digits" / split / "0").rename(node / "digits" / split / name)
    text = refused(nodes, *CLASSIFIER, "DataLoader.Eval=null", "Metric=null", config=SCRATCH)
    assert "DataLoader.Train.dataset: class 1: antelope in process 0, zebra in process 1" in text


def test_another_version_of_a_plug_in_or_what_it_imports(nodes):
    for node, value in zip(nodes, (1, 2)):
        (node / "own_parts.py").write_text("from own_helper import VALUE\n", encoding="utf-8")
        (node / "own_helper.py").write_text(f"VALUE = {value}\n", encoding="utf-8")
    text = refused(nodes, *SMALL_CAE, "imports=[own_parts]")
    assert "the processes of this job do not run the same code" in text
    assert "checksum of own_helper.py: " in text and "own_parts.py: " not in text


def test_another_file_that_the_config_names(nodes):
    for number, node in enumerate(nodes):
        root = node / "digits/train"
        names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
        (node / "list.txt").write_text("\n".join(names[number:]) + "\n", encoding="utf-8")
    dataset = "DataLoader.Train.dataset={_delete_: true, name: ListFile, root: digits/train, list_file: list.txt}"
    text = refused(nodes, *SMALL_CAE, dataset)
    assert "the processes of this job do not see the same files" in text
    assert "DataLoader.Train.dataset.list_file: list.txt (checksum " in text


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(PRETRAIN, [*SMALL_CAE, *RUN, f"DataLoader.Train.dataset.root={digits}/train", "Global.steps=1"], folder)
    return folder / "run"


def test_initial_weights_that_one_process_does_not_see(nodes, trained):
    shutil.copytree(trained, nodes[0] / "weights")
    text = refused(nodes, *SMALL_CAE, "Init.checkpoint=weights")
    assert "the processes of this job do not see the same checkpoint" in text
    assert "Init.checkpoint: weights/checkpoints/step_00000001 (checksum " in text
    assert "in process 0, an error (weights does not exist" in text


@pytest.mark.parametrize("owner", [0, 1])
def test_a_checkpoint_to_resume_that_only_one_process_has(nodes, trained, owner):
    shutil.copytree(trained, nodes[owner] / "run")
    text = refused(nodes, *SMALL_CAE, left=[nodes[owner].name])
    sees = {owner: "run/checkpoints/step_00000001 (checksum ", 1 - owner: "no checkpoint"}
    assert f"  Global.resume: {sees[0]}" in text and f" in process 0, {sees[1]}" in text
    assert "put it on a file system that all nodes see" in text


def test_evaluation_with_other_images_or_another_checkpoint(nodes):
    train(SCRATCH, [*RUN, *CLASSIFIER, "DataLoader.Eval.dataset.root=digits/val"], nodes[0])
    shutil.copytree(nodes[0] / "run", nodes[1] / "run")
    both = [node.name for node in nodes]
    next((nodes[1] / "digits/val/0").iterdir()).unlink()
    for details in ((), ("--details",)):
        text = refused(nodes, *details, verb="eval", left=both)
        assert "DataLoader.Eval.dataset: images: 20 in process 0, 19 in process 1" in text
    state = nodes[1] / "run/checkpoints/step_00000002/state.json"
    state.write_text(state.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "the checkpoint: run/checkpoints/step_00000002 (checksum " in refused(nodes, verb="eval", left=both)
