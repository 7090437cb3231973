"""Any image file gives pixels, or an ImageError that names it, with both decoders and in bounded memory."""

import resource

import pytest

from tests.fuzz import images
from tests.fuzz.running import examples, fuzz

MEMORY = 500 << 10  # KiB that decoding may add; a million pixels need about 3 MB


@pytest.mark.filterwarnings("ignore")
@examples(400, 20_000)
def test_damaged_images(tmp_path, monkeypatch, tally, count):
    images.limited(monkeypatch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check = lambda seed: images.check_data(tmp_path / "image", images.damaged(seed))  # noqa: E731
    fuzz(count, tally, "damaged images", check, images.SEEDS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


@pytest.mark.filterwarnings("ignore")
def test_seed_images_are_valid(tmp_path, monkeypatch):
    images.limited(monkeypatch)
    for data in images.seeds():
        images.check_data(tmp_path / "image", data)
        assert not isinstance(images.verdict(images.load_image, str(tmp_path / "image")), str)
