import numpy as np
import paddle
import pytest

from plsc.data.batch_transforms import Normalize, ToFloat


def batch(**more):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    return {"image": paddle.to_tensor(images), "target_image": paddle.to_tensor(images[:, :, :2, :2]), **more}


def test_to_float():
    given = batch()
    found = ToFloat()(given, None)
    assert found["target_image"].dtype == paddle.float32
    np.testing.assert_allclose(found["target_image"].numpy(), given["target_image"].numpy() / 255.0, rtol=1e-6)
    assert found["image"] is given["image"]
    assert given["target_image"].dtype == paddle.uint8


def test_normalize():
    given = batch()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (given["image"].numpy().transpose(0, 2, 3, 1) / 255.0 - mean) / std
    found = Normalize()(given, None)["image"]
    assert found.dtype == paddle.float32
    np.testing.assert_allclose(found.numpy().transpose(0, 2, 3, 1), expected, atol=1e-5)


def test_normalize_other_values_and_key():
    found = Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], key="target_image")(batch(), None)["target_image"]
    assert -1 <= float(found.min()) < 0 < float(found.max()) <= 1


def test_twice_is_an_error():
    with pytest.raises(ValueError, match="Normalize: 'image' is .*float32, not uint8; convert it only once"):
        Normalize()(Normalize()(batch(), None), None)


def test_missing_images():
    with pytest.raises(ValueError, match="ToFloat: the batch has no 'second'; it has image, target_image"):
        ToFloat("second")(batch(), None)


@pytest.mark.parametrize(("mean", "std"), [([0, 0, 0], [1, 1, 0]), ([0, 0], [1, 1, 1])])
def test_bad_values(mean, std):
    with pytest.raises(ValueError, match="Normalize: mean and std are one number or three"):
        Normalize(mean, std)
