"""Policies for unreadable images: stop, or substitutes that do not depend on the number of workers."""

import json
import sys

import numpy as np
import pytest

from plsc.data.bad_images import BadImages
from plsc.data.folder import ImageFolder
from plsc.data.images import ImageError
from plsc.data.loader import DataLoader
from plsc.data.transforms import RandomResizedCrop
from tests.data.test_loader import assert_same, read
from tests.data.toys import Mask, write_images

linux = pytest.mark.skipif(sys.platform != "linux", reason="worker processes need Linux in Paddle")
SECTION = "DataLoader.Train.loader"


@pytest.fixture
def folder(tmp_path):
    """24 images; file 5 is not an image and file 17 is missing."""
    dataset = ImageFolder(write_images(tmp_path, [f"a/{number:02}.png" for number in range(24)]))
    (tmp_path / "a" / "05.png").write_bytes(b"broken")
    (tmp_path / "a" / "17.png").unlink()
    return dataset


def skipping(dataset, limit=100, leave_out=False, say=print, **options):
    bad = BadImages(SECTION, "skip", limit, leave_out, say)
    given = {"batch_size": 4, "seed": 1, "bad_images": bad, **options}
    return DataLoader(dataset, [RandomResizedCrop(8)], Mask(), **given)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=linux)])
def test_stop_names_the_file_and_the_key(folder, workers):
    reading = DataLoader(folder, [RandomResizedCrop(8)], batch_size=24, bad_images=BadImages(SECTION, "stop"),
                         shuffle=False, num_workers=workers)  # fmt: skip
    with pytest.raises(ValueError, match=rf"a/05.png: is not an image .*skip it: set {SECTION}.on_bad_image: skip"):
        read(reading)


@linux
def test_substitutes_do_not_depend_on_workers(folder, tally):
    for epoch, step in ((0, 0), (1, 2)):
        alone = read(skipping(folder), epoch, step)
        for workers in (1, 3):
            assert_same(read(skipping(folder, num_workers=workers), epoch, step), alone)
    whole = read(skipping(folder), 1)
    assert_same(whole[2:], alone)
    places = {epoch: np.concatenate([batch["index"] for batch in read(skipping(folder), epoch)]) for epoch in range(3)}
    for indices in places.values():
        assert len(indices) == 24 and not {5, 17} & set(indices.tolist())
    order = skipping(folder).sampler.order
    chosen = [indices[list(order(epoch)).index(5)] for epoch, indices in places.items()]
    assert len(set(chosen)) > 1, "not always the same image"
    tally.add("faults survived", 1)


def test_a_substitute_uses_the_random_numbers_of_the_position(folder):
    samples = skipping(folder).samples
    own, other = samples[0, 3], samples.read((0, 5), 3)
    assert own["index"] == other["index"] == 3
    assert (own["image"] != other["image"]).any()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=linux)])
def test_each_bad_image_is_reported_once_also_after_a_resume(folder, workers):
    lines = []
    reading = skipping(folder, say=lines.append, num_workers=workers)
    for epoch in range(2):
        read(reading, epoch)
        assert reading.bad_images.share() == 2
    assert [line.split("a/")[1][:24] for line in lines] == ["05.png: is not an image ", "17.png: there is no such"]
    assert all(line.startswith("bad image, skipped: ") for line in lines)
    resumed = skipping(folder, say=lines.append)
    resumed.bad_images.set_state_dict(json.loads(json.dumps(reading.bad_images.state_dict())))
    read(resumed, 2)
    assert resumed.bad_images.share() == 2 and len(lines) == 2


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=linux)])
def test_too_many_bad_images_are_an_error_that_lists_them(folder, workers):
    with pytest.raises(ImageError) as caught:
        read(skipping(folder, limit=1, num_workers=workers))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"2 images cannot be read; {SECTION}.max_bad_images allows 1:"
    assert sorted(line.split("a/")[-1][:7] for line in lines[1:3]) == ["05.png:", "17.png:"]
    assert lines[3] == "repair or remove them, or raise the limit"


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=linux)])
def test_a_dataset_of_bad_images_only_is_refused(tmp_path, workers):
    dataset = ImageFolder(write_images(tmp_path, ["a/0.png", "a/1.png"]))
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="an image and all its substitutes cannot be read; .*:\n .*png: "):
        read(skipping(dataset, batch_size=2, num_workers=workers))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=linux)])
def test_bad_images_are_left_out_of_an_evaluation(folder, workers):
    options = {"leave_out": True, "shuffle": False, "drop_last": False, "num_workers": workers}
    reading = skipping(folder, batch_size=1, **options)
    batches = read(reading)
    assert len(batches) == 24 and [number for number, batch in enumerate(batches) if not batch] == [5, 17]
    assert reading.bad_images.count() == 2
    reading.bad_images.forget()
    assert reading.bad_images.count() == 0
    sizes = [len(batch["index"]) for batch in read(skipping(folder, **options))]
    assert sizes == [4, 3, 4, 4, 3, 4]
