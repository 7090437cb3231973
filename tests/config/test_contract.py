"""Components of plug-ins that break the contract of their kind are refused when they are built."""

import numpy as np
import pytest
from paddle import nn

import plsc.masking  # noqa: F401 - it registers its contract
from plsc.config import registry
from plsc.config.tree import ConfigError, parse
from plsc.data.batch_transforms import BatchTransform, Normalize, ToFloat, preparing
from plsc.data.mixup import MixupCutmix
from plsc.evaluation.metrics import Metric
from plsc.models import Classifier, LinearGrid, LinearHead, ViT
from plsc.models.encoder import Encoder
from plsc.models.heads import Head
from plsc.nn.network import Network
from plsc.tasks import Task
from plsc.tasks.classification import Classification
from plsc.tokenizers import Target


def build(kind, component, monkeypatch, **runtime):
    monkeypatch.setitem(kind._components, "Plugged", component)
    return kind.build({"name": "Plugged"}, **runtime)


def layer(base=nn.Layer, **members):
    def init(self, **_):
        super(made, self).__init__()
        for name, value in members.items():
            setattr(self, name, value)

    made = type("Plugged", (base,), {"__init__": init})
    return made


class Scale:
    key = "image"

    def __call__(self, batch, rng):
        return batch


class Undecided(BatchTransform):
    def __call__(self, batch, rng):
        return batch


class Ids(Target):
    kind = "ids"

    def __call__(self, batch):
        return batch["image"]


class Halves:
    grid = (4, 4)

    def __call__(self, rng):
        return np.zeros(self.grid, dtype=bool)


class Lossless(Task):
    def __init__(self):
        super().__init__(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("kind", "component", "message"),
    [
        (registry.BATCH_TRANSFORMS, Scale, "Scale must derive from plsc.data.batch_transforms."
                                           "BatchTransform and define augments"),
        (registry.BATCH_TRANSFORMS, Undecided, "Undecided lacks augments, which plsc.data.batch_transforms.Batch"),
        (registry.TOKENIZERS, Scale, "Scale must derive from plsc.tokenizers.base.Target and define kind"),
        (registry.TOKENIZERS, Ids, "Ids gives ids, but its vocab_size is None; set vocab_size in its constructor"),
        (registry.MASK_GENERATORS, Halves, "Halves lacks num_masked, which plsc.masking.base.MaskGenerator requires"),
        (registry.METRICS, Scale, "Scale must derive from plsc.evaluation.metrics.Metric and define terms"),
        (registry.METRICS, type("Nothing", (Metric,), {}), "Nothing lacks terms, which plsc.evaluation.metrics.Metric"),
        (registry.DATASETS, Scale, "Scale lacks __len__, __getitem__, which plsc.data.base.Dataset requires"),
        (registry.TASKS, nn.Layer, "Layer must derive from plsc.tasks.base.Task"),
        (registry.TASKS, Lossless, "Lossless lacks forward, which plsc.tasks.base.Task requires"),
        (registry.MODELS, layer(Encoder, embed_dim=4), "Plugged lacks image_size, patch_size, grid_size, num_prefix_"),
        (registry.MODELS, layer(Head, in_features=4), "Plugged lacks num_classes, forward, which plsc.models.heads"),
        (registry.MODELS, layer(Network), "Plugged lacks encoder, which plsc.nn.network.Network requires"),
    ],
)  # fmt: skip
def test_a_missing_member_is_named(kind, component, message, monkeypatch):
    with pytest.raises(ValueError) as error:
        build(kind, component, monkeypatch)
    assert str(error.value).startswith(message)


def test_the_message_has_the_place_in_the_config(monkeypatch):
    monkeypatch.setitem(registry.BATCH_TRANSFORMS._components, "Scale", Scale)
    with pytest.raises(ConfigError, match="config.yaml:1: Scale must derive from plsc.data"):
        registry.BATCH_TRANSFORMS.build(parse("t: {name: Scale}", "config.yaml")["t"])


def test_members_that_would_be_ignored_are_refused():
    for name in ("encoder", "layer_index", "update_teacher", "num_classes"):
        with pytest.raises(ValueError, match=f"Plugged has {name}, but is not a Network: derive it from plsc.nn.net"):
            Task(layer(**{name: nn.Linear(1, 1)})())
    task = Task(nn.Linear(1, 1))
    assert task.encoder is task.model and task.num_layers is None and task.lr_scale("model.weight") == 1.0


def test_parts_of_a_classifier_are_checked():
    vit = ViT(16, 4, embed_dim=8, depth=1, num_heads=2)
    with pytest.raises(ValueError, match="Linear must derive from plsc.models.heads.Head"):
        Classifier(vit, nn.Linear(8, 2))
    for model in (lambda: Classifier(nn.Linear(1, 1), LinearHead(8, 2)), lambda: LinearGrid(nn.Linear(1, 1), 2)):
        with pytest.raises(ValueError, match=r"Linear must derive from plsc.models.encoder.Encoder"):
            model()


def test_a_dataset_gets_the_optional_members_that_it_lacks(monkeypatch):
    dataset = build(
        registry.DATASETS, type("Two", (), {"__len__": lambda s: 2, "__getitem__": lambda s, i: {}}), monkeypatch
    )
    assert dataset.classes is None and dataset.path(0) is None


def test_only_transforms_that_do_not_augment_prepare_images():
    class Shift(BatchTransform):
        augments = False

        def __call__(self, batch, rng):
            return batch

    shift, normalize = Shift(), Normalize()
    assert preparing([ToFloat(), normalize, MixupCutmix(2), shift]) == [normalize, shift]


def test_the_number_of_classes_of_a_grid_is_that_of_the_task():
    grid = LinearGrid(ViT(16, 4, embed_dim=8, depth=1, num_heads=2), 3, blocks=[1], rates=[0.1])
    task = Classification(grid, nn.CrossEntropyLoss())
    assert task.num_classes == 3 and task.head_names == grid.head_names and task.image_size == (16, 16)
