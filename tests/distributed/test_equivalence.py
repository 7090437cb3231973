"""Results do not depend on the division of a global batch among processes and micro-batches."""

import pytest

from tests.distributed.jobs import PRETRAIN, SMALL_CAE, assert_close, assert_same_losses, launch
from tests.integration.runs import data, make_digits, metrics, train

LINPROBE = "configs/quickstart/linprobe.yaml"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp("images") / "digits", per_class=20)


def options(images, output, batch, *more):
    size = f"DataLoader.Train.loader.batch_size={batch}"
    return [*data(images, evaluation=False), *SMALL_CAE, size, f"Global.output_dir={output}", "Global.epochs=null",
            "Global.steps=6", *more]  # fmt: skip


@pytest.fixture(scope="module")
def alone(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    train(PRETRAIN, options(images, "run", 8), folder)
    return folder / "run"


def test_accumulation(images, alone, tmp_path):
    train(PRETRAIN, options(images, "run", 2, "Global.global_batch_size=8"), tmp_path)
    assert_close(tmp_path / "run", alone)


def test_two_processes_train_like_one(images, alone, tmp_path):
    launch(2, options(images, "run", 4, "Global.check_sync_every=2"), tmp_path)
    assert_close(tmp_path / "run", alone)


def test_two_processes_measure_frozen_features_together(images, tmp_path):
    probe = "Callbacks=[{name: FrozenProbe, images: 21, batch_size: 4}]"  # 21: the processes have unequal parts
    train(PRETRAIN, options(images, "alone", 8, probe), tmp_path)
    launch(2, options(images, "run", 4, probe), tmp_path)
    wanted, found = metrics(tmp_path / "alone", "probe"), metrics(tmp_path / "run", "probe")
    assert [row["step"] for row in found] == [row["step"] for row in wanted] == [0, 5, 6]
    for name in ("knn_top1", "ridge_top1", "rankme", "feature_std"):
        assert [row[name] for row in found] == pytest.approx([row[name] for row in wanted], abs=1e-4), name
    assert_close(tmp_path / "run", tmp_path / "alone")


def test_two_processes_with_sharding_recompute_and_accumulation(images, alone, tmp_path):
    more = ["DistributedStrategy.sharding_degree=2", "DistributedStrategy.recompute=[encoder.blocks.*]"]
    launch(2, options(images, "run", 2, "Global.global_batch_size=8", "Global.check_sync_every=2", *more), tmp_path)
    assert_close(tmp_path / "run", alone)


def test_saved_by_two_processes_resumed_by_one_and_by_four(images, alone, tmp_path):
    shard = "DistributedStrategy.sharding_degree={}"
    launch(2, options(images, "run", 4, shard.format(2), "Global.max_train_step=3"), tmp_path)
    for processes, output in ((1, "one"), (4, "four")):
        more = ["Global.resume=run", "Global.global_batch_size=8"]
        arguments = options(images, output, 8 // processes, *more)
        if processes == 1:
            train(PRETRAIN, arguments, tmp_path)
        else:
            launch(processes, [*arguments, shard.format(processes)], tmp_path)
        assert [row["step"] for row in metrics(tmp_path / output)] == [4, 5, 6]
    assert_same_losses(tmp_path / "one", tmp_path / "four")
    assert_close(tmp_path / "four", tmp_path / "one")
    late = [row["loss"] for row in metrics(alone)][3:]
    assert [row["loss"] for row in metrics(tmp_path / "one")] == pytest.approx(late, abs=1e-5)


def test_a_probe_with_batch_normalization(images, tmp_path):
    """Its statistics are those of the whole batch over all processes."""
    small = [
        *data(images), "Model.encoder.embed_dim=16", "Model.encoder.depth=1", "Model.encoder.num_heads=2",
        "Model.head.in_features=16", "Model.head.num_classes=2", "Model.head.batch_norm=true", "Init.checkpoint=null",
        "Model.freeze_encoder=false",  # so gradients pass through the statistics too
        "Optimizer={_delete_: true, name: SGD}",  # AdamW amplifies rounding errors of zero gradients to full steps
        "LRScheduler.warmup_epochs=0", "Global.log_every_steps=1", "Global.epochs=null", "Global.steps=4",
    ]  # fmt: skip
    train(LINPROBE, [*small, "DataLoader.Train.loader.batch_size=8", "Global.output_dir=one"], tmp_path)
    launch(2, [*small, "DataLoader.Train.loader.batch_size=4", "Global.output_dir=two"], tmp_path, LINPROBE)
    assert_close(tmp_path / "one", tmp_path / "two")
    (one,), (two,) = (metrics(tmp_path / run, "eval") for run in ("one", "two"))
    assert one["top1"] == two["top1"]


@pytest.mark.parametrize(
    ("batch", "more"),
    [(2, "Global.global_batch_size=8"), (4, "DistributedStrategy.sharding_degree=2")],
    ids=["accumulated", "sharded"],
)
def test_gradients_sent_during_the_backward_pass(images, alone, tmp_path, batch, more):
    overlap = ["DistributedStrategy.overlap=true", "DistributedStrategy.bucket_mb=1"]
    launch(2, options(images, "run", batch, "Global.check_sync_every=1", more, *overlap), tmp_path)
    assert_close(tmp_path / "run", alone)


def test_overlap_is_refused_with_recompute(images, tmp_path):
    more = ["DistributedStrategy.overlap=true", "DistributedStrategy.recompute=[encoder.blocks.*]"]
    text = launch(2, options(images, "run", 4, *more), tmp_path, expect=2)
    assert "overlap: true does not work with recompute" in text and "Traceback" not in text
    assert not (tmp_path / "run").exists()
