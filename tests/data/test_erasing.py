import numpy as np
import paddle
import pytest

from plsc.data.erasing import RandomErasing


def batch(size=8):
    return {"image": paddle.full([size, 3, 32, 24], 100.0), "index": paddle.arange(size)}


def erased(found):
    return (found["image"].numpy() != 100.0).all(axis=1)


def test_one_rectangle_of_noise_an_image():
    given = batch(64)
    found = RandomErasing(1.0)(given, np.random.default_rng(0))
    where = erased(found)
    for image in where:
        rows, columns = np.nonzero(image)
        assert image.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    noise = found["image"].numpy().transpose(0, 2, 3, 1)[where]
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert (given["image"].numpy() == 100.0).all()
    assert found["index"] is given["index"]


def test_how_often():
    where = erased(RandomErasing()(batch(2000), np.random.default_rng(0)))
    assert abs(where.any(axis=(1, 2)).mean() - 0.25) < 0.04


def test_area_and_aspect():
    erasing, rng = RandomErasing(), np.random.default_rng(0)
    boxes = np.array([erasing.draw_box(224, 224, rng) for _ in range(3000)])
    areas, aspects = boxes[:, 2] * boxes[:, 3] / 224**2, np.log(boxes[:, 2] / boxes[:, 3])
    assert 0.019 < areas.min() < 0.03
    assert 0.32 < areas.max() < 0.34
    assert abs(np.median(areas) - (0.02 + 1 / 3) / 2) < 0.01
    assert abs(aspects.mean()) < 0.05
    assert abs(np.abs(aspects).max() - np.log(1 / 0.3)) < 0.1
    assert (boxes[:, 0] + boxes[:, 2]).max() <= 224
    assert (boxes[:, 1] + boxes[:, 3]).max() <= 224


def test_rectangles_that_never_fit_are_left_out():
    erasing = RandomErasing(1.0, min_area=1.0, max_area=1.0)
    assert erasing.draw_box(8, 8, np.random.default_rng(0)) is None
    assert not erased(erasing(batch(), np.random.default_rng(0))).any()


def test_from_the_generator():
    first, second = (RandomErasing(0.5)(batch(), np.random.default_rng(4))["image"].numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_needs_normalised_images():
    with pytest.raises(ValueError, match="RandomErasing: images are .*uint8; put Normalize before it"):
        RandomErasing()({"image": paddle.zeros([1, 3, 4, 4], dtype="uint8")}, np.random.default_rng(0))


def test_bad_values():
    with pytest.raises(ValueError, match="RandomErasing: needs 0 < min_area <= max_area <= 1"):
        RandomErasing(min_area=0.5, max_area=0.2)
    with pytest.raises(ValueError, match="RandomErasing: probability must be in"):
        RandomErasing(-0.1)
