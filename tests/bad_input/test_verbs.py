"""Invalid arguments of the verbs other than `train`; a few of them in separate processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bad_input import test_checkpoints, test_combinations, test_datasets, test_overrides, test_yaml
from tests.bad_input.toys import CLASSIFY, refused

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = {
    "file.txt": "x",
    "bad.png": "x",
    "cut.json": "{",
    "list.json": "[]",
    "odd.json": '{"results": {"scaling": {"cost_model": {"a": "x"}}}}',
    "cut_run/config.yaml": "a: [1",
    "cut_run/metrics.jsonl": "",
    "binary_run/config.yaml": "Task: {name: X}",
    "binary_run/metrics.jsonl": b"\xff\xfe",
    "odd_run/config.yaml": "- a",
    "odd_run/metrics.jsonl": "",
    "empty/.keep": "",
}
SWEEP = "sweep -c classify.yaml -o Optimizer.beta1="
NO_EMA = "holds no moving average of the weights; leave --ema out to use its weights"
# the command line, parts of the message
VERBS = [
    ("predict --checkpoint classifier", "plsc predict: error: the following arguments are required: IMAGE"),
    ("predict images/val", "plsc predict: error: the following arguments are required: --checkpoint"),
    ("predict nowhere.png --checkpoint classifier", "nowhere.png: there is no such file or folder"),
    ("predict empty --checkpoint classifier", "empty: there are no images; looked for .jpg, .jpeg"),
    ("predict images/val --checkpoint pretrained", "is a run of MaskedImageModeling, which does not classify"),
    ("predict images/val --checkpoint classifier --topk 0", "--topk must be at least 1, got 0"),
    ("predict images/val --checkpoint classifier --batch-size 0", "--batch-size must be at least 1, got 0"),
    ("predict images/val --checkpoint classifier --batch-size x", "argument --batch-size: invalid int value: 'x'"),
    ("predict images/val --checkpoint classifier --ema", NO_EMA),
    ("predict images/val --checkpoint classifier --gpu", "plsc predict: error: unrecognized arguments: --gpu"),
    ("predict images/val --checkpoint classifier -o Model.encoder.detph=1", "ViT has no argument 'detph'; did you"),
    ("predict images/val --checkpoint classifier -o Model.encoder.depth=1", "blocks.1.norm1.weight is not in this"),
    ("eval", "plsc eval: error: the following arguments are required: --checkpoint"),
    ("eval --checkpoint classifier --ema", NO_EMA),
    ("eval --checkpoint pretrained", "DataLoader.Eval: the config has no evaluation set; give one with -o"),
    ("eval --checkpoint classifier -o DataLoader.Eval=null", "DataLoader.Eval: the config has no evaluation set"),
    ("eval --checkpoint classifier -o DataLoader.Eval.dataset.root=nowhere", "nowhere: there is no such folder"),
    ("eval --checkpoint classifier -o DataLoader.Eval.batch_transforms=[]", "DataLoader.Eval: images are paddle.uint8"),
    ("eval --checkpoint classifier -o DataLoader.Eval.transforms.0.size=32", "DataLoader.Eval: the model was built"),
    ("eval --checkpoint classifier -o Model.head.num_classes=3", "is of another model", "model.head.linear.bias is"),
    ("eval --checkpoint classifier -c nope.yaml", "nope.yaml: no config file with this path"),
    ("eval --checkpoint classifier --json file.txt/x.json", "error: file.txt: File exists"),
    ("export --checkpoint classifier", "plsc export: error: the following arguments are required: --out"),
    ("export --checkpoint classifier --out file.txt", "error: file.txt is a file; choose another folder"),
    ("export --checkpoint classifier --out out --formats tflite", "argument --formats: invalid choice: 'tflite'"),
    ("export --checkpoint classifier --out out --pooling max", "argument --pooling: invalid choice: 'max'"),
    ("export --checkpoint pretrained --out out --part classifier", "which does not classify; export its encoder"),
    ("report", "plsc report: error: the following arguments are required: RUN"),
    ("report nowhere", "nowhere does not exist; give the Global.output_dir of a training run"),
    ("report empty", "empty is not a run: it has no config.yaml and no metrics.jsonl; give the Global.output_dir"),
    ("report file.txt", "file.txt is not a run: it has no config.yaml"),
    ("report cut_run", "cut_run/config.yaml:1: not valid YAML"),
    ("report binary_run", "binary_run/metrics.jsonl is not a text file; the files of the run are damaged"),
    ("report odd_run", "odd_run/config.yaml: a config must be a mapping of sections, got a list"),
    ("report classifier classifier", "an output directory is given twice; give each directory once"),
    ("report classifier --images -1", "--images must be at least 0, got -1"),
    ("report classifier --images 0 --out empty", "empty is a folder; name the file to write, such as empty/"),
    (
        "sweep -c classify.yaml",
        "no key has several values; give at least two, such as -o Optimizer.weight_decay=0.0,0.05",
    ),
    (SWEEP + "0.5,0.5", "-o Optimizer.beta1=0.5,0.5: the values must be different and not empty"),
    (SWEEP + "0.5,", "the values must be different and not empty"),
    (SWEEP + "0.5,x", "-o Optimizer.beta1=x: Optimizer.beta1: expected a number, got the text 'x'"),
    (SWEEP + "log:1e-4:1e-2", "Optimizer.beta1: a grid cannot contain a range; list the values, or set --random N"),
    (SWEEP + "log:0:1 --random 3", "-o Optimizer.beta1=log:0:1: log takes two numbers, the lower first, above 0"),
    (SWEEP + "uniform:1:0 --random 3", "uniform takes two numbers, the lower first"),
    (SWEEP + "0.5,0.6 --at-once 0", "--at-once must be at least 1, got 0"),
    (SWEEP + "0.5,0.6 --random 0", "--random must be at least 1, got 0"),
    (SWEEP + "0.5,0.6 --out file.txt", "file.txt"),
    ("sweep -c classify.yaml -o Optimizer.beta11=0.5,0.6", "AdamW has no argument 'beta11'; did you mean 'beta1'?"),
    ("sweep -c classify.yaml -o Global.output_dir=a,b", "cannot vary: every run of a sweep has a subfolder of --out"),
    ("sweep -c nope.yaml -o Optimizer.beta1=0.5,0.6", "nope.yaml: no config file with this path"),
    ("plan", "plsc plan: error: the following arguments are required: -c/--config"),
    ("plan -c classify.yaml --gpu h900", "--gpu: no device is called 'h900'; known devices: v100-16g"),
    ("plan -c classify.yaml --devices 0", "--devices must be at least 1, got 0"),
    ("plan -c classify.yaml --nodes -1", "--nodes must be at least 1, got -1"),
    ("plan -c classify.yaml --images 1", "the training set has 1 images, fewer than the global batch of 4"),
    ("plan -c classify.yaml --bandwidth nan", "--bandwidth must be above 0 (GB/s), got nan"),
    ("plan -c classify.yaml --efficiency 2", "--efficiency must be in (0, 1], got 2"),
    ("plan -c classify.yaml --measured nope.json", "error: nope.json: No such file or directory"),
    ("plan -c classify.yaml --measured cut.json", "--measured cut.json is not a JSON file"),
    ("plan -c classify.yaml --measured list.json", "--measured list.json has no results.scaling.cost_model"),
    ("plan -c classify.yaml --measured odd.json", "--measured odd.json has no results.scaling.cost_model"),
    ("plan -c classify.yaml -o DistributedStrategy.sharding_degree=3", "sharding_degree: 3 does not divide the 1"),
    ("plan -c classify.yaml -o Model.encoder.patch_size=5", "image_size (16, 16) is not a multiple of patch_size (5"),
    ("visualize", "plsc visualize: error: -c FILE or --checkpoint PATH is required"),
    ("visualize -c classify.yaml --out out --count 0", "--count must be at least 1, got 0"),
    ("visualize -c classify.yaml --out out --patch 1", "--patch must be a row and a column, such as 3,4, got '1'"),
    ("visualize --checkpoint classifier --out out --patch 9,9", "--patch: the encoder has 4 x 4 patches, counted"),
    ("visualize --checkpoint classifier --out out --block 9", "--block: the encoder has blocks 0 to 1, got 9"),
    ("visualize -c classify.yaml --out out --parts all", "argument --parts: invalid choice: 'all'"),
    ("visualize -c classify.yaml --out out --parts attention", "--parts: attention cannot be drawn here; what can is"),
    ("visualize -c classify.yaml --out out --images nowhere", "nowhere: there is no such file or folder"),
    ("visualize -c classify.yaml --out out --images bad.png", "bad.png: is not an image of a known format"),
    ("visualize -c classify.yaml --out file.txt", "error: file.txt: File exists"),
    ("visualize -c pretrain.yaml --checkpoint classifier --out out", "is missing in the checkpoint"),
    ("extract-features --checkpoint classifier", "error: the following arguments are required: --out"),
    ("extract-features --checkpoint classifier --out out", "--out must end in .npz, got out"),
    ("extract-features --checkpoint classifier --out out.npz --split Eval images", "set either images or --split,"),
    ("extract-features --checkpoint classifier --out out.npz --split Test", "argument --split: invalid choice: 'Test'"),
    ("extract-features --checkpoint classifier --out out.npz --num-workers -1", "--num-workers must be at least 0,"),
    ("extract-features --checkpoint classifier --out out.npz --num-workers 100000", "--num-workers must be at mos"),
    ("extract-features --checkpoint classifier --out out.npz empty", "empty: there are no images; looked for"),
    ("extract-features --checkpoint classifier --out out.npz bad.png", "bad.png: is not an image of a known format"),
    ("extract-features --checkpoint pretrained --out out.npz", "DataLoader.Eval: the run has none; name images, or"),
    ("evaluate-frozen", "plsc evaluate-frozen: error: set either --checkpoint PATH or -c CONFIG"),
    ("evaluate-frozen -c classify.yaml --ema", "plsc evaluate-frozen: error: --ema needs --checkpoint"),
    ("evaluate-frozen --checkpoint classifier --epochs 0", "--epochs must be at least 1, got 0"),
    ("evaluate-frozen --checkpoint classifier --validation-share nan", "--validation-share must be in (0, 1), got nan"),
    ("evaluate-frozen --checkpoint classifier --protocols svm", "argument --protocols: invalid choice: 'svm'"),
    ("evaluate-frozen --checkpoint pretrained", "the config has no evaluation set", "with --data-config FILE"),
    ("evaluate-frozen --checkpoint classifier --data-config nope.yaml", "nope.yaml: no config file with this path"),
    ("evaluate-frozen -c classify.yaml -o DataLoader.Train.dataset.root=nowhere", "nowhere: there is no such folder"),
    ("evaluate-frozen -c classify.yaml -o DataLoader.Train.dataset.with_classes=false --protocols knn", "no labels"),
    ("doctor -c nope.yaml", "nope.yaml: no config file with this path"),
    ("doctor -c classify.yaml -o Optimizer.beta=1", "AdamW has no argument 'beta'; did you mean"),
    ("convert", "plsc convert: error: the following arguments are required: IN, OUT, --to"),
    ("convert classifier out --to keras", "argument --to: invalid choice: 'keras'"),
    ("convert nowhere out --to own", "nowhere does not exist; give a run's output directory"),
    ("convert empty out --to own", "empty holds no whole checkpoint; checkpoints there: none"),
    ("convert file.txt out --to own", "file.txt: not a complete file of weights"),
    ("convert classifier file.txt --to plsc", "file.txt exists; choose another name or give --force"),
    ("convert classifier file.txt/x --to own", "error: file.txt: File exists"),
    ("replay empty", "empty is not a dump of a step: it has no config.yaml"),
    ("replay classifier", "classifier has no dump of process 0"),
    ("benchmark -c classify.yaml --phase speed", "argument --phase: invalid choice: 'speed'"),
    ("benchmark -c classify.yaml --fail-below 1", "plsc benchmark: error: --fail-below needs --against"),
    ("benchmark -c classify.yaml --against cut.json", "--against cut.json is not a JSON file"),
    ("benchmark -c classify.yaml --seconds 0", "--seconds must be above 0, got 0"),
    ("train -c classify.yaml --list optimisers", "--list optimisers: unknown kind; did you mean 'optimizer'?"),
    ("train -c classify.yaml --epochs 3", "plsc train: error: unrecognized arguments: --epochs 3"),
    ("train -c classify.yaml --dry-run --print-config", "not allowed with argument --dry-run"),
]


@pytest.fixture
def mess(runs):
    """Invalid files and runs."""
    for name, content in FILES.items():
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("row", VERBS, ids=lambda row: row[0])
def test_arguments_that_make_no_sense_are_refused(cli, mess, row):
    line, *says = row
    output = line.split("--out ")[1].split()[0] if "--out out" in line else "out"
    refused(cli, line.split(), says, output=output)


@pytest.mark.parametrize("verb", ["trian", "Train", "--versoin"])
def test_an_unknown_verb_is_refused(cli, verb):
    code, _, err = cli(verb)
    assert code == 2
    assert err.startswith(f"plsc: unknown verb {verb!r}")


@pytest.mark.parametrize("name", ["bad.png", "file.txt"])
def test_a_file_that_is_not_an_image_does_not_stop_the_prediction_of_others(cli, mess, name):
    code, out, err = cli("predict", name, "images/val", "--checkpoint", "classifier")
    assert code == 1
    assert "class0" in out
    assert "1 file(s) could not be read" in err


PROCESSES = [
    (["-o", "Model.encoder.num_heads=3"], "16 does not divide into 3 heads"),
    (["-o", "DataLoader.Train.batch_transforms=[]"], "images are paddle.uint8, not float"),
]


@pytest.mark.parametrize(("options", "message"), PROCESSES, ids=[message for _, message in PROCESSES])
def test_a_separate_process_fails_in_the_same_way(tmp_path, bad_input_images, options, message):
    (tmp_path / "classify.yaml").write_text(CLASSIFY, encoding="utf-8")
    (tmp_path / "images").symlink_to(bad_input_images)
    command = [sys.executable, str(ROOT / "tools" / "train.py"), "-c", "classify.yaml", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classify.yaml", "images"]


def test_debug_shows_the_traceback_of_a_mistake(cli):
    code, _, err = cli("train", "-c", "classify.yaml", "--debug", "-o", "Model.encoder.num_heads=3")
    assert code == 2
    assert "Traceback" in err
    assert "plsc/models/vit.py" in err.replace("\\", "/")


def test_the_tables_have_the_promised_number_of_cases():
    tables = [
        test_yaml.CASES,
        test_yaml.PATHS,
        test_overrides.CASES,
        test_combinations.CLASSIFY,
        test_combinations.PRETRAIN,
        test_datasets.FOLDERS,
        test_datasets.DATASETS,
        test_datasets.CLASS_LISTS,
        test_datasets.LISTS,
        test_checkpoints.DAMAGED,
        test_checkpoints.WRONG_PATHS,
        test_checkpoints.FOREIGN,
        test_checkpoints.UNLIKE,
        VERBS,
    ]
    assert sum(map(len, tables)) >= 400
