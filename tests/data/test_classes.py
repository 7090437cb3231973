import numpy as np
import pytest

from plsc.data.classes import Relabelled, check_labels, class_names, match_classes
from plsc.data.list_file import ListFile
from plsc.data.loader import DataLoader
from tests.data.toys import write_images

KNOWN = ["apple", "berry", "cherry"]


class Named:
    """Dataset with the given labels and class names."""

    def __init__(self, classes, labels, listed=True):
        self.classes = classes
        self.all = labels
        if listed:
            self.labels = np.array(labels)

    def __len__(self):
        return len(self.all)

    def path(self, index):
        return f"file {index}"

    def __getitem__(self, index):
        return {"image": np.zeros((2, 2, 3), np.uint8), "label": self.all[index], "path": self.path(index)}


def matched(dataset, known=KNOWN):
    said = []
    return match_classes(dataset, known, "the run", said.append), said


def test_equal_classes_are_not_changed():
    dataset = Named(KNOWN, [2, 0])
    assert matched(dataset) == (dataset, [])


@pytest.mark.parametrize("listed", [True, False])
def test_labels_of_another_order_follow_the_names(listed):
    found, said = matched(Named(["cherry", "apple", "berry"], [0, 1, 2, 0], listed))
    assert [found[i]["label"] for i in range(4)] == [2, 0, 1, 2] and len(found) == 4 and not said
    assert found.classes == KNOWN and found.path(3) == "file 3"
    assert found.labels is None if not listed else found.labels.tolist() == [2, 0, 1, 2]


def test_missing_classes_are_reported():
    found, said = matched(Named(["berry", "cherry"], [0, 1]))
    assert found.labels.tolist() == [1, 2]
    assert said == ["note: DataLoader.Eval has no images of 1 of the 3 classes: 'apple'"]
    first = Named(["apple"], [0])
    assert matched(first)[0] is first and "'berry', 'cherry'" in matched(first)[1][0]


def test_unknown_classes_are_refused_and_listed():
    with pytest.raises(
        ValueError, match="1 of its 2 classes is unknown to the run: 'date'; the known classes are 'apple', "
    ):
        matched(Named(["berry", "date"], [0, 1]))


def test_composed_and_decomposed_letters_are_the_same_name():
    found, said = matched(Named(["cafe\u0301", "bar"], [0, 1]), ["bar", "caf\u00e9"])
    assert found.labels.tolist() == [1, 0] and not said


@pytest.mark.parametrize(
    ("dataset", "known", "reason"),
    [
        (Named(["a", "b"], [0]), None, "the run does not name its classes"),
        (Named(None, [0]), KNOWN, "DataLoader.Eval does not name its classes"),
        (Named(["a", "a"], [0]), KNOWN, "a class name occurs more than once"),
    ],
)
def test_matching_by_position_is_reported(dataset, known, reason):
    found, (note,) = matched(dataset, known)
    assert found is dataset and note == f"note: classes are matched by position, not by name: {reason}"


def test_a_list_file_has_no_class_names(tmp_path):
    write_images(tmp_path, ["a.png"])
    (tmp_path / "list.txt").write_text("a.png 2\n", encoding="utf-8")
    dataset = ListFile(str(tmp_path), str(tmp_path / "list.txt"))
    assert dataset.classes == ["0", "1", "2"] and class_names(dataset) is None
    assert matched(dataset)[0] is dataset


@pytest.mark.parametrize("labels", [[-100], [0, -1], [3], [0, 7], np.int64(-5)])
def test_labels_out_of_range_are_refused(labels):
    with pytest.raises(ValueError, match="out of range: labels must be from 0 to 2; correct the labels of X"):
        check_labels(labels, 3, "X")


@pytest.mark.parametrize("labels", [[], [0, 2], 1, np.array([0.5, -3.0]), None, "text"])
def test_labels_in_range_and_soft_labels_are_accepted(labels):
    check_labels(labels, 3)


def test_negative_labels_are_refused_when_relabelled():
    with pytest.raises(ValueError, match="label -1 is out of range"):
        Relabelled(Named(["b", "a"], [0, -1]), [1, 0], ["a", "b"])
    with pytest.raises(ValueError, match="label -1 is out of range"):
        Relabelled(Named(["b", "a"], [0, -1], listed=False), [1, 0], ["a", "b"])[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_names_the_sample_of_a_label_out_of_range(workers):
    loader = DataLoader(
        Named(KNOWN, [0, 1, -100, 2]), batch_size=2, num_workers=workers, shuffle=False,
        check_label=lambda label: check_labels(label, 3, "DataLoader.Train.dataset"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="file 2: the label -100 is out of range"):
        list(loader)
