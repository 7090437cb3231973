import json

import numpy as np

from plsc.data.cifar import CIFAR10
from plsc.data.fingerprint import fingerprint
from plsc.data.folder import ImageFolder
from plsc.data.images import ImageError
from plsc.data.list_file import ListFile
from plsc.data.subset import EveryKth, Subset
from tests.data.test_cifar import content, write_archive
from tests.data.toys import Images, write_images

NAMES = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(4)]


def folder(root, names=NAMES):
    return ImageFolder(write_images(root, names))


def test_moved_folder_is_the_same(tmp_path):
    one, other = fingerprint(folder(tmp_path / "a")), fingerprint(folder(tmp_path / "b"))
    assert one == other == json.loads(json.dumps(one))
    assert one["samples"] == 8 and one["classes"] == ["cat", "dog"] and len(one["digest"]) == 64


def test_names_labels_and_order_change_the_fingerprint(tmp_path):
    lines = ["x/1.png 0", "x/2.png 0", "y/1.png 1"]
    variants = [
        lines,
        lines[:2] + ["y/1.png 0"],  # a label
        lines[::-1],  # the order
        lines[:2],  # the number
        lines[:2] + ["y/3.png 1"],  # a name
        ["x/1.png", "x/2.png", "y/1.png"],  # no labels
        ["x/1.pngx/2.png", "x", "y/1.png"],  # other names of the same letters
    ]
    digests = []
    for number, variant in enumerate(variants):
        file = tmp_path / f"{number}.txt"
        file.write_text("\n".join(variant))
        digests.append(fingerprint(ListFile(str(tmp_path), str(file)))["digest"])
    assert len(set(digests)) == len(variants)


def test_many_names_are_joined_in_pieces(tmp_path, monkeypatch):
    data = folder(tmp_path)
    whole = fingerprint(data)
    monkeypatch.setattr("plsc.data.fingerprint._AT_ONCE", 3)
    assert fingerprint(data) == whole


def test_part_does_not_depend_on_the_longest_name_of_the_whole(tmp_path):
    short = EveryKth(folder(tmp_path / "a", NAMES), 1)
    long = EveryKth(folder(tmp_path / "b", [*NAMES, "dog/z_a_much_longer_name.png"]), 1)
    assert fingerprint(short) == fingerprint(long)


def test_parts_of_data(tmp_path):
    data = folder(tmp_path)
    found = [
        fingerprint(part)
        for part in (data, Subset(data, per_class=2), Subset(data, per_class=2, seed=5), EveryKth(data, 3))
    ]
    assert len({one["digest"] for one in found}) == 4
    assert [one["samples"] for one in found] == [8, 4, 4, 3]
    assert all(one["classes"] == ["cat", "dog"] for one in found)
    assert EveryKth(data, 3).labels.tolist() == [data.labels[place] for place in EveryKth(data, 3).chosen]


def test_cifar(tmp_path, monkeypatch):
    monkeypatch.setattr(
        CIFAR10, "md5", write_archive(tmp_path, CIFAR10.archive, {"c/data_batch_1": content(b"labels", 6, 1)})
    )
    data = CIFAR10(str(tmp_path))
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 5]
    whole, part = fingerprint(data), fingerprint(EveryKth(data, 3))
    assert (whole["samples"], whole["classes"][3]) == (6, "cat")
    assert whole["digest"] != part["digest"] and part["classes"] == whole["classes"]


class Shifted(Images):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "label": np.int64((index + 1) % 2)}


class Damaged(Images):
    def __getitem__(self, index):
        if index == 0:
            raise ImageError("it is damaged")
        return super().__getitem__(index)


class Unlabelled(Images):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        del sample["label"]
        return sample


def test_dataset_without_names_by_its_length_and_some_labels():
    kinds = [Images(10), Images(11), Shifted(10), Damaged(10), Unlabelled(10)]
    found = [fingerprint(kind) for kind in kinds]
    assert len({one["digest"] for one in found}) == len(kinds)
    assert fingerprint(Images(10)) == found[0] and found[0]["classes"] == ["odd", "even"]
    assert fingerprint(EveryKth(Images(10), 5))["digest"] != found[0]["digest"]


class Kept(Images):
    def __init__(self, labels):
        super().__init__(len(labels))
        self.labels = labels


def test_labels_of_any_kind():
    kinds = [[0, 1], [1, 0], [0.0, 0.5], [[0, 1], [1, 0]], ["a", "b"], np.array([[0.0, 0.25], [1.0, 0.0]])]
    assert len({fingerprint(Kept(labels))["digest"] for labels in kinds}) == len(kinds)
    same = [fingerprint(Kept(np.array([0, 1], dtype=dtype))) for dtype in ("int32", "int64", "uint8")]
    assert same[0] == same[1] == same[2] == fingerprint(Kept([0, 1]))
    data = Images(4)
    for data.labels in ("labels", 3, np.int64(3), [1, 2]):  # none of these is a list of labels
        assert fingerprint(data) == fingerprint(Images(4))


def test_few_samples_are_read_of_a_large_dataset(monkeypatch):
    read = []
    monkeypatch.setattr(Images, "__getitem__", lambda self, index: read.append(index) or {"label": 0})
    fingerprint(Images(100_000))
    assert len(read) == 16 and max(read) == 99_999
