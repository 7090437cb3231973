"""Suggestions: similar words, keys of other sections, components of other kinds."""

import pytest

from plsc.config import registry
from plsc.config.schema import SECTIONS
from plsc.config.suggest import KNOWN_AS, key_paths, nearest, suggest_component, suggest_key
from plsc.config.tree import parse
from tests.components import CONFIG, register_toys


@pytest.fixture
def paths(monkeypatch):
    """Return every key path that the toy config could contain."""
    register_toys(monkeypatch)
    return list(key_paths(parse(CONFIG, "toy.yaml"), SECTIONS))


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("weigth_decay", ["weight_decay", "momentum"], "weight_decay"),
        ("amp", ["AMP", "EMA"], "AMP"),
        ("x", ["AMP", "EMA"], ""),
        ("x", [], ""),
    ],
)
def test_nearest(word, known, near):
    assert nearest(word, known) == near


def test_key_paths_are_those_of_the_components_that_the_config_names(paths):
    assert {"Global", "Global.seed", "Init.checkpoint", "DataLoader.Train.loader.batch_size"} <= set(paths)
    assert {"Model.width", "Model.encoder.depth", "DataLoader.Train.transforms.0.p"} <= set(paths)
    assert "Model.depth" not in paths  # an argument of Inner, but Model is an Outer
    assert "Optimizer.momentum" not in paths
    assert "Optimizer.model" not in paths  # the engine's


def test_key_paths_without_a_named_component_are_those_of_all(paths):
    assert "Loss.weight" in paths
    assert "DataLoader.Eval.dataset.root" in paths


@pytest.mark.parametrize(
    ("key", "valid", "path", "text"),
    [
        ("wdith", ["width"], "Model.wdith", "did you mean 'width'?"),  # a typo first
        ("lr", ["width"], "Model.lr", "did you mean LRScheduler.learning_rate?"),  # then other tools' names
        ("seed", ["width"], "Model.seed", "did you mean Global.seed?"),  # then the same key elsewhere
        ("depth", ["width"], "Model.depth", "did you mean Model.encoder.depth?"),
        ("wide", ["width"], "Model.wide", "did you mean 'width'?"),  # then something similar here
        ("zzz", ["width", "kind"], "Model.zzz", "valid here: width, kind"),
        ("zzz", [], "Model.zzz", "valid here: nothing"),
    ],
)
def test_order_of_suggestions(paths, key, valid, path, text):
    assert suggest_key(key, valid, path, paths) == text


def test_names_of_other_tools_lead_to_existing_keys():
    plain = set(key_paths({}, {name: part for name, part in SECTIONS.items() if not hasattr(part, "kind")}))
    components = ("LRScheduler.", "Optimizer.", "DataLoader.Train.dataset.")
    assert {path for path in KNOWN_AS.values() if not path.startswith(components)} <= plain


def test_components_of_another_kind_are_recognised(paths):
    kinds = [registry.TASKS, registry.MODELS]
    assert suggest_component("Innr", registry.MODELS, kinds).startswith(
        "did you mean 'Inner'? registered: Inner, Outer"
    )
    assert suggest_component("Toy", registry.MODELS, kinds) == "it is a task; registered: Inner, Outer"
    assert "of your own components in `imports: [module]`" in suggest_component("Zzzz", registry.MODELS, kinds)
    assert suggest_component("Zzzz", registry.METRICS, kinds).startswith("registered: none")
