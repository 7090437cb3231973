import numpy as np
import paddle
import pytest

from plsc.costs.networks import encoder_flops, network_activations, network_flops
from plsc.losses import CrossEntropy, SumOverHeads
from plsc.models import LinearGrid, ViT
from plsc.models.heads import LinearHead
from plsc.optim.optimizers import SGD, AdamW
from plsc.tasks.classification import Classification


def make_encoder(seed=0):
    paddle.seed(seed)
    return ViT(image_size=8, patch_size=4, embed_dim=8, depth=3, num_heads=2)


def make_grid(**options):
    return LinearGrid(make_encoder(), 3, **{"blocks": [1, 2], "rates": [0.5, 2.0], **options})


def images(count=6):
    return paddle.to_tensor(np.random.default_rng(0).normal(size=(count, 3, 8, 8)).astype("float32"))


def labels(count=6):
    return paddle.to_tensor(np.arange(count) % 3)


def test_there_is_a_head_for_each_combination():
    grid = make_grid()
    assert grid.head_names == [
        f"{kind} of {blocks}, rate {rate}"
        for blocks in ("1 block", "2 blocks") for kind in ("cls", "cls+mean") for rate in ("0.5", "2")
    ]  # fmt: skip
    assert [head.in_features for head in grid.heads] == [8, 8, 16, 16, 16, 16, 24, 24]
    assert grid(images()).shape == [6, 8, 3]


def test_heads_take_what_their_names_say():
    grid = make_grid()
    grid.eval()
    outputs = []
    hooks = [block.register_forward_post_hook(lambda _, __, y: outputs.append(y)) for block in grid.encoder.blocks]
    last = grid.encoder(images())
    for hook in hooks:
        hook.remove()
    cls = [grid.encoder.norm(y[:, 0]) for y in outputs]
    mean = last[:, 1:].mean(axis=1)
    wanted = {0: [cls[2]], 2: [cls[2], mean], 4: [cls[1], cls[2]], 6: [cls[1], cls[2], mean]}
    logits = grid(images())
    for number, parts in wanted.items():
        expected = grid.heads[number](paddle.concat(parts, axis=-1))
        np.testing.assert_allclose(logits[:, number].numpy(), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "rate"), [(lambda task: SGD(task, momentum=0.9), 0.1), (lambda task: AdamW(task, weight_decay=0.0), 0.01)]
)
def test_each_head_is_trained_as_if_it_were_alone(make, rate):
    task = Classification(make_grid(features=["cls"], blocks=[1]), SumOverHeads())
    starts = [{name: value.numpy().copy() for name, value in head.state_dict().items()} for head in task.model.heads]
    features = task.model.encoder(images())[:, 0]

    def train(network, task_optimizer, loss, factor):
        for _ in range(4):
            task_optimizer.set_lr(factor * rate)
            task_optimizer.set_progress(0.0)
            loss(network).backward()
            task_optimizer.step()
            task_optimizer.clear_grad()

    before = task.model.encoder.blocks[0].mlp.fc1.weight.numpy().copy()
    task.train()
    batch = {"image": images(), "label": labels()}
    train(task, make(task), lambda network: network(batch)["loss"], 1.0)
    np.testing.assert_array_equal(task.model.encoder.blocks[0].mlp.fc1.weight.numpy(), before)
    for start, head, factor in zip(starts, task.model.heads, (0.5, 2.0)):
        alone = LinearHead(8, 3)
        alone.set_state_dict(start)
        train(alone, make(alone), lambda network: CrossEntropy()(network(features), labels()), factor)
        np.testing.assert_allclose(head.linear.weight.numpy(), alone.linear.weight.numpy(), atol=1e-6)


def test_one_grid_of_cls_and_mean_of_the_last_block_is_the_encoders_output():
    encoder = make_encoder()
    tokens = encoder.last_blocks(images(), 2)
    assert len(tokens) == 2
    np.testing.assert_array_equal(tokens[-1].numpy(), encoder(images()).numpy())
    assert not encoder.blocks[-1]._forward_post_hooks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": [1, 4]}, r"blocks are from 1 to the encoder's 3, got \[1, 4\]"),
        ({"blocks": []}, "blocks needs at least one value and none twice"),
        ({"rates": [1.0, 1.0]}, "rates needs at least one value and none twice"),
        ({"rates": [0.0]}, "rates must be above 0"),
    ],
)
def test_impossible_grids(options, message):
    with pytest.raises(ValueError, match=message):
        make_grid(**options)


def test_a_dry_run_knows_its_cost():
    grid = make_grid()
    assert network_flops(grid)["encoder"] == (encoder_flops(grid.encoder), False)
    assert network_flops(grid)["heads"] == (2 * 3 * sum(head.in_features for head in grid.heads), True)
    assert {f"heads.{i}" for i in range(8)} < set(network_activations(grid))
