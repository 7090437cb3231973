"""Plans against what is measured, where this machine can measure it; their arithmetic elsewhere."""

import gc
from pathlib import Path

import numpy as np
import paddle
import pytest

from plsc.config import plugins, registry
from plsc.config.files import load
from plsc.config.run_config import RunConfig
from plsc.costs import networks
from plsc.costs.networks import target_cost
from plsc.engine.parts import build_task
from plsc.engine.recompute import apply_recompute
from plsc.models.cae import CAE
from plsc.planning import memory as sizes
from plsc.planning import report
from plsc.planning.devices import DEVICES, GIB, find
from plsc.planning.duration import Cluster, all_reduce_bytes, step
from plsc.planning.memory import Variant
from plsc.planning.work import work_of
from plsc.tokenizers.dalle import DalleEncoder, DalleTokenizer
from plsc.tokenizers.projection import RandomTokenizer

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"
RECIPE = CONFIGS / "cae" / "cae_vit_base_pretrain_in1k_800e.yaml"
SIZE = ["Model.encoder.image_size=96", "Model.encoder.patch_size=8", "Model.encoder.embed_dim=128"]
HEAD = ["Model.head.in_features=128", "Model.head.num_classes=7"]
MASK = [
    "MaskGenerator={_delete_: true, name: RandomMask, grid: [12, 12], num_masked: 58}",
    "Tokenizer={_delete_: true, name: RandomTokenizer, vocab_size: 300, patch_size: 8}",
    "Model.vocab_size=300",
]
ATTENTIVE = ["Model.pooling=tokens", "Model.head={_delete_: true, name: AttentiveHead, num_heads: 4}"]
EFFICIENT = ["Model.pooling=tokens", "Model.head={_delete_: true, name: EfficientProbingHead}"]
CASES = {
    "pre-training": ("pretrain", [*SIZE, *MASK, "Model.decoder_layer_scale=0.1"]),
    "pre-training, dropped paths": ("pretrain", [*SIZE, *MASK, "Model.encoder.drop_path_rate=0.2"]),
    "pre-training, wide decoder": ("pretrain", [*SIZE, *MASK, "Model.decoder_embed_dim=192"]),
    "pre-training, recomputed": ("pretrain", [*SIZE, *MASK, "DistributedStrategy.recompute=[encoder.blocks.*]"]),
    "fine-tuning": ("finetune", [*SIZE, *HEAD, "Model.encoder.layer_scale=0.1"]),
    "fine-tuning, dropout": ("finetune", [*SIZE, *HEAD, "Model.encoder.drop_rate=0.1"]),
    "fine-tuning, recomputed": ("finetune", [*SIZE, *HEAD, "DistributedStrategy.recompute=[encoder.blocks.*]"]),
    "linear probe": ("linprobe", [*SIZE, *HEAD, "Model.head.num_classes=4000"]),
    "attentive probe": ("linprobe", [*SIZE, *ATTENTIVE, *HEAD]),
    "efficient probe": ("linprobe", [*SIZE, *EFFICIENT, *HEAD]),
}


def read(path, overrides=()):
    config = load(str(path), list(overrides))
    plugins.load(config)
    return RunConfig.checked(config)


def allocated():
    gc.collect()
    return paddle.base.core.host_memory_stat_current_value("Allocated", 0)


def batch_for(task, config, count):
    """Random images with what the task needs besides."""
    rng = np.random.default_rng(0)
    height, width = task.encoder.image_size
    batch = {"image": paddle.to_tensor(rng.normal(size=(count, 3, height, width)).astype("float32"))}
    if isinstance(task.model, CAE):
        masked = config["MaskGenerator"]["num_masked"]
        order = np.stack([rng.permutation(144) for _ in range(count)])
        batch["visible_index"] = paddle.to_tensor(np.sort(order[:, masked:], 1))
        batch["masked_index"] = paddle.to_tensor(np.sort(order[:, :masked], 1))
        batch["targets"] = paddle.to_tensor(rng.integers(0, task.model.vocab_size, (count, masked)))
    else:
        batch["label"] = paddle.to_tensor(rng.integers(0, 7, count))
    return batch


@pytest.mark.parametrize("case", CASES)
def test_activations_are_within_ten_percent_of_those_measured(case, monkeypatch):
    """With dropped paths multiplied by zero, as devices other than a CPU do."""
    monkeypatch.setattr("plsc.nn.drop_path.on_cpu", lambda tensor: False)
    work, measured, predicted = activations(case)
    assert predicted == pytest.approx(measured, rel=0.1)
    assert bool(work.recomputed) == ("recomputed" in case)


@pytest.mark.parametrize("case", ["pre-training, dropped paths", "fine-tuning", "fine-tuning, dropout"])
def test_a_cpu_keeps_less_of_dropped_paths_than_planned(case):
    _, measured, predicted = activations(case)
    assert 0.8 * predicted < measured < predicted


def activations(case):
    """A case's work, and the bytes of its activations: measured on this machine, and predicted."""
    name, overrides = CASES[case]
    config = read(CONFIGS / "quickstart" / f"{name}.yaml", overrides)
    work = work_of(config, 1, images=64)
    task = build_task(config, 0)
    apply_recompute(task, config.get("DistributedStrategy", {}).get("recompute", []))
    task.train()
    batch = batch_for(task, config, 16)
    before = allocated()
    loss = task(batch)["loss"]
    measured = allocated() - before
    loss.backward()
    return work, measured, 16 * sizes.activation_bytes(work, Variant("O0", work.recomputed, 1, flash=False))


@pytest.mark.parametrize("case", ["pre-training", "fine-tuning", "linear probe"])
@pytest.mark.parametrize("optimizer", ["{name: AdamW}", "{name: SGD, momentum: 0.9}", "{name: LARS, momentum: 0.9}"])
def test_parameters_and_optimizer_states_are_exact(case, optimizer):
    name, overrides = CASES[case]
    kind = f"Optimizer={{_delete_: true, {optimizer[1:]}"
    config = read(CONFIGS / "quickstart" / f"{name}.yaml", [*overrides, kind])
    work = work_of(config, 1, images=64)
    task = build_task(config, 0)
    built = registry.OPTIMIZERS.build(config["Optimizer"], model=task)
    task(batch_for(task, config, 2))["loss"].backward()
    gradients = sum(p.grad.size for p in task.parameters() if p.grad is not None)
    built.set_lr(1e-3)
    built.step()
    rows = sizes.memory(work, Variant("O0", (), 1, flash=False), 8, 1)
    assert work.optimizer == sum(tensor.size for tensor in built.state_dict().values())
    assert rows["optimizer"] == 4 * work.optimizer
    assert rows["parameters"] == rows["gradients"] == 4 * gradients
    others = [p for p in task.parameters() if p.stop_gradient] + task.buffers()
    assert rows["teacher, buffers, average"] == sum(4 * tensor.size for tensor in others)


def test_the_tokenizers_cost_is_that_of_the_network():
    counted = [0, 0]

    def count(layer, _, y):
        counted[0] += 2 * y.shape[2] * y.shape[3] * int(np.prod(layer.w.shape))
        counted[1] += int(np.prod(layer.w.shape))

    network = DalleEncoder()
    for layer in network.sublayers():
        if hasattr(layer, "w"):
            layer.register_forward_post_hook(count)
    with paddle.no_grad():
        network(paddle.zeros([1, 3, 16, 24]))
    operations, _, weights = target_cost(DalleTokenizer, (2, 3))
    assert [operations, weights] == counted


@pytest.fixture(scope="module")
def recipe():
    return work_of(read(RECIPE), 32)


def test_the_recipe_on_32_devices(recipe):
    assert (recipe.trained, recipe.batch, recipe.plan.accumulate) == (148_681_472, 64, 1)
    assert recipe.plan.stop_step == 500_000 and recipe.level == "O1"
    assert recipe.recomputable[0] == "encoder.blocks.0" and len(recipe.recomputable) == 12 + 4 + 4


def test_less_is_needed_with_less_precision_recompute_and_sharding(recipe):
    total = [
        sizes.memory(recipe, Variant(*variant, flash=True), 64, 32)["total"]
        for variant in (("O0", (), 1), ("O1", (), 1), ("O1", recipe.recomputable, 1), ("O1", recipe.recomputable, 8))
    ]
    assert total == sorted(total, reverse=True) and len(set(total)) == 4


def test_sharding_divides_the_optimizer_only(recipe):
    one, eight = (sizes.memory(recipe, Variant("O2", (), share, True), 64, 32) for share in (1, 8))
    assert one["optimizer"] == 4 * recipe.optimizer + 4 * recipe.trained
    assert eight["optimizer"] == one["optimizer"] // 8
    assert {name for name in one if one[name] != eight[name]} == {"optimizer", "total"}


@pytest.mark.parametrize("name", DEVICES)
def test_the_largest_batch_is_the_largest_that_fits(recipe, name):
    variant, device = Variant("O1", (), 1, True), find(name)
    batch = sizes.largest_batch(recipe, variant, device, 32)
    room = sizes.USABLE * device.memory * GIB
    assert sizes.memory(recipe, variant, batch, 32)["total"] <= room
    assert sizes.memory(recipe, variant, batch + 1, 32)["total"] > room


@pytest.mark.parametrize(("processes", "sent"), [(1, 0), (2, 100), (4, 150), (32, 193.75)])
def test_a_ring_sends_twice_all_but_its_share(processes, sent):
    assert all_reduce_bytes(100, processes) == sent


def test_a_steps_time_is_that_of_its_parts(recipe):
    cluster = Cluster(find("a100-40g"), 8, 4, bandwidth=10, efficiency=0.5)
    seconds = step(recipe, Variant("O1", (), 1, True), cluster)
    assert seconds.reduce == pytest.approx(2 * 31 / 32 * 4 * recipe.trained / 10e9)
    assert seconds.compute == pytest.approx(64 * recipe.training / 156e12)
    assert seconds.operations == 2048 * (recipe.training + recipe.targets)
    assert seconds.total == pytest.approx(seconds.compute + seconds.targets + seconds.update + seconds.reduce)


def test_gradients_sent_during_the_backward_pass_take_its_time_and_more_memory(recipe):
    cluster, o1 = Cluster(find("a100-40g"), 8, 4), Variant("O1", (), 1, True)
    overlapped = work_of(read(RECIPE, ["DistributedStrategy.overlap=true"]), 32)
    before, after = step(recipe, o1, cluster), step(overlapped, o1, cluster)
    backward = 1 - sum(recipe.forward.values()) / recipe.training  # of the arithmetic; teachers have none
    assert 0.5 < backward < 2 / 3
    assert after.reduce == before.reduce > after.hidden == pytest.approx(backward * before.compute)
    assert after.total == pytest.approx(before.total - after.hidden)
    fast = step(overlapped, o1, Cluster(find("a100-40g"), 8, 4, bandwidth=1000))
    assert fast.hidden == pytest.approx(fast.reduce * (1 - 128 * 2**20 / (4 * recipe.trained)))  # not the last message
    halved = step(overlapped, Variant("O2", (), 1, True), Cluster(find("a100-40g"), 8, 4, bandwidth=1000))
    assert halved.hidden == pytest.approx(halved.reduce * (1 - 128 * 2**20 / (2 * recipe.trained)))
    again = Variant("O1", recipe.recomputable, 1, True)  # does not go with it
    assert step(overlapped, again, cluster).hidden == 0
    assert step(overlapped, Variant("O0", (), 1, False), Cluster(find("cpu"), 32)).hidden == 0


def test_only_the_last_micro_batch_hides_what_is_sent():
    more = ["DistributedStrategy.overlap=true", "DataLoader.Train.loader.batch_size=16"]
    cluster, o1 = Cluster(find("a100-40g"), 8, 4), Variant("O1", (), 1, True)
    whole, parts = (step(work_of(read(RECIPE, some), 32), o1, cluster) for some in (more[:1], more))
    assert parts.hidden == pytest.approx(whole.hidden / 4)


@pytest.mark.parametrize(("level", "width"), [("O1", 4), ("O2", 2)])
def test_messages_are_a_second_copy_of_the_gradients(recipe, level, width):
    overlapped = work_of(read(RECIPE, ["DistributedStrategy.overlap=true"]), 32)
    plain, again = Variant(level, (), 1, True), Variant(level, recipe.recomputable, 1, True)
    copy = width * recipe.trained
    assert sizes.memory(recipe, plain, 64, 1)["all-reduce"] == 0
    assert sizes.memory(recipe, plain, 64, 32)["all-reduce"] == copy
    assert sizes.memory(overlapped, plain, 64, 32)["all-reduce"] == copy + 128 * 2**20
    assert sizes.memory(overlapped, again, 64, 32)["all-reduce"] == copy


def test_recompute_costs_a_forward_pass_of_its_parts(recipe):
    cluster = Cluster(find("a100-40g"))
    plain = step(recipe, Variant("O1", (), 1, True), cluster)
    again = step(recipe, Variant("O1", recipe.recomputable, 1, True), cluster)
    extra = sum(recipe.forward[part] for part in ("encoder", "regressor", "decoder"))
    assert again.compute / plain.compute == pytest.approx(1 + extra / recipe.training)


def test_measured_costs_replace_the_data_sheet(recipe):
    model = {"seconds": 0.5, "seconds_per_flops": 1e-11, "seconds_per_activation_bytes": 0.0}
    seconds = step(recipe, Variant("O0", (), 1, False), Cluster(find("cpu"), 32), model)
    assert seconds.compute == pytest.approx(0.5 + 64 * recipe.training * 1e-11)
    assert seconds.targets == pytest.approx(64 * recipe.targets * 1e-11)


@pytest.mark.parametrize(
    ("gpu", "overrides", "wanted"),
    [
        ("t4", ["DataLoader.Train.loader.batch_size=512"], "batch_size=64 does, with Global.global_batch_size=2048"),
        ("t4", ["DataLoader.Train.loader.batch_size=256"], "DistributedStrategy.recompute of the layers below fits"),
        ("a100-40g", ["AMP.level=O0"], "AMP.level=O1 would be about"),
        ("a100-40g", ["DistributedStrategy.recompute=[encoder.blocks.*]"], "fits without recompute"),
    ],
)
def test_advice_names_the_keys(gpu, overrides, wanted):
    work = work_of(read(RECIPE, overrides), 4)
    assert any(wanted in sentence for sentence in report.plan(work, Cluster(find(gpu), 4))["advice"])


def test_advice_on_slow_links(recipe):
    (advice,) = report.plan(recipe, Cluster(find("a100-40g"), 8, 4))["advice"]
    assert advice == "DistributedStrategy.overlap=true with bucket_mb=25 could hide 33.1 ms of the all-reduce"


@pytest.mark.parametrize(
    ("gpu", "overrides"),
    [
        ("a100-40g", ["DistributedStrategy.overlap=true"]),
        ("a100-40g", ["DistributedStrategy.recompute=[encoder.blocks.*]"]),
        ("t4", ["DataLoader.Train.loader.batch_size=512", "Global.global_batch_size=16384"]),
        ("cpu", []),
    ],
    ids=["has it", "recomputes", "does not fit", "cpu"],
)
def test_overlap_is_not_advised_where_it_does_not_help(gpu, overrides):
    advice = report.plan(work_of(read(RECIPE, overrides), 32), Cluster(find(gpu), 8, 4))["advice"]
    assert not any("overlap=true" in sentence for sentence in advice)


def test_what_is_hidden_is_told():
    work = work_of(read(RECIPE, ["DistributedStrategy.overlap=true"]), 32)
    shown = report.text(work, Cluster(find("a100-40g"), 8, 4), "a100-40g")
    assert "92.2 ms at 12.5 GB/s, of which the backward pass hides 33.1 ms; 34% of the step" in shown
    assert "ms: hidden" in shown


def test_advice_of_recompute_takes_overlap_away():
    work = work_of(read(RECIPE, ["DataLoader.Train.loader.batch_size=256", "DistributedStrategy.overlap=true"]), 4)
    (advice,) = [s for s in report.plan(work, Cluster(find("t4"), 4))["advice"] if "recompute" in s]
    assert "DistributedStrategy.recompute of the layers below, DistributedStrategy.overlap=false" in advice


def test_a_config_that_fits_needs_no_advice(recipe):
    assert report.plan(recipe, Cluster(find("a100-40g"), 8))["advice"] == []


def test_a_cpu_is_planned_in_float32_only(recipe):
    names = {row["name"] for row in report.plan(recipe, Cluster(find("cpu")))["variants"]}
    assert names == {"float32", "float32+recompute"}


def test_sharding_must_divide_the_devices():
    with pytest.raises(ValueError, match="sharding_degree: 3 does not divide the 4 devices"):
        work_of(read(RECIPE, ["DistributedStrategy.sharding_degree=3"]), 4)


def test_overlap_does_not_go_with_recompute():
    both = read(RECIPE, ["DistributedStrategy.overlap=true", "DistributedStrategy.recompute=[encoder.blocks.*]"])
    assert work_of(both, 1).overlap  # a single device ignores it
    with pytest.raises(ValueError, match="overlap: true does not work with recompute"):
        work_of(both, 2)


def test_a_model_without_costs_is_named():
    with pytest.raises(ValueError, match=r"the costs of DiscreteVAE are unknown; register"):
        work_of(read(CONFIGS / "quickstart" / "tokenizer.yaml"), 1, images=100)


def test_an_unknown_device_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"--gpu: no device is called 'a100_40g'; did you mean a100-40g\?"):
        find("a100_40g")


def test_a_tokenizer_with_unknown_costs_is_said_in_a_note(monkeypatch):
    config = read(CONFIGS / "quickstart" / "pretrain.yaml", [*SIZE, *MASK])
    assert not [note for note in work_of(config, 1, images=64).notes if "not counted" in note]
    monkeypatch.delitem(networks._TARGETS, RandomTokenizer)
    (note,) = [note for note in work_of(config, 1, images=64).notes if "not counted" in note]
    assert "the costs of the tokenizer RandomTokenizer are unknown" in note and "register_target_cost" in note
