"""Config files: layers, overrides, and the origin of each value."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plsc.config import files as config_files
from plsc.config.files import load
from plsc.config.tree import ConfigError, dump, to_plain

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = """\
Global: {epochs: 3, output_dir: out}
Optimizer: {name: AdamW, weight_decay: 0.05, beta1: 0.9}
DataLoader:
  Train:
    transforms:
      - {name: Flip, p: 0.5}
      - {name: Crop, scale: [0.2, 1.0]}
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Return a function that writes files into an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def write(**texts):
        for name, text in texts.items():
            path = Path(name.replace("__", "/") + ".yaml")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")

    write(base=BASE)
    return write


# ---------------------------------------------------------------------------------------------------------- layers


def test_later_layers_win_mappings_merge_lists_replace(files):
    files(
        one="A: {x: 1, y: {a: 1, b: 2}, items: [1, 2]}\nB: 1",
        two="A: {x: 2}\nC: 3",
        top="_base_: [one.yaml, two.yaml]\nA: {y: {b: 3}, items: [9]}\n",
    )
    config = load("top.yaml")
    assert to_plain(config) == {"A": {"x": 2, "y": {"a": 1, "b": 3}, "items": [9]}, "B": 1, "C": 3}
    assert str(config["A"].origins["x"]) == "two.yaml:1"
    assert str(config["A"]["y"].origins["a"]) == "one.yaml:1"
    assert str(config["A"]["y"].origins["b"]) == "top.yaml:2"


def test_bases_are_relative_to_the_file_that_names_them(files):
    files(deep__top="_base_: ../mid/mid.yaml", mid__mid="_base_: low.yaml\nA: 2", mid__low="A: 1\nB: 1")
    config = load("deep/top.yaml")
    assert to_plain(config) == {"A": 2, "B": 1}
    assert str(config.origins["B"]) == "mid/low.yaml:2"


def test_delete_drops_the_values_of_the_base(files):
    files(top="_base_: base.yaml\nOptimizer: {_delete_: true, name: SGD}\nNew: {_delete_: true, a: {_delete_: true}}")
    config = load("top.yaml")
    assert to_plain(config["Optimizer"]) == {"name": "SGD"}
    assert to_plain(config["New"]) == {"a": {}}


def test_null_replaces_a_mapping_and_a_mapping_replaces_null(files):
    files(top="_base_: base.yaml\nOptimizer: null", again="_base_: top.yaml\nOptimizer: {name: SGD}")
    assert load("top.yaml")["Optimizer"] is None
    assert to_plain(load("again.yaml")["Optimizer"]) == {"name": "SGD"}


def test_a_diamond_of_bases_is_not_a_cycle(files):
    files(left="_base_: base.yaml", right="_base_: base.yaml\nA: 1", top="_base_: [left.yaml, right.yaml]")
    assert load("top.yaml")["A"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_base_: other.yaml", r"a cycle of _base_ files: top.yaml -> other.yaml -> top.yaml"),
        ("_base_: bsae.yaml", r"top.yaml:1: _base_: the file bsae.yaml does not exist; did you mean base.yaml\?"),
        ("A: 1\n_base_: {a: 1}", "top.yaml:2: _base_ must be a file name or a list of file names, got a mapping"),
        ("_base_: [1]", "_base_ must be a file name or a list of file names, got a list"),
        ("- a\n- b", "top.yaml: a config must be a mapping of sections, got a list"),
        ("just text", "a config must be a mapping of sections, got the text 'just text'"),
        ("A: {_delete_: 1}", "top.yaml:1: _delete_ can only be true, got 1"),
        ("A: 1\nA: 2", "top.yaml:2: duplicate key 'A'"),
    ],
)
def test_mistakes_in_files(files, text, message):
    files(top=text, other="_base_: top.yaml")
    with pytest.raises(ConfigError, match=message):
        load("top.yaml")


def test_files_that_cannot_be_read(files, tmp_path):
    Path("latin.yaml").write_bytes("A: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="latin.yaml: not UTF-8 text"):
        load("latin.yaml")
    with pytest.raises(ConfigError, match="is a directory, not a config file"):
        load(tmp_path)
    with pytest.raises(ConfigError, match=r"bas.yaml: no config file with this path.*did you mean base.yaml\?"):
        load("bas.yaml")


def test_an_empty_file_is_an_empty_config(files):
    files(top="# nothing\n")
    assert load("top.yaml") == {}


# ------------------------------------------------------------------------------------------------ configs that ship


def test_shipped_configs_are_found_from_anywhere(files):
    found = config_files.find("configs/quickstart/pretrain.yaml")
    assert found == config_files.find("quickstart/pretrain.yaml")
    assert load("configs/quickstart/pretrain.yaml")["Task"]["name"] == "MaskedImageModeling"
    with pytest.raises(ConfigError, match=r"did you mean configs/quickstart/pretrain.yaml\?"):
        load("configs/quickstart/pretrian.yaml")


def test_the_number_of_bases_is_limited(files):
    files(**{f"f{n}": f"_base_: [f{n - 1}.yaml, f{n - 1}.yaml]\n" for n in range(1, 40)}, f0="a: 1\n")
    with pytest.raises(
        ConfigError, match="the config has more than 256 _base_ files; a file counts each time it is named"
    ):
        load("f39.yaml")
    files(**{f"g{n}": f"_base_: g{n - 1}.yaml\n" for n in range(1, 2000)}, g0="a: 1\n")
    with pytest.raises(ConfigError, match="more than 256 _base_ files"):
        load("g1999.yaml")
    assert load("g200.yaml") == {"a": 1}


def test_shipped_configs_are_searched_only_below_the_config_folder(files):
    files(mine="_base_: ../setup.py\n")
    assert (config_files.config_root() / "../setup.py").is_file()
    with pytest.raises(ConfigError, match="does not exist"):
        load("mine.yaml")
    with pytest.raises(ConfigError, match="no config file with this path"):
        load("configs/../setup.py")


def test_a_config_outside_the_repository_can_build_on_a_shipped_one(files):
    files(mine="_base_: configs/_base_/runtime.yaml\nGlobal: {seed: 7}")
    assert load("mine.yaml")["Global"]["seed"] == 7
    assert "log_every_steps" in load("mine.yaml")["Global"]


def test_configs_are_found_in_an_installed_package(tmp_path):
    """A package built like by `pip install` contains all configs and finds one from another folder."""
    pytest.importorskip("setuptools")
    source, target = tmp_path / "source", tmp_path / "site-packages"
    for folder in ("plsc", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "plsc_ssl.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, source)
    build = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(target)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    built = {path.relative_to(target / "plsc" / "configs") for path in target.rglob("*.yaml")}
    assert built == {path.relative_to(ROOT / "configs") for path in SHIPPED}
    code = "import plsc.config.files as c; print(c.find('configs/quickstart/pretrain.yaml'))"
    result = subprocess.run([sys.executable, "-c", code], cwd=target, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(target / "plsc" / "configs" / "quickstart" / "pretrain.yaml")


SHIPPED = sorted(path for path in (ROOT / "configs").rglob("*.yaml"))


def test_every_shipped_config_reads_and_its_dump_is_the_same_config(tmp_path):
    dumped = tmp_path / "config.yaml"
    for path in SHIPPED:
        config = load(path)
        dumped.write_text(dump(config), encoding="utf-8")
        assert load(dumped) == config, path


# ------------------------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("Optimizer.weight_decay=3e-3", "Optimizer.weight_decay", 0.003),
        ("Optimizer.betas=[0.9, 0.95]", "Optimizer.betas", [0.9, 0.95]),
        ("Optimizer.extra={a: 1, b: [x]}", "Optimizer.extra", {"a": 1, "b": ["x"]}),
        ("Optimizer.weight_decay=null", "Optimizer.weight_decay", None),
        ("Optimizer.weight_decay=", "Optimizer.weight_decay", None),
        ("Global.output_dir=a=b=c", "Global.output_dir", "a=b=c"),
        ("Global.output_dir='x = y'", "Global.output_dir", "x = y"),
        ('Global.output_dir="3"', "Global.output_dir", "3"),
        ("Global.output_dir=+=", "Global.output_dir", "+="),
        ("Global.output_dir=~/runs", "Global.output_dir", "~/runs"),
        ("A.b.c=1", "A.b.c", 1),
        ("DataLoader.Train.transforms.1.scale=[0.5,1.0]", "DataLoader.Train.transforms.1.scale", [0.5, 1.0]),
        ("DataLoader.Train.transforms.-1.scale.0=0.3", "DataLoader.Train.transforms.1.scale.0", 0.3),
        ("DataLoader.Train.transforms.0={p: 1}", "DataLoader.Train.transforms.0", {"name": "Flip", "p": 1}),
        ("DataLoader.Train.transforms.0={_delete_: true, name: X}", "DataLoader.Train.transforms.0", {"name": "X"}),
        ("DataLoader.Train.transforms=[]", "DataLoader.Train.transforms", []),
        ("Optimizer={weight_decay: 1}", "Optimizer", {"name": "AdamW", "weight_decay": 1, "beta1": 0.9}),
        ("Optimizer={_delete_: true, name: SGD}", "Optimizer", {"name": "SGD"}),
        ("EMA={_delete_: true, decay: 0.9}", "EMA", {"decay": 0.9}),
        ("Callbacks+={name: Pictures}", "Callbacks", [{"name": "Pictures"}]),
        ("Callbacks+=[1, 2]", "Callbacks", [1, 2]),
        ("DataLoader.Train.transforms.1.scale+=3", "DataLoader.Train.transforms.1.scale", [0.2, 1.0, 3]),
    ],
)
def test_one_override(files, override, path, value):
    config = load("base.yaml", [override])
    for key in path.split("."):
        config = config[int(key) if isinstance(config, list) else key]
    assert to_plain(config) == value


def test_every_overridden_value_records_its_origin(files):
    config = load("base.yaml", ["A={b: [1, {c: 2}]}", "Optimizer.beta1=1", "DataLoader.Train.transforms.0.p=1"])
    assert str(config["A"]["b"][1].origins["c"]) == "-o A={b: [1, {c: 2}]}"
    assert str(config["Optimizer"].origins["beta1"]) == "-o Optimizer.beta1=1"
    assert str(config["Optimizer"].origins["name"]) == "base.yaml:2"
    assert str(config["DataLoader"]["Train"]["transforms"][0].origins["p"]) == "-o DataLoader.Train.transforms.0.p=1"


def test_several_overrides_under_one_parent_all_count_in_order(files):
    config = load("base.yaml", ["A.b.c=1", "A.b.d=2", "A.e=3", "A.b.c=4", "L+=1", "L+=2", "L.0=7"])
    assert to_plain(config["A"]) == {"b": {"c": 4, "d": 2}, "e": 3}
    assert config["L"] == [7, 2]


def test_delete(files):
    config = load("base.yaml", ["~Optimizer.beta1", "~DataLoader.Train.transforms.0", "~Global"])
    assert to_plain(config["Optimizer"]) == {"name": "AdamW", "weight_decay": 0.05}
    assert [item["name"] for item in config["DataLoader"]["Train"]["transforms"]] == ["Crop"]
    assert len(config["DataLoader"]["Train"]["transforms"].origins) == 1
    assert "Global" not in config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Optimizer", "-o Optimizer: an override must be key=value, key[+]=value or ~key"),
        ("=3", "'' is not a key path; join names by dots"),
        ("Optimizer..x=3", "'Optimizer..x' is not a key path"),
        ("~", "'' is not a key path"),
        ("~Optimizer.weigth_decay", r"does not exist and cannot be deleted; did you mean Optimizer.weight_decay\?"),
        ("~Optimizer.name.x", "Optimizer.name.x does not exist and cannot be deleted"),
        ("Optimizer.name.x=1", "Optimizer.name is the text 'AdamW', so no key can be set below it"),
        ("DataLoader.Train.transforms.2.p=1", "DataLoader.Train.transforms has no item 2; its length is 2"),
        ("~DataLoader.Train.transforms.-3", "has no item -3; its length is 2"),
        ("DataLoader.Train.transforms.Flip.p=1", "is a list of 2; address its items by index, not 'Flip'"),
        ("Optimizer+=1", r"Optimizer is a mapping, so \+= cannot append to it"),
        ("A=[1", r"-o A=\[1: not valid YAML"),
        ("A={b: 1, b: 2}", "duplicate key 'b'"),
        ("A={name:ViT, depth: 3}", "'name:ViT' is not a key with a value; put a space after the colon"),
        ("A={_delete_: yes}", "_delete_ can only be true, got 'yes'"),
        ("A=!!python/name:os.system x", "-o A=!!python/name:os.system x: the tag .* is not allowed"),
    ],
)
def test_mistakes_in_overrides(files, override, message):
    with pytest.raises(ConfigError, match=message):
        load("base.yaml", [override])


def test_all_mistakes_in_overrides_are_reported_at_once(files):
    with pytest.raises(ConfigError) as caught:
        load("base.yaml", ["Optimizer", "A=1", "~B", "Optimizer.name.x=1"])
    assert [text.split(":")[0] for text in caught.value.problems] == ["-o Optimizer", "-o ~B", "-o Optimizer.name.x=1"]


def test_config_text_is_never_executed(files, tmp_path):
    for text in ("__import__('os').mkdir('ran')", "$(mkdir ran)", "${oc.env:HOME}", "os.mkdir('ran')"):
        assert load("base.yaml", [f"Global.output_dir={text}"])["Global"]["output_dir"] == text
    assert not Path("ran").exists()
