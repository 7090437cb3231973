import numpy as np
import paddle
import pytest

from plsc.tasks.tokenizer import TokenizerTraining
from plsc.tokenizers import DiscreteVAE


def make_task(**options):
    paddle.seed(0)
    return TokenizerTraining(DiscreteVAE(image_size=8, patch_size=4, vocab_size=8, width=8), **options)


def images(count=16):
    rng = np.random.default_rng(0)
    shades = rng.choice([0.1, 0.9], size=(count, 3, 2, 2)).repeat(4, axis=2).repeat(4, axis=3)
    return {"image": paddle.to_tensor(shades.astype("float32"))}


def test_training_reconstructs_and_uses_the_codebook():
    task, batch = make_task(), images()
    optimizer = paddle.optimizer.Adam(1e-2, parameters=task.parameters())
    losses = []
    for step in range(150):
        outputs = task(batch)
        outputs["loss"].backward()
        optimizer.step()
        optimizer.clear_grad()
        task.on_step_end((step + 1) / 150)
        losses.append(float(outputs["loss_reconstruction"]))
    assert losses[-1] < 0.4 * losses[0]
    assert float(outputs["codebook_perplexity"]) > 2


def test_the_temperature_falls_geometrically_and_is_saved():
    task = make_task(start_temperature=1.0, end_temperature=0.01)
    task.on_step_end(0.5)
    assert task.model.temperature.item() == pytest.approx(0.1)
    assert task.state_dict()["model.temperature"].item() == pytest.approx(0.1)


def test_uniform_tokens_have_no_divergence():
    task, batch = make_task(), images()
    last = task.model.encoder[-1]
    for parameter in last.parameters():
        parameter.set_value(paddle.zeros_like(parameter))
    assert float(task(batch)["loss_kl"]) == pytest.approx(0, abs=1e-5)


def test_pixels_that_are_not_scaled_are_an_error():
    with pytest.raises(ValueError, match="add the batch transform {name: ToFloat, key: image}"):
        make_task().prepare({"image": paddle.zeros([1, 3, 8, 8], dtype="uint8")})


@pytest.mark.parametrize("temperatures", [(0.1, 1.0), (1.0, 0.0)])
def test_temperatures_that_do_not_fall_are_an_error(temperatures):
    with pytest.raises(ValueError, match="needs 0 < end_temperature <= start_temperature"):
        make_task(start_temperature=temperatures[0], end_temperature=temperatures[1])
