"""The checked config of a run as one object."""

import pytest

from plsc.config import plugins
from plsc.config.files import load
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigError, dump


@pytest.fixture
def tree():
    plugins.load_built_in()
    return load("configs/quickstart/pretrain.yaml", ["AMP.level=O1", "DataLoader.Train.loader.batch_size=4"])


def test_it_is_a_mapping_of_the_sections(tree):
    config = RunConfig.checked(tree)
    assert dict(config) == tree and len(config) == len(tree)
    assert config["Model"] is tree["Model"] and config.get("no such section") is None
    assert dump(config) == dump(tree)


def test_settings_are_typed_and_read_once(tree):
    config = RunConfig.checked(tree)
    assert config.global_.seed == tree["Global"].get("seed", 0) and config.global_ is config.global_
    assert (config.amp.level, config.ema.decay, config.init.checkpoint) == ("O1", None, None)
    assert config.strategy.sharding_degree == 1
    assert config.loader("Train").batch_size == 4 and config.loader("Train") is config.loader("Train")


def test_lists_of_components(tree):
    config = RunConfig.checked(tree)
    assert config.nodes("DataLoader.Train.transforms") == tree["DataLoader"]["Train"]["transforms"]
    assert config.nodes("Metric") == [] and config.nodes("DataLoader.Eval.batch_transforms") == []
    assert config.evaluates == (tree["DataLoader"].get("Eval") is not None)


def test_a_wrong_tree_is_refused(tree):
    tree["Global"].put("epoch", 3, tree["Global"].origin)
    with pytest.raises(ConfigError, match="Global has no key 'epoch'"):
        RunConfig.checked(tree)
