import numpy as np
import pytest

from plsc.data.pipeline import SampleDataset, collate
from plsc.data.transforms import RandomHorizontalFlip, TwoSizeCrop
from tests.data.toys import Images, Mask


def test_a_sample_as_arrays():
    sample = SampleDataset(Images(), [TwoSizeCrop((8, 12), 4)], Mask())[(0, 3)]
    assert sample["image"].shape == (3, 8, 12)
    assert sample["target_image"].shape == (3, 4, 4)
    assert sample["image"].dtype == sample["target_image"].dtype == np.uint8
    assert sample["image"].flags["C_CONTIGUOUS"]
    assert sample["label"] == 1
    assert sample["index"] == 3
    assert sample["label"].dtype == sample["index"].dtype == np.int64
    assert sample["mask"].shape == (16,)
    assert sample["mask"].dtype == bool
    assert sample["path"] == "image-3.png"


def test_channels_come_first():
    images = Images()
    expected = np.asarray(images[2]["image"]).transpose(2, 0, 1)
    np.testing.assert_array_equal(SampleDataset(images)[(0, 2)]["image"], expected)


def test_without_labels_and_masks():
    class Unlabelled(Images):
        def __getitem__(self, index):
            return {key: value for key, value in super().__getitem__(index).items() if key != "label"}

    batch = collate([SampleDataset(Unlabelled())[(0, index)] for index in range(2)])
    assert sorted(batch) == ["image", "index"]


def test_samples_depend_on_seed_epoch_and_index():
    def sample(seed, epoch, index):
        return SampleDataset(Images(), [TwoSizeCrop(8, 4)], Mask(), seed)[(epoch, index)]

    first = sample(1, 2, 3)
    for other, same in ((sample(1, 2, 3), True), (sample(0, 2, 3), False), (sample(1, 0, 3), False)):
        assert (first["image"] == other["image"]).all() == same
        assert (first["mask"] == other["mask"]).all() == same


def test_masks_do_not_depend_on_transforms():
    plain = SampleDataset(Images(), [], Mask())[(1, 5)]["mask"]
    augmented = SampleDataset(Images(), [RandomHorizontalFlip(), TwoSizeCrop(8, 4)], Mask())[(1, 5)]["mask"]
    np.testing.assert_array_equal(plain, augmented)


def test_reading_order_does_not_matter():
    dataset = SampleDataset(Images(), [TwoSizeCrop(8, 4)])
    forward = [dataset[(0, index)]["image"] for index in range(5)]
    backward = [dataset[(0, index)]["image"] for index in reversed(range(5))]
    for first, second in zip(forward, reversed(backward)):
        np.testing.assert_array_equal(first, second)


def test_a_batch():
    dataset = SampleDataset(Images(), [], Mask())
    batch = collate([dataset[(0, index)] for index in (4, 2, 7)])
    assert batch["image"].shape == (3, 3, 16, 20)
    assert batch["label"].tolist() == [0, 0, 1]
    assert batch["index"].tolist() == [4, 2, 7]
    assert "path" not in batch
    assert batch["visible_index"].shape == (3, 10)
    assert batch["masked_index"].shape == (3, 6)
    assert batch["visible_index"].dtype == batch["masked_index"].dtype == np.int64
    for row in range(3):
        assert batch["masked_index"][row].tolist() == np.flatnonzero(batch["mask"][row]).tolist()
        assert batch["visible_index"][row].tolist() == np.flatnonzero(~batch["mask"][row]).tolist()


def test_different_sizes_name_the_images():
    dataset = SampleDataset(Images(sizes=((20, 16), (20, 16), (10, 12))))
    with pytest.raises(
        ValueError,
        match=r"'image' has the shape \(3, 16, 20\) in sample 0 \(image-0.png\) and \(3, 12, 10\) in sample 2 "
        r"\(image-2.png\); .*RandomResizedCrop, or Resize and CenterCrop",
    ):
        collate([dataset[(0, index)] for index in range(4)])


def test_masks_of_different_counts():
    def mask(rng):
        return rng.random((4, 4)) < 0.5

    dataset = SampleDataset(Images(), [], mask)
    with pytest.raises(ValueError, match="masks of a batch hide between .* must hide the same number every time"):
        collate([dataset[(0, index)] for index in range(8)])


@pytest.mark.parametrize(("error", "raised"), [(ValueError("odd"), ValueError), (KeyError("odd"), RuntimeError)])
def test_a_failing_transform_names_the_image(error, raised):
    class Failing:
        def __call__(self, sample, rng):
            raise error

    with pytest.raises(raised, match="image-3.png: Failing failed: .*odd"):
        SampleDataset(Images(), [Failing()])[(0, 3)]
