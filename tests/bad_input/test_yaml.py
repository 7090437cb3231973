"""Config files that are no config: syntax, encoding, layers, tags, keys and types."""

import os
from pathlib import Path

import pytest

from tests.bad_input.toys import CLASSIFY, Case, refused, trains

BASE = "_base_: classify.yaml\n"
NEEDED = "required, but missing"


def below(text):
    """Text below a `_base_` that is right, so that it begins in line 2."""
    return BASE + text


# name, content of x.yaml, parts of the message
FILES = [
    # ---------------------------------------------------------------------------------------------------- syntax
    ("tab", below("Optimizer:\n\tname: AdamW\n"), "x.yaml:3: not valid YAML: a tab; YAML is indented with spaces"),
    ("tab after colon", below("Optimizer: {name:\tAdamW}"), "x.yaml:2: not valid YAML: a tab"),
    ("indentation", below("Global:\n  epochs: 1\n seed: 1\n"), "x.yaml:4: not valid YAML: expected <block end>"),
    ("open bracket", below("Optimizer: {name: AdamW\nModel: 3"), "x.yaml:3: not valid YAML: expected ',' or '}'"),
    ("open quote", below("Global: {output_dir: 'out}\n"), "x.yaml:3: not valid YAML: found unexpected end of stream"),
    ("second colon", below("Optimizer: {name: a: b}\n"), "x.yaml:2: not valid YAML: expected ',' or '}'"),
    ("no space", below("Global: {epochs:3}"), "x.yaml:2: 'epochs:3' is no key and value; put a space after the colon"),
    ("no space in a block", below("Global:\n  epochs:3\n"), "x.yaml:2: Global: expected a mapping with the keys"),
    ("equals sign", below("Global: {epochs = 3}"), "Global has no key 'epochs = 3'; did you mean 'epochs'?"),
    ("percent", below("Global: {output_dir: %x}"), "x.yaml:2: not valid YAML", "has to be quoted"),
    ("at sign", below("Global: {output_dir: @x}"), "x.yaml:2: not valid YAML", "has to be quoted"),
    ("backtick", below("Global: {output_dir: `x`}"), "x.yaml:2: not valid YAML", "has to be quoted"),
    ("asterisk", below("Init: {allow_missing: [*.bias]}"), "x.yaml:2: not valid YAML", "while scanning an alias"),
    ("two documents", below("---\nGlobal: {}\n"), "x.yaml:2: not valid YAML: but found another document"),
    ("version of YAML", "%YAML 9.9\n---\n" + BASE, "x.yaml:1: not valid YAML: found incompatible YAML document"),
    ("Python", "import plsc\nprint(1)\n", "x.yaml: a config is a mapping of sections, got the text 'import plsc"),
    ("a list", "- a\n- b\n", "x.yaml: a config is a mapping of sections, got a list"),
    ("empty", "", f"x.yaml:1: Global: {NEEDED}", f"x.yaml:1: Optimizer: {NEEDED}", "error: 6 problems"),
    ("comments only", "# nothing\n", "error: 6 problems", f"DataLoader.Train.dataset: {NEEDED}"),
    ("null", "null\n", "error: 6 problems"),
    # -------------------------------------------------------------------------------------------------- encoding
    ("latin-1", below("").encode() + b"Global: {output_dir: \xe9}", "x.yaml: not UTF-8 text (byte 43); save it as"),
    ("UTF-16", BASE.encode("utf-16"), "x.yaml: not UTF-8 text (byte 0); save it as UTF-8"),
    ("binary", bytes(range(256)), "x.yaml: not UTF-8 text"),
    ("NUL", below("Global: \0\n"), r"x.yaml:2: not valid YAML: the character '\x00' is not allowed"),
    ("escape code", below("Global: {output_dir: \x1b[31m}\n"), r"x.yaml:2: not valid YAML: the character '\x1b'"),
    ("NUL in quotes", below('Global: {output_dir: "a\\0b"}'), "x.yaml:2: ", "holds the character NUL, which is no"),
    # ---------------------------------------------------------------------------------------------------- layers
    ("base missing", "_base_: clasify.yaml", "x.yaml:1: _base_: there is no file clasify.yaml; did you mean"),
    ("base of itself", "_base_: x.yaml", "a cycle of _base_ files: x.yaml -> x.yaml"),
    ("base a folder", "_base_: images", "x.yaml:1: _base_: there is no file images"),
    ("base a number", "_base_: 3", "x.yaml:1: _base_ is a file name or a list of file names, got 3"),
    ("base null", "_base_: null", "x.yaml:1: _base_ is a file name or a list of file names, got null"),
    ("base a list of lists", "_base_: [[classify.yaml]]", "_base_ is a file name or a list of file names, got a list"),
    ("base twice", BASE + BASE, "x.yaml:2: duplicate key '_base_'; it was first given at x.yaml:1"),
    ("delete false", below("Optimizer: {_delete_: false}"), "x.yaml:2: _delete_ can only be true, got False"),
    ("delete at the top", below("_delete_: true"), "x.yaml:2: _delete_: there is no section '_delete_'"),
    # ------------------------------------------------------------------------------ anchors, nesting, size, tags
    ("unknown alias", below("Optimizer: {beta1: *x}"), "x.yaml:2: not valid YAML: found undefined alias 'x'"),
    ("anchor in itself", below("Model: &a {x: *a}"), "x.yaml:2: nested deeper than 64 levels"),
    ("list in itself", below("imports: &a [*a]"), "x.yaml:2: nested deeper than 64 levels"),
    (
        "billion laughs",
        below("a: &a [x,x,x,x,x,x,x,x,x]\n")
        + "".join(f"{own}: &{own} [{','.join(['*' + last] * 9)}]\n" for last, own in zip("abcdefg", "bcdefgh")),
        "more than 100000 values (aliases count each time they are used)",
    ),
    ("deep", below("Model: " + "{a: " * 70 + "1" + "}" * 70), "x.yaml:2: nested deeper than 64 levels"),
    ("very deep", "[" * 1200, "x.yaml: nested deeper than 64 levels"),
    ("python object", below("Model: !!python/object:os.system {}"), "x.yaml:2: the tag", "is not allowed"),
    ("python call", below("Model: !!python/object/apply:os.mkdir [ran]"), "x.yaml:2: the tag", "plain YAML data"),
    ("python name", below("Model: !!python/name:os.system x"), "python/name:os.system' is not allowed"),
    ("python tuple", below("Optimizer: {betas: !!python/tuple [1]}"), "python/tuple' is not allowed"),
    ("own tag", below("Model: !mine x"), "x.yaml:2: the tag '!mine' is not allowed; a config is plain YAML data"),
    ("set", below("Model: !!set {a}"), "x.yaml:2: the tag 'tag:yaml.org,2002:set' is not allowed"),
    ("binary tag", below("Model: !!binary aGk="), "x.yaml:2: the tag 'tag:yaml.org,2002:binary' is not allowed"),
    ("wrong tag", below("Optimizer: {beta1: !!float x}"), "x.yaml:2: 'x' is no float"),
    ("merge key", below("Optimizer: {<<: {beta1: 1}}"), "x.yaml:2: the merge key '<<' is not supported; use _base_"),
    # ------------------------------------------------------------------------------------------------------ keys
    ("duplicate key", below("Optimizer: {beta1: 0, beta1: 1}"), "x.yaml:2: duplicate key 'beta1'"),
    ("duplicate section", below("Model: {}\nModel: {}\n"), "x.yaml:3: duplicate key 'Model'; it was first given at"),
    ("a list as key", below("? [a, b]\n: 1\n"), "x.yaml:2: a key must be a name, not a list or mapping"),
    ("a number as key", below("3: 4"), "x.yaml:2: 3: there is no section '3'; valid here: Global, Task"),
    ("dotted key", below("Optimizer.beta1: 0"), "in a file keys are nested, `a: {b: value}`; dots are for -o"),
    ("section", below("Optimiser: {}"), "x.yaml:2: Optimiser: there is no section 'Optimiser'; did you mean"),
    ("key of Global", below("Global: {epoch: 1}"), "x.yaml:2: Global.epoch: Global has no key 'epoch'; did you mean"),
    ("key of a task", below("Task: {foo: 1}"), "x.yaml:2: Task.foo: Classification has no argument 'foo'; valid"),
    ("key of a model", below("Model: {poling: cls}"), "Model.poling: Classifier has no", "did you mean 'pooling'?"),
    ("nested key", below("Model: {encoder: {detph: 1}}"), "Model.encoder.detph: ViT has no argument 'detph'; did you"),
    ("part", below("DataLoader: {train: {}}"), "DataLoader.train: there is no part 'train'; did you mean 'Train'?"),
    ("part of a part", below("DataLoader: {Train: {transform: []}}"), "DataLoader.Train.transform: there is no part"),
    ("key of a loader", below("DataLoader: {Train: {loader: {workers: 1}}}"), "DataLoader.Train.loader.workers:"),
    ("key of a dataset", below("DataLoader: {Eval: {dataset: {path: x}}}"), "DataLoader.Eval.dataset.path:"),
    ("key in a list", below("Metric: [{name: Accuracy, k: 1}]"), "x.yaml:2: Metric.0.k: Accuracy has no argument 'k'"),
    ("key of AMP", below("AMP: {levle: O1}"), "x.yaml:2: AMP.levle: AMP has no key 'levle'; did you mean 'level'?"),
    ("key of EMA", below("EMA: {momentum: 1}"), "x.yaml:2: EMA.momentum: EMA has no key 'momentum'"),
    ("key of Init", below("Init: {chekpoint: x}"), "Init.chekpoint: Init has no key 'chekpoint'; did you mean"),
    ("component", below("Optimizer: {name: Adam}"), "x.yaml:2: Optimizer.name: no optimizer is called 'Adam'", "AdamW"),
    ("component elsewhere", below("Task: {name: ViT}"), "no task is called 'ViT'; it is a model"),
    ("no name", below("Metric: [{topk: [1]}]"), "x.yaml:2: Metric.0: expected {name: ...} of a metric, got a mapping"),
    # ----------------------------------------------------------------------------------------------------- types
    ("text for a number", below("Global: {seed: three}"), "x.yaml:2: Global.seed: expected a whole number, got the"),
    ("quoted number", below("Global: {seed: '3'}"), "Global.seed: expected a whole number, got the text '3'"),
    ("a fraction of a step", below("Global: {seed: 3.0}"), "Global.seed: expected a whole number, got 3.0"),
    ("octal", below("Global: {seed: 010}"), "Global.seed: expected a whole number, got the text '010'"),
    ("true for a number", below("Global: {seed: true}"), "Global.seed: expected a whole number, got true"),
    ("a list for a number", below("Global: {seed: [1]}"), "Global.seed: expected a whole number, got a list [1]"),
    ("a mapping for a number", below("Global: {seed: {a: 1}}"), "expected a whole number, got a mapping {a: 1}"),
    ("seed too large", below(f"Global: {{seed: {10**30}}}"), "Global.seed: expected a whole number", "below 2**63"),
    ("yes", below("Model: {freeze_encoder: yes}"), "expected true or false, got the text 'yes'; write true"),
    ("a third", below("Optimizer: {weight_decay: 1/3}"), "Optimizer.weight_decay: expected a number, got the text"),
    ("decimal comma", below("Optimizer: {weight_decay: 0,05}"), "x.yaml:2: Optimizer.05: AdamW has no argument '05'"),
    ("inf", below("Optimizer: {weight_decay: .inf}"), "Optimizer.weight_decay: expected a number, got .inf; it has"),
    ("nan", below("Optimizer: {clip_norm: .nan}"), "a number or null, got .nan; it has to be finite", "or null"),
    ("a component for a number", below("Model: {encoder: {depth: {name: ViT}}}"), "a whole number, got the component"),
    ("text for a component", below("Optimizer: SGD"), "Optimizer: expected {name: ...} of", "write {name: SGD}"),
    ("no list", below("Metric: {name: Accuracy}"), "Metric: expected a list, each {name: ...} of a metric, got a"),
    ("a number for text", below("Global: {output_dir: 2024}"), 'expected text, got 2024; write it in quotes: "2024"'),
    ("a number for a section", below("Global: 3"), "x.yaml:2: Global: expected a mapping with the keys output_dir"),
    ("a list for a section", below("DataLoader: []"), "x.yaml:2: DataLoader: expected a mapping with the keys Train,"),
    # --------------------------------------------------------------------------------------------------- imports
    ("import of nothing", below("imports: [no_such_module]"), "x.yaml:2: imports: 'no_such_module' cannot be imported"),
    ("import of a path", below("imports: [../x.py]"), "x.yaml:2: imports: '../x.py' cannot be imported"),
    ("import, no list", below("imports: os"), "x.yaml:2: imports: expected a list, each text, got the text 'os';"),
]
CASES = [Case(name, says, prepare=lambda text=text: write("x.yaml", text)) for name, text, *says in FILES]


def write(name, text):
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_that_is_no_config_is_refused(cli, case):
    case.prepare()
    refused(cli, ["train", "-c", "x.yaml"], case.says)
    assert not Path("ran").exists()


# name, what stands after -c, parts of the message
PATHS = [
    Case("a config that is not there", ["nope.yaml: no such config file, neither here nor"], arguments=["nope.yaml"]),
    Case("another ending", ["did you mean classify.yaml?"], arguments=["classify.yml"]),
    Case("shipped", ["did you mean configs/quickstart/scratch.yaml?"], arguments=["configs/quickstart/scrach.yaml"]),
    Case("a folder", ["images: is a directory, not a config file"], arguments=["images"]),
    Case("an image", ["0.png: not UTF-8 text (byte 0); save it as UTF-8"], arguments=["images/train/class0/0.png"]),
    Case("a pipe", ["pipe.yaml: no such config file"], prepare=lambda: os.mkfifo("pipe.yaml"), arguments=["pipe.yaml"]),
    Case(
        "a link to itself",
        ["loop.yaml: no such config file"],
        prepare=lambda: os.symlink("loop.yaml", "loop.yaml"),
        arguments=["loop.yaml"],
    ),
    Case(
        "a cycle of three",
        ["a cycle of _base_ files: c.yaml -> a.yaml -> b.yaml -> c.yaml"],
        prepare=lambda: [write(f"{own}.yaml", f"_base_: {base}.yaml") for own, base in ("ab", "bc", "ca")],
        arguments=["c.yaml"],
    ),
    Case(
        "an import that ends the process",
        ["x.yaml:1: imports: 'ends' cannot be imported: SystemExit(3)"],
        prepare=lambda: [write("x.yaml", "imports: [ends]"), write("ends.py", "import sys\nsys.exit(3)")],
        arguments=["x.yaml"],
    ),
    Case(
        "an import that is broken",
        ["x.yaml:1: imports: 'broken' cannot be imported: SyntaxError"],
        prepare=lambda: [write("x.yaml", "imports: [broken]"), write("broken.py", "def (")],
        arguments=["x.yaml"],
    ),
]


@pytest.mark.parametrize("case", PATHS, ids=lambda case: case.name)
def test_a_path_that_is_no_config_is_refused(cli, case):
    case.prepare()
    refused(cli, ["train", "-c", *case.arguments], case.says)


@pytest.mark.parametrize(
    "content",
    ["\ufeff" + CLASSIFY, CLASSIFY.replace("\n", "\r\n"), CLASSIFY.replace("16", "&n 16", 1)],
    ids=["byte order mark", "Windows line ends", "anchor"],
)
def test_what_is_unusual_but_right_trains(cli, content):
    write("classify.yaml", content)
    trains(cli)
