"""Every config of the repository is valid, and a dry run tells what it would train."""

from pathlib import Path

import pytest

from plsc.config import files as config_files
from plsc.config import plugins
from plsc.config.run_config import RunConfig
from plsc.planning.dry_run import dry_run

ROOT = Path(__file__).parent.parent / "configs"
CONFIGS = sorted(path for path in ROOT.rglob("*.yaml") if "_base_" not in path.parts)
RECIPES = {
    "cae_vit_base_pretrain_in1k_800e": ["148,681,472 trained", "121 visible, 75 masked", "2048 images", "0.0015 at"],
    "cae_vit_base_pretrain_in1k_300e_authors": ["148,681,472 trained", "98 visible, 98 masked", "0.0015 at"],
    "cae_vit_base_finetune_in1k_100e": ["86,530,984 trained", "4096 images", "0.008 at", "x 1"],
    "cae_vit_base_linprobe_in1k_90e": ["769,000 trained", "16384 images", "6.4 at", "0.1 x 16384 / 256"],
    "cae_vit_large_finetune_in1k_50e": ["0.002 at", "learning rate x 0.75"],
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_dry_run_needs_neither_data_nor_weights(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = config_files.load(path)
    plugins.load_built_in()
    text = dry_run(RunConfig.checked(tree))
    for wanted in ("parameters", "trained", "GFLOPs per image", "effective batch", "learning rate", "steps"):
        assert wanted in text
    for wanted in RECIPES.get(path.stem, []):
        assert wanted in text
    assert not list(tmp_path.iterdir())


def test_the_named_recipes_are_there():
    assert set(RECIPES) <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_config_writes_where_its_name_says(path):
    directory = config_files.load(path)["Global"]["output_dir"]
    assert directory.startswith("output/")
    owners = [other for other in CONFIGS if config_files.load(other)["Global"]["output_dir"] == directory]
    assert owners == [path]
