import pytest

from plsc.data.list_file import ListFile
from tests.data.toys import write_images


@pytest.fixture
def listed(tmp_path):
    root = write_images(tmp_path / "data", ["a.png", "sub/b c.png", "d 1.png"])

    def build(text):
        (tmp_path / "list.txt").write_text(text)
        return ListFile(root, str(tmp_path / "list.txt"))

    return build


def test_with_labels(listed):
    dataset = listed("a.png 2\n\nsub/b c.png 0\r\nd 1.png\t1\n")
    assert [dataset[index]["label"] for index in range(3)] == [2, 0, 1]
    assert dataset[1]["path"].endswith("sub/b c.png")
    assert dataset.classes == ["0", "1", "2"]


def test_without_labels(listed):
    dataset = listed("sub/b c.png\na.png\n")
    assert "label" not in dataset[0]
    assert dataset.classes is None
    assert len(dataset) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png 1\n\nsub/b c.png\n", "list.txt:3: 'sub/b c.png' has no label; expected `path label`"),
        ("a.png\nd 1.png 4\n", "list.txt:2: 'd 1.png 4' ends in a label, but line 1 has none"),
        ("a.png -1\n", "list.txt:1: the label of 'a.png' is -1; labels must be at least 0"),
        (" \n", "list.txt is empty"),
    ],
)
def test_bad_rows_are_named(listed, text, message):
    with pytest.raises(ValueError, match=message):
        listed(text)


@pytest.mark.parametrize("path", ["../a.png", "sub/../../a.png", "/etc/hostname", "..", "sub/../../data2/a.png", "/"])
def test_rows_outside_the_root_are_refused(listed, path):
    with pytest.raises(ValueError, match=f"list.txt:2: '{path}' is outside the root .*data; move it, or set root"):
        listed(f"a.png 0\n{path} 1\n")


def test_rows_below_the_root_are_read_in_any_notation(listed, tmp_path):
    dataset = listed(f"sub/../a.png\n{tmp_path}/data/d 1.png x\nsub/..b.png\n./a.png\n")
    assert dataset[0]["image"].size == dataset[3]["image"].size == (20, 16)


def test_links_within_the_root_are_followed(listed, tmp_path):
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "data" / "a.png").rename(tmp_path / "elsewhere.png")
    assert listed("link.png\n")[0]["image"].size == (20, 16)


def test_missing_list(tmp_path):
    with pytest.raises(ValueError, match="gone.txt cannot be read as text"):
        ListFile(str(tmp_path), str(tmp_path / "gone.txt"))


def test_missing_image_is_named(listed):
    dataset = listed("a.png 0\nnowhere.png 1\n")
    with pytest.raises(FileNotFoundError, match="nowhere.png: there is no such file"):
        dataset[1]


def test_backslashes_in_missing_paths(listed, tmp_path):
    with pytest.raises(ValueError, match=r"txt:2: there is no file 'sub\\b c.png'; use / as the separator: 'sub/b c"):
        listed("a.png 0\nsub\\b c.png 1\n")
    (tmp_path / "data" / "x\\y.png").write_bytes((tmp_path / "data" / "a.png").read_bytes())
    assert listed("x\\y.png\n")[0]["image"].size == (20, 16)
