import unicodedata

import numpy as np
import pytest
from PIL import Image

from plsc.data.folder import ImageFolder
from plsc.data.list_file import ListFile
from plsc.data.subset import Subset
from plsc.data.summary import summary
from tests.data.toys import Images, write_images


def test_images_and_classes(tmp_path):
    root = write_images(tmp_path, ["a/1.png", "a/2.png", "b/1.png"])
    assert summary(ImageFolder(root)) == "3 images in 2 classes (1 to 2 each)"
    assert summary(ImageFolder(root, with_classes=False)) == "3 images without labels"
    assert summary(Images(10)) == "10 images in 2 classes"


@pytest.mark.parametrize("with_classes", ["auto", False])
def test_files_that_are_left_out_are_counted(tmp_path, with_classes):
    root = write_images(tmp_path, ["a/1.png", "b/1.jfif", "b/c/2.JPE"])
    for name in ("a/1.heic", "a/2.HEIC", "b/notes.txt", "b/none", "a/.hidden.heic", "README.md"):
        (tmp_path / name).write_bytes(b"x")
    dataset = ImageFolder(root, with_classes)
    expected = {".heic": 2, ".txt": 1, "no ending": 1, ".md": 1}
    assert dataset.left_out == expected
    said = summary(Subset(dataset))
    assert "; 5 other files ignored (see extensions): 2 .heic, 1 .md, 1 .txt, 1 no ending" in said


def test_labels_without_images(tmp_path):
    root = write_images(tmp_path, [f"{number}.png" for number in range(4)])
    (tmp_path / "list.txt").write_text("0.png 1\n1.png 2\n2.png 4\n3.png 1\n")
    said = summary(ListFile(root, str(tmp_path / "list.txt")))
    assert said == "4 images in 3 classes (1 to 2 each), no image in 2 of 5: 0, 3; labels start at 0"


def test_classes_that_look_the_same(tmp_path):
    root = write_images(tmp_path, [unicodedata.normalize(form, "crème") + "/1.png" for form in ("NFC", "NFD")])
    assert r"look the same but differ: cre\u0300me, cr\xe8me" in summary(ImageFolder(root))


def grey(path, greatest, dtype=np.uint16):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.linspace(0, 1, 256).reshape(16, 16) * greatest).astype(dtype)).save(path)


def test_images_that_use_few_of_16_bits(tmp_path):
    for number in range(3):
        grey(tmp_path / "a" / f"{number}.png", 4095)
    (tmp_path / "a" / "broken.png").write_bytes(b"x")
    said = summary(ImageFolder(str(tmp_path)))
    assert "the 16-bit images have no value above 4,095 of 65,535 (3 were checked)" in said and "dataset's bits" in said
    assert "16-bit" not in summary(ImageFolder(str(tmp_path), bits=12))
    grey(tmp_path / "a" / "4.png", 65535)
    assert "16-bit" not in summary(ImageFolder(str(tmp_path)))
