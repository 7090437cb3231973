import paddle
import pytest

from plsc.engine.recompute import apply_recompute
from plsc.losses import CAELoss
from plsc.models import CAE
from plsc.tasks.masked_image_modeling import MaskedImageModeling
from plsc.tokenizers import RandomTokenizer
from tests.models.toys import images, split_positions, tiny_vit

PATTERNS = ["encoder.blocks.*", "regressor.blocks.*", "decoder.blocks.*"]


def make_task():
    paddle.seed(0)
    model = CAE(tiny_vit(drop_path_rate=0.3), 2, 2, vocab_size=8, decoder_drop_path_rate=0.2)
    return MaskedImageModeling(model, RandomTokenizer(8, 4), CAELoss())


def gradients(task):
    visible, masked = split_positions(batch=4)
    batch = {"image": images(4), "visible_index": visible, "masked_index": masked}
    paddle.seed(1)
    loss = task({**batch, "targets": paddle.zeros(masked.shape, "int64")})["loss"]
    loss.backward()
    found = {name: p.grad.numpy() for name, p in task.named_parameters() if p.grad is not None}
    return float(loss), found


def test_results_are_equal_bit_for_bit_also_with_drop_path():
    plain, other = make_task(), make_task()
    chosen = apply_recompute(other, PATTERNS)
    assert chosen == [f"model.{part}.blocks.{i}" for part in ("encoder", "regressor", "decoder") for i in range(2)]
    (loss, expected), (same_loss, found) = gradients(plain), gradients(other)
    assert loss == same_loss and set(found) == set(expected)
    for name, value in expected.items():
        assert value.tobytes() == found[name].tobytes(), name


def test_layers_are_really_computed_twice_and_only_when_they_learn():
    task = make_task()
    calls = []
    task.model.decoder.blocks[0].mlp.register_forward_post_hook(lambda *inputs: calls.append(1))
    apply_recompute(task, ["decoder.blocks.*"])
    gradients(task)
    assert len(calls) == 2
    with paddle.no_grad():
        task.model.decoder.blocks[0](paddle.ones([1, 3, 16]))
    assert len(calls) == 3


def test_names_in_a_checkpoint_do_not_change():
    plain, other = make_task(), make_task()
    apply_recompute(other, PATTERNS)
    assert list(plain.state_dict()) == list(other.state_dict())


def test_the_outermost_layer_is_taken():
    assert apply_recompute(make_task(), ["model.decoder", "decoder.blocks.*"]) == ["model.decoder"]


def test_a_pattern_without_a_layer_is_an_error():
    with pytest.raises(ValueError, match=r"'blocks.\*' matches no layer; repeated layers are model.decoder.blocks.\*"):
        apply_recompute(make_task(), ["blocks.*"])
