import numpy as np
import pytest

from plsc.config.registry import DATASETS
from plsc.data.folder import ImageFolder, ImageNet
from plsc.data.images import ImageError
from tests.data.toys import write_images


def names(dataset):
    start = len(str(dataset.root)) + 1
    return [dataset.path(index)[start:] for index in range(len(dataset))]


def test_flat_folder_has_no_labels(tmp_path):
    dataset = ImageFolder(write_images(tmp_path, ["b.png", "a.JPG", "c.jpeg"]))
    assert names(dataset) == ["a.JPG", "b.png", "c.jpeg"]
    assert dataset.classes is None
    sample = dataset[1]
    assert sorted(sample) == ["image", "path"]
    assert sample["image"].mode == "RGB"
    assert sample["path"].endswith("b.png")


def test_sub_folders_are_classes(tmp_path):
    dataset = ImageFolder(write_images(tmp_path, ["dog/1.png", "cat/x/2.png", "cat/1.png"]))
    assert dataset.classes == ["cat", "dog"]
    assert names(dataset) == ["cat/1.png", "cat/x/2.png", "dog/1.png"]
    assert [dataset[index]["label"] for index in range(3)] == [0, 0, 1]
    assert type(dataset[0]["label"]) is int


def test_loose_images_mean_no_classes(tmp_path):
    root = write_images(tmp_path, ["dog/1.png", "2.png"])
    dataset = ImageFolder(root)
    assert dataset.classes is None
    assert names(dataset) == ["2.png", "dog/1.png"]
    with pytest.raises(ValueError, match="2.png is not in a class folder; move it, or set with_classes: false"):
        ImageFolder(root, with_classes=True)


def test_without_classes(tmp_path):
    dataset = ImageFolder(write_images(tmp_path, ["dog/1.png", "cat/1.png"]), with_classes=False)
    assert dataset.classes is None
    assert dataset.labels is None
    assert len(dataset) == 2


def test_hidden_and_other_files_are_skipped(tmp_path):
    root = write_images(tmp_path, ["a/1.png", "a/.hidden.png", ".cache/2.png"])
    (tmp_path / "a" / "notes.txt").write_text("")
    (tmp_path / "README.md").write_text("")
    assert names(ImageFolder(root)) == ["a/1.png"]


def test_names_that_are_not_ascii(tmp_path):
    assert names(ImageFolder(write_images(tmp_path, ["köln 1/bild ü.png"]))) == ["köln 1/bild ü.png"]


def test_linked_folders_are_followed(tmp_path):
    write_images(tmp_path / "elsewhere", ["1.png"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "cat").symlink_to(tmp_path / "elsewhere")
    assert ImageFolder(str(tmp_path / "root")).classes == ["cat"]


def test_extensions(tmp_path):
    root = write_images(tmp_path, ["a/1.png", "a/2.bmp"])
    assert names(ImageFolder(root, extensions=[".BMP"])) == ["a/2.bmp"]
    with pytest.raises(ValueError, match=r"no images in it or its sub-.*; looked for files ending in \.webp, found a;"):
        ImageFolder(root, extensions=[".webp"])


def test_class_list_gives_classes_and_order(tmp_path):
    root = write_images(tmp_path / "data", ["a/1.png", "b/1.png", "c/1.png", "loose.png"])
    chosen = tmp_path / "classes.txt"
    chosen.write_text("c\n\na\n")
    dataset = ImageFolder(root, class_list=str(chosen))
    assert dataset.classes == ["c", "a"]
    assert names(dataset) == ["c/1.png", "a/1.png"]
    assert dataset.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nx\ny\n", "2 of 3 classes of .*classes.txt have no folder: x, y"),
        ("a\na\n", "names a more than once"),
        ("\n", "is empty; it needs one class folder per line"),
        ("a\n../data/a\n../other\n/etc\n", "names ../other, /etc, outside the root "),
        (None, "classes.txt cannot be read"),
    ],
)
def test_bad_class_list(tmp_path, content, message):
    root = write_images(tmp_path / "data", ["a/1.png"])
    if content is not None:
        (tmp_path / "classes.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        ImageFolder(root, class_list=str(tmp_path / "classes.txt"))


def test_class_list_contradicts_no_classes(tmp_path):
    with pytest.raises(ValueError, match="class_list is set, but with_classes is false"):
        ImageFolder(write_images(tmp_path, ["a/1.png"]), with_classes=False, class_list="x")


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match="my_images: there is no such folder; set the dataset's root"):
        ImageFolder(str(tmp_path / "my_images"))
    write_images(tmp_path, ["a.png"])
    with pytest.raises(ValueError, match="a.png: is a file, not a folder"):
        ImageFolder(str(tmp_path / "a.png"))


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"no images in it or its sub-folders; looked for files .*, found nothing"):
        ImageFolder(str(tmp_path))


def test_class_without_images(tmp_path):
    root = write_images(tmp_path, ["a/1.png"])
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="there are no images in b; remove these folders"):
        ImageFolder(root)
    assert len(ImageFolder(root, with_classes=False)) == 1


def test_splits_are_not_classes(tmp_path):
    root = write_images(tmp_path, ["train/a/1.png", "val/a/1.png"])
    with pytest.raises(ValueError, match="train, val look like splits of a dataset"):
        ImageFolder(root)
    assert ImageFolder(root, with_classes=True).classes == ["train", "val"]
    assert len(ImageFolder(root, with_classes=False)) == 2


def test_damaged_file_names_itself(tmp_path):
    root = write_images(tmp_path, ["a/1.png"])
    (tmp_path / "a" / "2.png").write_bytes(b"broken")
    dataset = ImageFolder(root)
    with pytest.raises(ImageError, match="a/2.png"):
        dataset[1]


def test_imagenet_layout(tmp_path):
    root = write_images(tmp_path, ["train/n01/1.JPEG", "train/n02/1.JPEG", "val/n01/2.JPEG", "val/n02/2.JPEG"])
    train, val = ImageNet(root), ImageNet(root, "val")
    assert names(train) == ["n01/1.JPEG", "n02/1.JPEG"]
    assert names(val) == ["n01/2.JPEG", "n02/2.JPEG"]
    assert train.classes == val.classes == ["n01", "n02"]
    (tmp_path / "hundred.txt").write_text("n02\n")
    assert ImageNet(root, "val", str(tmp_path / "hundred.txt")).classes == ["n02"]


def test_imagenet_without_its_split(tmp_path):
    root = write_images(tmp_path, ["training/n01/1.JPEG", "val/1.JPEG"])
    with pytest.raises(ValueError, match="the folder 'train' is missing; expected .*, found training, val"):
        ImageNet(root)
    with pytest.raises(ValueError, match="the folder has no class folders"):
        ImageNet(root, "val")


def test_paths_are_kept_compactly(tmp_path):
    dataset = ImageFolder(write_images(tmp_path, ["a/1.png", "bb/22.png"]))
    assert isinstance(dataset._paths, np.ndarray)
    assert dataset._paths.nbytes == 2 * len("bb/22.png")


def test_class_list_in_another_normalization(tmp_path):
    root = write_images(tmp_path / "data", ["cr\xe8me/1.png"])
    (tmp_path / "classes.txt").write_text("cre\u0300me\n", encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        ImageFolder(root, class_list=str(tmp_path / "classes.txt"))
    assert r"'cre\u0300me' in the list and the folder 'cr\xe8me' look the same" in str(caught.value)


def test_a_class_of_other_endings_is_named_with_them(tmp_path):
    root = write_images(tmp_path, ["a/1.png"])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.heic").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no images in b; .*files ignored because of .*: 1 \.heic \(see exten"):
        ImageFolder(root)


def test_bits_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"bits must be in \[1, 24\], got 0"):
        ImageFolder(write_images(tmp_path, ["a/1.png"]), bits=0)


def test_registered():
    assert {"ImageFolder", "ImageNet", "ListFile", "CIFAR10", "CIFAR100"} <= set(DATASETS.names())
