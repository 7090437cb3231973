"""Invalid training data, and unusual but valid data."""

import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bad_input.toys import Case, refused, rows, trains

ROOT = "DataLoader.Train.dataset.root=data"
DATASET = "DataLoader.Train.dataset={_delete_: true, name: %s}"
LIST = [DATASET % "ListFile, root: images/train, list_file: list.txt", "DataLoader.Eval=null"]
SUBSET = DATASET % "Subset, dataset: {name: ImageFolder, root: images/train}, %s"
GOOD_LIST = "".join(f"class{label}/{number}.png {label}\n" for label in (0, 1) for number in range(4))


# ---------------------------------------------------------------------------------------- what is made of `data`


def files():
    return sorted(Path("data").rglob("*.png"))


def every_file(content):
    """Replace the content of every image by `content`."""

    def change():
        for file in files():
            file.write_bytes(content)

    return change


def every_image(make, suffix):
    """Replace every image by the file that `make(path)` writes with another suffix."""

    def change():
        for file in files():
            file.unlink()
            make(file.with_suffix(suffix))

    return change


def cut_off(length, suffix=".png"):
    def change():
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
        for file in files():
            file.unlink()
            file = file.with_suffix(suffix)
            noise.save(file)
            file.write_bytes(file.read_bytes()[:length])

    return change


def remove(path):
    return lambda: shutil.rmtree(path)


def link(target, path):
    return lambda: os.symlink(target, path)


def huge_png():
    """The head of a PNG of 3,600 million pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"")


def floats(path):
    Image.fromarray(np.full((20, 20), np.nan, dtype=np.float32)).save(path)


def large_numbers(path):
    Image.fromarray(np.full((20, 20), 10**6, dtype=np.int32)).save(path)


FOLDERS = [
    Case("empty", ["DataLoader.Train.dataset: data: there are no images in it or below", "found nothing"],
         prepare=lambda: [shutil.rmtree(path) for path in Path("data").iterdir()]),
    Case("an empty class", ["data: there are no images in class2; remove these folders, name the classes in a"],
         prepare=lambda: Path("data/class2").mkdir()),
    Case("an image outside the classes", ["dataset: its images have no labels, which the task needs; every image has"],
         prepare=lambda: shutil.copy("images/train/class0/0.png", "data")),
    Case("an image outside the classes, named", ["data: 0.png lies in no class folder; move it, or set with_classes:"],
         [ROOT, "DataLoader.Train.dataset.with_classes=true"],
         prepare=lambda: shutil.copy("images/train/class0/0.png", "data")),
    Case("more classes than the model", ["it has 3 classes, but the model tells 2 apart; set the num_classes of"],
         prepare=lambda: shutil.copytree("data/class0", "data/class2")),
    Case("other classes than in evaluation", ["DataLoader.Eval.dataset: 1 of its 2 classes is unknown to", "'class0'"],
         prepare=lambda: Path("data/class0").rename("data/class9")),
    Case("no images but archives", ["there are no images in it or below; looked for files ending in", "found class0"],
         prepare=every_image(lambda path: path.write_bytes(b"x"), ".zip")),
    Case("zero bytes", [".png: is no image of a known format, or damaged; replace"], prepare=every_file(b"")),
    Case("text", [".png: is no image of a known format, or damaged"], prepare=every_file(b"<html>404</html>")),
    Case("a truncated PNG", [".png: cannot be read as an image", "if it is damaged, replace or remove it"],
         prepare=cut_off(200)),
    Case("a truncated JPEG", [".jpg: cannot be read as an image: image file is"], prepare=cut_off(1500, ".jpg")),
    Case("a giant", [".png: has ", " pixels, and the limit is 89,478,485 in all"], prepare=every_file(huge_png())),
    Case("not a number", [".tif: cannot be read as an image: its pixels are floating-point numbers, whose range is"],
         prepare=every_image(floats, ".tif")),
    Case("beyond 16 bits", ["its pixels range from 1000000 to 1000000, beyond 16 bits; convert it to 8"],
         prepare=every_image(large_numbers, ".tif")),
    Case("unreadable", ["data/class0/x.png: cannot be read as an image: ", "Input/output error"],
         ["DataLoader.Train.loader.batch_size=9", ROOT], prepare=link("/proc/self/mem", "data/class0/x.png")),
    Case("in a worker", [".png: is no image of a known format, or damaged"],
         [ROOT, "DataLoader.Train.loader.num_workers=1"], prepare=every_file(b"")),
    Case("by the fast decoder", [".png: is no image of a known format, or damaged"],
         [ROOT, "DataLoader.Train.dataset.decoder=fast"], prepare=every_file(b"")),
    Case("in evaluation", ["DataLoader.Eval: data/class0/0.png: is no image of a known format, or damaged"],
         ["DataLoader.Eval.dataset.root=data"], prepare=every_file(b"")),
    Case("a pipe", ["data/class0/x.png: is no regular file; remove it or replace it by an image"],
         prepare=lambda: os.mkfifo("data/class0/x.png")),
    Case("a link to nothing", ["data/class0/x.png: is a link to nothing; remove it or replace it by an image"],
         prepare=link("nowhere.png", "data/class0/x.png")),
    Case("a link to itself", ["data/class0/x.png: is a link to nothing"], prepare=link("x.png", "data/class0/x.png")),
    Case("a link upwards", ["data/class0/up: is a link to ", "which holds it, so there is no end; remove the link"],
         prepare=link("..", "data/class0/up")),
    Case("links in a circle", ["which holds it, so there is no end; remove the link"],
         prepare=lambda: [os.symlink("../class1", "data/class0/a"), os.symlink("../class0", "data/class1/b")]),
    Case("images of several sizes", ["a batch needs one size, add a transform that gives it, such as"],
         [ROOT, "DataLoader.Train.transforms=[]", "DataLoader.Train.loader.batch_size=8"],
         prepare=lambda: Image.new("RGB", (9, 9)).save("data/class0/0.png")),
]  # fmt: skip


@pytest.fixture
def data(cli):
    """A copy of the training images that a test may damage."""
    shutil.copytree("images/train", "data")


@pytest.mark.parametrize("case", FOLDERS, ids=lambda case: case.name)
def test_a_folder_that_cannot_be_trained_on_is_refused(cli, data, case):
    case.prepare()
    refused(cli, ["train", "-c", "classify.yaml", "-o", *(case.overrides or [ROOT])], case.says)


DATASETS = rows(
    [
        ("DataLoader.Train.dataset.root=imgaes", "dataset: imgaes: there is no such folder; set the dataset's root"),
        ("DataLoader.Train.dataset.root=classify.yaml", "classify.yaml: is a file, not a folder; set the dataset's"),
        ("DataLoader.Train.dataset.root=images", "its sub-folders train, val look like parts of a data set, not"),
        ("DataLoader.Train.dataset.root=https://x.org/y.tar", "https://x.org/y.tar: there is no such folder"),
        ('DataLoader.Train.dataset.root=""', "DataLoader.Train.dataset: root is empty; set the dataset's root to a"),
        ("DataLoader.Train.dataset.with_classes=maybe", "with_classes: expected true or false or one of auto"),
        ("DataLoader.Train.dataset.with_classes=false", "its images have no labels, which the task needs"),
        ("DataLoader.Eval.dataset.with_classes=false", "DataLoader.Eval.dataset: its images have no labels, which"),
        ("DataLoader.Train.dataset.extensions=[.jpg]", "there are no images in it or below; looked for files ending"),
        ("DataLoader.Train.dataset.extensions=.png", "dataset.extensions: expected a list, each text", "write [.png]"),
        ("DataLoader.Train.dataset.class_list=nope.txt", "class_list: nope.txt cannot be read as text"),
        ("DataLoader.Train.dataset.class_list=images", "class_list: images cannot be read as text", "Is a directory"),
        (DATASET % "ImageNet, root: images/train", "there is no folder 'train' in it; expected"),
        (DATASET % "ImageNet, root: images, split: test", "split: expected one of train, val, got the text 'test'"),
        (DATASET % "CIFAR10, root: images", "images/cifar-10-python.tar.gz: there is no such file; download"),
        (DATASET % "CIFAR10, root: classify.yaml", "classify.yaml: is not the published cifar-10-python.tar.gz"),
        (DATASET % "ListFile, root: images, list_file: nope.txt", "list_file: nope.txt cannot be read as text"),
        (DATASET % "ListFile, root: nope, list_file: list.txt", "nope: there is no such folder; set the dataset's"),
        (SUBSET % "per_class: 9", "per_class is 9, but class class0 has 4 samples in this part"),
        (SUBSET % "fraction: 0", "fraction must be in (0, 1], got 0"),
        (SUBSET % "fraction: 0.5, per_class: 1", "per_class and fraction are two ways to say the same; give one of"),
        (SUBSET % "validation_share: 1", "validation_share must be in (0, 1), got 1"),
        (SUBSET % "seed: -1", "seed must be at least 0, got -1"),
        (SUBSET % "part: validation, validation_share: 0.01", "nothing is left of 8 samples; take a larger part"),
        (DATASET % "Subset, dataset: images/train", "dataset is another dataset, {name: ImageFolder, ...}, got"),
        (DATASET % "Subset, dataset: {name: ImageFolder, root: nope}", "DataLoader.Train.dataset.dataset: nope:"),
        (DATASET % "Subset, dataset: {name: ViT}", "dataset.dataset.name: no dataset is called 'ViT'; it is a model"),
    ]
)


@pytest.mark.parametrize("case", DATASETS, ids=lambda case: case.name)
def test_a_missing_dataset_is_rejected(cli, case):
    refused(cli, ["train", "-c", "classify.yaml", "-o", *case.overrides], case.says)


# name, content of class_list, part of the message
CLASS_LISTS = [
    ("an empty one", b"", "class_list: classes.txt is empty; it needs one class folder a line"),
    ("a class twice", b"class0\nclass0\n", "class_list: classes.txt names class0 more than once"),
    ("an unknown class", b"class0\nclass7\n", "1 of 2 classes of classes.txt have no folder: class7"),
    ("latin-1", b"class\xe9\n", "class_list: classes.txt cannot be read as text: 'utf-8' codec can't decode"),
]
# name, content of list_file, part of the message
LISTS = [
    ("an empty one", "", "list_file: list.txt is empty; it needs one `path label` or `path` a line"),
    ("blank lines", "\n \n", "list_file: list.txt is empty"),
    ("a label missing", GOOD_LIST + "class0/0.png\n", "list.txt:9: 'class0/0.png' has no label; expected `path label`"),
    ("a label too many", "class0/0.png\nclass0/1.png 1\n", "list.txt:2: 'class0/1.png 1' ends in a label, but line 1"),
    ("a negative label", GOOD_LIST + "class0/0.png -1\n", "list.txt:9: the label of 'class0/0.png' is -1; labels"),
    ("a label beyond all", GOOD_LIST + f"class0/0.png {10**23}\n", "labels count from 0 and stay below 1,000,000"),
    ("a label beyond the model", GOOD_LIST + "class0/0.png 99\n", "it has 100 classes, but the model tells 2 apart"),
    ("a label that is no number", GOOD_LIST + "class0/0.png 1.5\n", "list.txt:9: 'class0/0.png 1.5' has no label"),
    ("commas", "class0/0.png,0\n" * 4, "its images have no labels, which the task", "a list file has to give labels"),
    ("latin-1", b"class\xe9/0.png 0\n", "list_file: list.txt cannot be read as text: 'utf-8' codec can't decode"),
    ("a file that is missing", GOOD_LIST.replace("/", "/x"), "x2.png: there is no such file"),
    ("a folder as an image", "class0 0\nclass1 1\n" * 4, "cannot be read as an image: [Errno 21] Is a directory"),
    ("NUL in a name", "class0/\0.png 0\n" * 4, "cannot be read as an image: embedded null byte"),
]
LISTS = [Case(name, says, prepare=lambda text=text: write_list("list.txt", text)) for name, text, *says in LISTS]
CLASS_LISTS = [
    Case(name, says, prepare=lambda text=text: write_list("classes.txt", text)) for name, text, *says in CLASS_LISTS
]


def write_list(name, content):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("case", LISTS, ids=lambda case: case.name)
def test_a_list_file_with_bad_rows_is_refused(cli, case):
    case.prepare()
    refused(cli, ["train", "-c", "classify.yaml", "-o", *LIST], case.says)


@pytest.mark.parametrize("case", CLASS_LISTS, ids=lambda case: case.name)
def test_a_class_list_that_does_not_fit_is_refused(cli, case):
    case.prepare()
    overrides = ["DataLoader.Train.dataset.class_list=classes.txt"]
    refused(cli, ["train", "-c", "classify.yaml", "-o", *overrides], case.says)


STRANGE = [
    Case("names with spaces, letters of all kinds and line breaks", [],
         prepare=lambda: [file.rename(file.with_name(f"a b ü 日本 \n{file.name}")) for file in files()]),
    Case("a name that is no UTF-8", [],
         prepare=lambda: os.rename(b"data/class0/0.png", b"data/class0/\xff\xfe.png")),
    Case("a folder called like an image", [], prepare=lambda: Path("data/class0/x.png").mkdir()),
    Case("hidden files", [], prepare=lambda: Path("data/class0/.x.png").write_bytes(b"")),
    Case("files that are no images", [], prepare=lambda: Path("data/class0/x.txt").write_bytes(b"")),
    Case("one pixel", [], prepare=every_image(lambda path: Image.new("RGB", (1, 1)).save(path), ".bmp")),
    Case("an animation", [],
         prepare=every_image(lambda path: Image.new("P", (20, 20)).save(
             path, save_all=True, append_images=[Image.new("P", (20, 20), 3)]), ".gif")),
    Case("CMYK", [], prepare=every_image(lambda path: Image.new("CMYK", (20, 20)).save(path), ".jpg")),
    Case("links to images and folders", [],
         prepare=lambda: [os.symlink("0.png", "data/class0/x.png"), os.symlink("../class0", "data/class1/more")]),
    Case("one class", ["note: the training set has 1 class, the model tells 2 apart"],
         ["DataLoader.Eval.dataset.root=data"], remove("data/class1")),
]  # fmt: skip


@pytest.mark.parametrize("case", STRANGE, ids=lambda case: case.name)
def test_unusual_but_valid_data_trains(cli, data, case):
    case.prepare()
    said = trains(cli, ROOT, *case.overrides)
    assert all(part in said for part in case.says)


def test_class_names_with_spaces_and_line_breaks_train(cli, data):
    Path("data/class0").rename("data/a ü")
    Path("data/class1").rename("data/b\nc")
    trains(cli, ROOT, "DataLoader.Eval.dataset.root=data")


@pytest.mark.parametrize("text", [GOOD_LIST.replace(" ", "\t"), "\ufeff" + GOOD_LIST, GOOD_LIST.replace("\n", "\r\n")])
def test_lists_from_other_programs_train(cli, text):
    write_list("list.txt", text)
    trains(cli, *LIST)


CUSTOM = """\
import numpy as np
from PIL import Image
from plsc.config.registry import DATASETS

@DATASETS.register("Custom%(kind)s")
class Custom:
    '''Eight images, of which the sixth has the label odd.'''

    def __init__(self, odd: int):
        self.numbers = [0, 1, 0, 1, 0, odd, 0, 1]
        %(listed)s

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"image": Image.new("RGB", (20, 20)), "label": self.numbers[index], "path": f"table row {index}"}
"""


@pytest.mark.parametrize("split", ["Train", "Eval"])
@pytest.mark.parametrize("odd", [-100, -1, 2])
@pytest.mark.parametrize("listed", [False, True])
def test_labels_out_of_range_of_a_plug_in_dataset_are_rejected(cli, tmp_path, monkeypatch, split, odd, listed):
    kind = f"{split}{odd + 200}{listed}"
    code = CUSTOM % {"kind": kind, "listed": "self.labels = np.array(self.numbers)" if listed else ""}
    (tmp_path / f"custom_{kind}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    dataset = f"DataLoader.{split}.dataset={{_delete_: true, name: Custom{kind}, odd: {odd}}}"
    code, _, err = cli("train", "-c", "classify.yaml", "-o", f"imports=[custom_{kind}]", dataset)
    assert code == 2, err
    if listed and odd > 0:
        assert f"DataLoader.{split}.dataset: it has 3 classes, but the model tells 2 apart" in err
    else:
        assert f"the label {odd} is out of range" in err and f"DataLoader.{split}.dataset" in err
        assert "sample 5" in err or "table row 5" in err
