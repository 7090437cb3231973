import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from plsc.data.cifar import CIFAR10, CIFAR100


def write_archive(folder, name, members):
    with tarfile.open(folder / name, "w:gz") as archive:
        for member, content in members.items():
            data = pickle.dumps(content)
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return hashlib.md5((folder / name).read_bytes()).hexdigest()


def content(key, number, seed):
    rng = np.random.default_rng(seed)
    return {b"data": rng.integers(0, 256, (number, 3072), dtype=np.uint8), key: list(range(number))}


def test_cifar10(tmp_path, monkeypatch):
    batches = {f"c/data_batch_{part}": content(b"labels", 3, part) for part in (1, 2)}
    test = content(b"labels", 2, 9)
    md5 = write_archive(tmp_path, CIFAR10.archive, {**batches, "c/test_batch": test})
    monkeypatch.setattr(CIFAR10, "md5", md5)
    assert len(CIFAR10(str(tmp_path))) == 6
    dataset = CIFAR10(str(tmp_path / CIFAR10.archive), split="test")
    assert len(dataset) == 2
    sample = dataset[1]
    assert sample["label"] == 1
    assert sample["image"].mode == "RGB"
    expected = test[b"data"][1].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(sample["image"]), expected)
    assert sample["path"].endswith(f"{CIFAR10.archive}[1]")
    assert dataset.classes[3] == "cat"


def test_cifar100(tmp_path, monkeypatch):
    md5 = write_archive(tmp_path, CIFAR100.archive, {"c/train": content(b"fine_labels", 4, 0)})
    monkeypatch.setattr(CIFAR100, "md5", md5)
    dataset = CIFAR100(str(tmp_path))
    assert [dataset[index]["label"] for index in range(4)] == [0, 1, 2, 3]
    assert len(dataset.classes) == 100


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_its_pickles_are_read_without_running_them(tmp_path, monkeypatch):
    members = {"c/data_batch_1": {**content(b"labels", 1, 0), b"x": Evil(tmp_path / "marker")}}
    monkeypatch.setattr(CIFAR10, "md5", write_archive(tmp_path, CIFAR10.archive, members))
    with pytest.raises(ValueError, match=r"gz/c/data_batch_1: the file asks for posix\.mkdir; only tensors and plain"):
        CIFAR10(str(tmp_path))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("dataset", [CIFAR10, CIFAR100])
def test_missing_file_is_named_and_nothing_downloaded(tmp_path, dataset):
    with pytest.raises(ValueError, match=f"{dataset.archive}: there is no such file; download"):
        dataset(str(tmp_path))


def test_another_file_is_not_opened(tmp_path):
    write_archive(tmp_path, CIFAR10.archive, {"c/data_batch_1": content(b"labels", 1, 0)})
    with pytest.raises(ValueError, match="is not the published cifar-10-python.tar.gz .MD5 c58f30"):
        CIFAR10(str(tmp_path))
