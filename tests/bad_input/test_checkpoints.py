"""Damaged, foreign and missing checkpoints in resuming, initialization, evaluation and prediction."""

import json
import pickle
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.bad_input.toys import Case, refused, trains

STEP = "classifier/checkpoints/step_00000002"
NONE = "give a run's output directory, its checkpoints/latest or checkpoints/best, or a step_... directory"


def cut(name, length):
    return lambda: Path(STEP, name).write_bytes(Path(STEP, name).read_bytes()[:length])


def flip():
    content = bytearray(Path(STEP, "model.safetensors").read_bytes())
    content[-5] ^= 255
    Path(STEP, "model.safetensors").write_bytes(bytes(content))


def state(**changes):
    """Return a function that changes entries of state.json; None removes an entry."""

    def change():
        content = {**json.loads(Path(STEP, "state.json").read_text(encoding="utf-8")), **changes}
        content = {key: value for key, value in content.items() if value is not None}
        Path(STEP, "state.json").write_text(json.dumps(content), encoding="utf-8")

    return change


def text(name, content):
    return lambda: Path(STEP, name).write_text(content, encoding="utf-8")


# name, change of the checkpoint, message of every command that reads checkpoints
DAMAGED = [
    Case("cut off", [f"{STEP} is damaged: model.safetensors has been cut off or changed; use an older checkpoint"],
         prepare=cut("model.safetensors", 500)),
    Case("empty", [f"{STEP} is damaged: model.safetensors has been cut off"], prepare=cut("model.safetensors", 0)),
    Case("one byte changed", [f"{STEP} is damaged: the content of model.safetensors has changed"], prepare=flip),
    Case("weights missing", [f"{STEP} is damaged: model.safetensors is missing; use an older checkpoint"],
         prepare=lambda: Path(STEP, "model.safetensors").unlink()),
    Case("newer version", [f"{STEP} was written by a newer plsc (format 99); update plsc to read it"],
         prepare=state(format=99)),
    Case("no version", [f"{STEP} is not a checkpoint of plsc: its state.json has no"], prepare=state(format=None)),
    Case("no step", [f"{STEP} is not a checkpoint of plsc: its state.json has no 'step'"], prepare=state(step=None)),
    Case("version of another type", [f"{STEP} is not a whole checkpoint: state.json cannot be read"],
         prepare=state(format="x")),
    Case("files of another type", [f"{STEP} is not a whole checkpoint: state.json"], prepare=state(files=[1])),
    Case("state no JSON", [f"{STEP} is not a whole checkpoint: state.json"], prepare=text("state.json", "x")),
    Case("state a list", [f"{STEP} is not a whole checkpoint: state.json"], prepare=text("state.json", "[]")),
    Case("removed", ["classifier holds no whole checkpoint", NONE], prepare=lambda: shutil.rmtree(STEP)),
]  # fmt: skip
READERS = [
    ["train", "-c", "classify.yaml", "-o", "Global.resume=classifier"],
    ["train", "-c", "classify.yaml", "-o", "Init.checkpoint=classifier"],
    ["eval", "--checkpoint", "classifier"],
    ["predict", "images/val", "--checkpoint", "classifier"],
]


@pytest.mark.parametrize("case", DAMAGED, ids=lambda case: case.name)
def test_a_damaged_checkpoint_is_refused_by_all_readers(cli, runs, case):
    case.prepare()
    for arguments in READERS:
        refused(cli, arguments, case.says)


@pytest.mark.parametrize("case", DAMAGED[:5], ids=lambda case: case.name)
def test_a_run_does_not_restart_over_a_damaged_checkpoint(cli, runs, case):
    case.prepare()
    before = sorted(Path("classifier").rglob("*"))
    says = [*case.says, "-o Global.output_dir=classifier: Global", "no checkpoint in classifier/checkpoints can be"]
    refused(cli, ["train", "-c", "classify.yaml", "-o", "Global.output_dir=classifier"], says)
    assert sorted(Path("classifier").rglob("*")) == before


NO_DIRECTORY = "is a file, not a checkpoint directory; Init.checkpoint takes the weights of such a file"
WRONG_PATHS = [
    ("nowhere", f"nowhere does not exist; {NONE}"),
    ("images", "images holds no whole checkpoint; checkpoints there: none"),
    ("classify.yaml", f"classify.yaml {NO_DIRECTORY}"),
    ("weights.pth", f"weights.pth {NO_DIRECTORY}"),
    ("images/train/class0/0.png", f"0.png {NO_DIRECTORY}"),
    ("classifier/checkpoints/best", "classifier/checkpoints/best does not exist"),
]


@pytest.mark.parametrize(("path", "message"), WRONG_PATHS, ids=[path for path, _ in WRONG_PATHS])
def test_a_path_that_is_not_a_checkpoint_is_refused(cli, runs, path, message):
    Path("weights.pth").write_bytes(b"PK\x03\x04")
    refused(cli, ["train", "-c", "classify.yaml", "-o", f"Global.resume={path}"], ["-o Global.resume=", message])
    refused(cli, ["eval", "--checkpoint", path], [message])
    refused(cli, ["predict", "images/val", "--checkpoint", path], [message])
    refused(cli, ["export", "--checkpoint", path, "--out", "out"], [message])


def dumped(value):
    return pickle.dumps(value, protocol=4)


def safetensors(**arrays):
    from safetensors.numpy import save

    return save({name.replace("__", "."): value for name, value in arrays.items()})


QKV = np.zeros((48, 16), np.float32)
# name of the file, its content, parts of the message of Init.checkpoint
FOREIGN = [
    ("empty.pth", b"", "empty.pth: not a complete file of weights"),
    ("text.pdparams", b"hello", "text.pdparams: not a complete file of weights"),
    ("cut.pth", b"PK\x03\x04" + bytes(50), "cut.pth: not a complete file of weights"),
    ("config.yaml", b"Global: {}\n", "config.yaml: not a complete file of weights"),
    ("cut.safetensors", safetensors(w=QKV)[:100], "cut.safetensors is damaged: "),
    ("list.pd", dumped([1, 2]), "list.pd holds a list instead of weights; known are plsc's own, PLSC's .pd"),
    ("nothing.pd", dumped({}), "nothing.pd: its names are of an unknown format"),
    ("other.pd", dumped({"a": np.zeros(3)}), "other.pd: its names are of an unknown format (a, ...)"),
    (
        "code.pd",
        dumped(print),
        "code.pd: the file contains builtins.print; only tensors and plain containers can be read",
    ),
    ("other.safetensors", safetensors(w=QKV), "other.safetensors: its names are of an unknown format (w, ...)"),
    ("bias.safetensors", safetensors(blocks__0__attn__qkv__bias=QKV), "its names are of an unknown format"),
    (
        "part.safetensors",
        safetensors(blocks__0__attn__qkv__weight=QKV, patch_embed__proj__weight=np.zeros((16, 3, 4, 4), np.float32)),
        "model.encoder.blocks.1.attn.qkv.weight [16, 48] is not in the checkpoint",
        "change the model, or allow it with patterns in Init.allow_missing or Init.allow_unexpected",
    ),
]


@pytest.mark.parametrize("row", FOREIGN, ids=lambda row: row[0])
def test_a_file_without_known_weights_is_refused(cli, row):
    name, content, *says = row
    Path(name).write_bytes(content)
    overrides = [f"Init.checkpoint={name}"]
    refused(cli, ["train", "-c", "classify.yaml", "-o", *overrides], [f"-o Init.checkpoint={name}: ", *says])
    if name != "part.safetensors":  # a smaller model would be built from it
        refused(cli, ["convert", name, "new", "--to", "own"], says)


# overrides of classify.yaml, parts of the message
UNLIKE = [
    (["Global.resume=pretrained"], "pretrained/checkpoints/step_00000002 is of another model, so the run cannot"),
    (["Global.resume=classifier", "Model.encoder.depth=1"], "blocks.1.norm1.weight is not in this model"),
    (["Global.resume=classifier", "Model.encoder.depth=3"], "blocks.2.norm1.weight is missing in the checkpoint"),
    (["Global.resume=classifier", "Model.encoder.embed_dim=32", "Model.head.in_features=32"],
     "model.encoder.cls_token is [1, 1, 16] in the checkpoint and [1, 1, 32] in this model"),
    (["Global.resume=classifier", "Optimizer={_delete_: true, name: SGD}"], "the optimizer state does not fit this"),
    (["Global.output_dir=classifier", "Model.encoder.depth=1"], "use the config it was saved with, or another"),
    (["Init.checkpoint=classifier", "Model.encoder.embed_dim=32", "Model.head.in_features=32"],
     "model.encoder.cls_token is [1, 1, 16] in the checkpoint and [1, 1, 32] in the model"),
    (["Init.checkpoint=classifier", "Model.encoder.depth=1"], "blocks.1.norm1.weight [16] of the checkpoint is not"),
    (["Init.checkpoint=classifier", "Init.take=decoder"], "Init.take: classifier has no tensors below 'decoder'; its"),
    (["Init.checkpoint=classifier", "Init.into=model.foo"], "Init.into: the task has no tensors below 'model.foo'"),
    (["Init.checkpoint=classifier", "Init.take=null", "Init.into=model"], "is not in the checkpoint"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "message"), UNLIKE, ids=[" ".join(overrides) for overrides, _ in UNLIKE])
def test_a_checkpoint_of_another_model_is_refused(cli, runs, overrides, message):
    refused(cli, ["train", "-c", "classify.yaml", "-o", *overrides], [message])


def test_a_valid_checkpoint_is_accepted_by_all_readers(cli, runs):
    trains(cli, "Init.checkpoint=classifier")
    trains(cli, "Init.checkpoint=pretrained")
    trains(cli, "Global.resume=classifier", "Global.epochs=2")
    assert cli("eval", "--checkpoint", "classifier/checkpoints/latest")[0] == 0


@pytest.mark.parametrize("verb", [["eval"], ["predict", "images/val"], ["export", "--out", "out"]])
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("depth: 200000", "many more; use the config and the weights of the same model"),
        ("embed_dim: 1600000", "many more; use the config and the weights of the same model"),
        ("image_size: 4000000", "patches, too many"),
    ],
)
def test_a_model_far_larger_than_its_weights_is_not_built(cli, runs, verb, size, message):
    file = Path(STEP, "config.yaml")
    key = size.partition(":")[0]
    lines = file.read_text(encoding="utf-8").splitlines()
    changed = [re.sub(rf"\b{key}: \d+", size, line) for line in lines]
    assert changed != lines
    text("config.yaml", "\n".join(changed))()
    content = file.read_bytes()
    files = json.loads(Path(STEP, "state.json").read_text(encoding="utf-8"))["files"]
    state(files={**files, "config.yaml": {"size": len(content), "crc32": zlib.crc32(content)}})()
    if key == "embed_dim":
        verb = [*verb, "-o", "Model.head.in_features=1600000"]
    refused(cli, [*verb, "--checkpoint", STEP], [message])


def test_converted_weights_have_no_config(cli, runs):
    assert cli("convert", "classifier", "weights.pth", "--to", "official")[0] == 0
    assert cli("convert", "weights.pth", "converted", "--to", "own")[0] == 0
    refused(cli, ["eval", "--checkpoint", "converted"], ["with weights only; set the config of the model with -c"])
    refused(cli, ["predict", "images/val", "--checkpoint", "converted"], ["holds weights only", "plsc eval -c"])
    assert cli("eval", "-c", f"{STEP}/config.yaml", "--checkpoint", "converted")[0] == 0
