import numpy as np
import pytest

from plsc.config import registry
from plsc.data.folder import ImageFolder
from plsc.data.subset import Subset
from tests.integration.runs import make_digits


class Labelled:
    """Dataset with `counts[c]` samples of class c."""

    classes = ["a", "b", "c"]

    def __init__(self, *counts):
        self.labels = np.repeat(np.arange(len(counts)), counts)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"image": None, "label": int(self.labels[index]), "path": str(index)}


def chosen(*arguments, **options):
    subset = Subset(*arguments, **options)
    return [int(subset[i]["path"]) for i in range(len(subset))]


def test_parts_are_disjoint_complete_and_stratified():
    data = Labelled(50, 20, 5)
    train, validation = chosen(data, part="train"), chosen(data, part="validation")
    assert sorted(train + validation) == list(range(75))
    assert np.bincount(data.labels[validation]).tolist() == [10, 4, 1]


def test_few_of_each_class_are_part_of_more():
    data = Labelled(50, 20, 5)
    few, more = set(chosen(data, fraction=0.1)), set(chosen(data, fraction=0.5))
    assert few < more and np.bincount(data.labels[sorted(few)]).tolist() == [5, 2, 1]
    assert np.bincount(data.labels[chosen(data, per_class=4)]).tolist() == [4, 4, 4]


def test_few_are_taken_from_the_part():
    data = Labelled(50, 20, 5)
    assert not set(chosen(data, part="train", fraction=0.3)) & set(chosen(data, part="validation"))


def test_the_choice_depends_on_the_seed():
    data = Labelled(50, 20, 5)
    assert chosen(data, per_class=3) == chosen(data, per_class=3) != chosen(data, per_class=3, seed=1)


def test_a_subset_is_a_dataset(tmp_path):
    root = str(make_digits(tmp_path) / "train")
    node = {"name": "Subset", "per_class": 3, "dataset": {"name": "ImageFolder", "root": root}}
    subset = registry.DATASETS.build(node)
    assert len(subset) == 6 and subset.classes == ["0", "1"] and subset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert subset[5]["label"] == 1 and "path" in subset[5]
    assert Subset(subset, per_class=2).labels.tolist() == [0, 0, 1, 1]


def test_labels_are_read_from_samples_without_a_list(monkeypatch):
    data = Labelled(4, 4)
    hidden = type("Hidden", (), {"__len__": lambda s: 8, "__getitem__": lambda s, i: data[i]})()
    assert Subset(hidden, per_class=1).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_share": 1.0}, r"validation_share must be in \(0, 1\), got 1.0"),
        ({"per_class": 0}, "per_class must be at least 1, got 0"),
        ({"fraction": 0.0}, r"fraction must be in \(0, 1\], got 0.0"),
        ({"fraction": 0.5, "per_class": 1}, "cannot be combined"),
        ({"per_class": 6}, "per_class is 6, but class c has 5 samples"),
    ],
)
def test_invalid_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Subset(Labelled(50, 20, 5), **options)


def test_an_empty_subset_is_refused():
    with pytest.raises(ValueError, match="the subset of 2 samples is empty"):
        Subset(Labelled(1, 1), part="validation")


def test_images_without_labels_are_one_class(tmp_path):
    folder = ImageFolder(str(make_digits(tmp_path) / "train" / "0"))
    train, validation = (Subset(folder, part=part, validation_share=0.3) for part in ("train", "validation"))
    assert (len(train), len(validation)) == (7, 3) and train.labels is train.classes is None
    assert not {train[i]["path"] for i in range(7)} & {validation[i]["path"] for i in range(3)}
    assert len(Subset(folder, fraction=0.2)) == 2
    with pytest.raises(ValueError, match="per_class needs a dataset with classes; .* or set fraction instead"):
        Subset(folder, per_class=1)
