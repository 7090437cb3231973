"""Every config of the repository is valid, and a dry run tells what it would train."""

from pathlib import Path

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


def test_a_dry_run_needs_neither_data_nor_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugins.load_built_in()
    for path in CONFIGS:
        text = dry_run(RunConfig.checked(config_files.load(path)))
        wanted = ["parameters", "trained", "GFLOPs per image", "effective batch", "learning rate", "steps"]
        missing = [words for words in [*wanted, *RECIPES.get(path.stem, [])] if words not in text]
        assert not missing, f"{path}: {missing}"
    assert not list(tmp_path.iterdir())
    assert set(RECIPES) <= {path.stem for path in CONFIGS}


def test_each_config_has_an_output_directory_that_no_other_config_has():
    owners = {}
    for path in CONFIGS:
        owners.setdefault(config_files.load(path)["Global"]["output_dir"], []).append(path)
    assert all(directory.startswith("output/") for directory in owners)
    assert [paths for paths in owners.values() if len(paths) > 1] == []
