import numpy as np
import pytest

from plsc.checkpoint.formats import read_weights
from plsc.storage import CheckpointError
from tests.checkpoint.test_store import save
from tests.optim.toys import toy_task, values


@pytest.mark.parametrize("given", ["run", "run/checkpoints", "run/checkpoints/latest"])
def test_our_own(tmp_path, given):
    task = toy_task()
    save(tmp_path / "run" / "checkpoints", task, encoder="model.encoder")
    weights = read_weights(tmp_path / given)
    assert weights.encoder == "model.encoder"
    for name, value in values(task).items():
        np.testing.assert_array_equal(weights.arrays[name], value)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        read_weights(tmp_path / "nowhere")
