"""Benchmarks at toy size: what is measured and reported, never how fast it is."""

import contextlib
import copy
import gc
import itertools
import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from plsc.benchmark import data, inputs, report, scaling, startup, step
from plsc.benchmark.clock import REST, StageClock, shares
from plsc.benchmark.run import benchmark, write
from plsc.benchmark.stages import timed_stages
from plsc.config import plugins
from plsc.config.files import load
from plsc.config.run_config import RunConfig
from plsc.data.pipeline import SampleDataset
from tests.engine.toys import toy_trainer

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ["DataLoader.Train.loader.batch_size=4", "Model.encoder.depth=1", "Model.encoder.embed_dim=16"]
SWEEPS = {"image_size": [16, 32], "width": [8, 16], "batch_size": [1, 2, 3]}


def tiny(name, *overrides):
    config = load(str(ROOT / "configs" / "quickstart" / f"{name}.yaml"), [*TINY, *overrides])
    plugins.load(config)
    return RunConfig.checked(config)


def make_small(patch, folder):
    patch.chdir(folder)
    patch.setattr(inputs, "DISTINCT", 2)
    patch.setattr(step, "PRODUCT", (8, 8, 8))
    patch.setattr(step, "MOST", 3)
    patch.setattr(startup, "RUNS", 1)


@pytest.fixture(autouse=True)
def small_and_away(tmp_path, monkeypatch):
    """No dataset and no tokenizer are where the config looks for them."""
    make_small(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """All phases of the quickstart's pre-training, once for the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch, tmp_path_factory.mktemp("measured"))
        patch.setattr(scaling, "TOO_LONG", float("inf"))  # however busy the machine is
        said = []
        phases = ("step", "data", "startup", "scaling")
        result = benchmark(tiny("pretrain"), phases, 0.02, {"from": "tests"}, said.append, SWEEPS)
        assert said == [f"measuring: {phase}" for phase in phases]
        return json.loads(json.dumps(result))


def test_every_phase_has_its_figures(measured):
    results = measured["results"]
    for place, name, _, _ in report.FIGURES:
        phase, key = place.split(".")
        assert results[phase][key] > 0, name
    assert results["step"]["batch_size"] == 4
    assert results["step"]["image_shape"] == [3, 32, 32]
    assert len(results["step"]["seconds_of_each_step"]) == step.LEAST
    assert results["startup"]["help_imports_paddle"] is False
    assert measured["measured"] == {"batch_size": 4, "masked_patches": 40, "patches": 64}
    assert {"cpu", "cores", "threads", "gpu", "paddle", "git_commit", "load"} <= set(measured["machine"])
    assert measured["config"]["Model"]["encoder"]["depth"] == 1


def test_fractions_of_the_stages_add_up_to_one(measured):
    stages = measured["results"]["step"]["stage_shares"]
    assert {"data wait", "batch transforms", "targets", "encoder", "teacher", "regressor"} <= set(stages)
    assert {"decoder", "head", "loss", "backward", "gradient clip", "task before the update"} <= set(stages)
    assert {"optimizer", "other"} <= set(stages)
    assert sum(stages.values()) == pytest.approx(1)
    transforms = measured["results"]["data"]["transform_shares"]
    assert list(transforms) == ["read and decode", "TwoSizeCrop", "arrays, masks, batches"]
    assert sum(transforms.values()) == pytest.approx(1)


def test_operations_are_those_of_the_dry_run(measured):
    from plsc.planning.dry_run import dry_run

    printed = measured["results"]["step"]["gflop_per_image"]
    assert f"{printed:.4g} in a training step" in dry_run(tiny("pretrain"))


def test_replaced_inputs_are_noted(measured):
    assert any("JPEG images of 500 x 375 pixels are generated" in note for note in measured["notes"])
    assert any(note.startswith("the tokenizer is missing (") for note in measured["notes"])
    assert any("the training process reads the data between steps" in note for note in measured["notes"])


def test_points_follow_the_sweeps_and_a_cost_model_is_fitted(measured):
    found = measured["results"]["scaling"]
    assert found["base"] == {"image_size": 32, "width": 16, "batch_size": 4}
    assert [(p["axis"], p[p["axis"]]) for p in found["points"]] == [(a, v) for a, vs in SWEEPS.items() for v in vs]
    assert all(point["flops"] > 0 and point["activation_bytes"] > 0 for point in found["points"])
    assert set(found["cost_model"]) == {
        "seconds",
        "seconds_per_flops",
        "seconds_per_activation_bytes",
        "mean_relative_error",
    }
    assert min(found["cost_model"].values()) >= 0


def test_json_charts_and_table(measured, tmp_path):
    paths = write(measured, tmp_path / "out")
    assert [path.name for path in paths] == ["benchmark.json", "benchmark.png", "scaling.png"]
    assert all(path.stat().st_size > 1000 for path in paths)
    text = report.table(measured)
    for shown in (
        "training step",
        "img/s",
        "fraction of that matmul",
        "backward",
        "TwoSizeCrop",
        "note: the tokenizer is",
    ):
        assert shown in text


def test_a_comparison_shows_ratios(measured):
    slower = copy.deepcopy(measured)
    slower["results"]["step"]["images_per_second"] /= 2  # it was slower then: now is twice as good
    slower["results"]["startup"]["help_seconds"] /= 4  # and faster then
    slower["results"]["step"]["product_gflops"] *= 100  # not ours
    slower["machine"]["threads"] = -1
    text, lowest = report.compare(measured, slower)
    rows = {line[:30].strip(): line.split()[-1] for line in text.splitlines()}
    assert rows["training step"] == "2.000" and rows["--help"] == "0.250" and rows["data, one core"] == "1.000"
    assert lowest == pytest.approx(0.25)
    assert "threads differs" in text and "cpu differs" not in text


def test_a_comparison_with_something_else_is_refused(measured):
    with pytest.raises(ValueError, match="--against: not the benchmark.json of an earlier benchmark"):
        report.compare(measured, {"results": {}})


@pytest.mark.parametrize(("name", "loader"), [("linprobe", 0), ("finetune", 2), ("tokenizer", 0)])
def test_any_task_has_its_own_stages(name, loader, tmp_path):
    overrides = [f"DataLoader.Train.loader.num_workers={loader}"]
    if name == "tokenizer":
        config = RunConfig(load(str(ROOT / "configs" / "quickstart" / "tokenizer.yaml"), [TINY[0], *overrides]))
    else:
        config = tiny(name, "Model.head.in_features=16", *overrides)
    subject = inputs.runnable(config, tmp_path / "images")
    result = step.measure_step(subject, 0.01)
    assert sum(result["stage_shares"].values()) == pytest.approx(1)
    assert "encoder" in result["stage_seconds"]
    assert ("codebook" in result["stage_seconds"]) == (name == "tokenizer")
    if name != "tokenizer":
        assert any("random weights" in note for note in subject.notes)
    assert any(("375 x 375" if name == "linprobe" else "500 x 375") in note for note in subject.notes)


def test_the_clock_counts_the_innermost_stage_only(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = StageClock()

    def work(seconds):
        now[0] += seconds

    with clock.measuring("step"):
        work(1)
        clock.wrap(work, "forward")(2)
        with clock.measuring("backward"):
            work(3)
            with clock.measuring("forward"):
                work(4)
        work(5)
    work(100)
    assert clock.seconds == {"step": 6, "forward": 6, "backward": 3}
    assert shares(clock.seconds)["backward"] == pytest.approx(0.2)


def test_timed_stages_restore_the_step(tmp_path):
    step = toy_trainer(tmp_path).train_step
    batch = {"image": paddle.ones([2, 4])}
    clock = StageClock()
    with timed_stages(step, clock, lambda: step([batch])), clock.measuring(REST):
        step([batch])
    stages = {"targets", "0", "1", "2", "rest of the model", "loss", "backward", "gradient clip"}
    assert stages | {"task before the update", "optimizer", "task after the update"} <= set(clock.seconds)
    before = dict(clock.seconds)
    step([batch])
    assert clock.seconds == before
    assert step.timer is contextlib.nullcontext
    layers = step.task.sublayers(include_self=True)
    assert not any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in layers)


def test_recomputation_counts_as_backward(tmp_path):
    """As with recomputation of activations."""
    step = toy_trainer(tmp_path).train_step
    batch = {"image": paddle.ones([2, 4])}
    clock, calls = StageClock(), []
    backward = step.precision.backward

    def again(loss):
        step.task.model[0](batch["image"])
        calls.append(clock.stage)
        backward(loss)

    step.precision.backward = again
    with timed_stages(step, clock, lambda: step([batch])), clock.measuring(REST):
        step([batch])
    assert calls == ["", "backward"]


def test_the_plain_pipeline_gives_normalized_pixels_of_pillow(tmp_path):
    subject = inputs.runnable(tiny("pretrain", "DataLoader.Train.dataset.decoder=fast"), tmp_path / "images")
    pillow = inputs.runnable(tiny("pretrain"), tmp_path / "images").samples()[0, 3]
    plain = data._plain(subject)[0, 3]
    assert set(plain) == set(pillow) and (plain["mask"] == pillow["mask"]).all()
    for key in ("image", "target_image"):
        pixels = pillow[key].transpose(1, 2, 0) / 255.0
        wanted = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        assert plain[key].dtype == np.float32 and plain[key].shape == pillow[key].shape
        np.testing.assert_allclose(plain[key], wanted.transpose(2, 0, 1), atol=1e-5)


def test_a_fit_finds_the_model_that_made_the_points():
    rng = np.random.default_rng(0)
    points = [{"flops": f, "activation_bytes": b} for f, b in rng.integers(10**6, 10**9, size=(12, 2)).tolist()]
    for point in points:
        point["seconds_per_step"] = 0.01 + 3e-10 * point["flops"] + 2e-9 * point["activation_bytes"]
    found = scaling.fit(points, ["flops", "activation_bytes"])
    assert found["seconds"] == pytest.approx(0.01)
    assert found["seconds_per_flops"] == pytest.approx(3e-10)
    assert found["seconds_per_activation_bytes"] == pytest.approx(2e-9)
    assert found["mean_relative_error"] == pytest.approx(0, abs=1e-9)
    seconds = scaling.predict(found, points[3]["flops"], points[3]["activation_bytes"])
    assert seconds == pytest.approx(points[3]["seconds_per_step"])


def test_a_fit_has_no_negative_costs():
    points = [{"flops": f, "seconds_per_step": f * 1e-9 - 0.1} for f in (10**9, 10**10, 10**11)]
    assert scaling.fit(points, ["flops"])["seconds"] == 0.0


def test_points_that_take_too_long_are_left_out_and_noted(tmp_path):
    subject = inputs.runnable(tiny("finetune", "Model.head.in_features=16"), tmp_path / "images")
    found = scaling.measure_scaling(subject, 1e-9, {"batch_size": [1, 2, 64]})
    assert [point["batch_size"] for point in found["points"]] == [1]
    assert any("scaling: no point at image_size 32, width 16, batch_size 64: about" in n for n in subject.notes)


def test_a_size_that_the_model_refuses_is_left_out_and_noted(tmp_path):
    subject = inputs.runnable(tiny("finetune", "Model.head.in_features=16"), tmp_path / "images")
    found = scaling.measure_scaling(subject, 1, {"image_size": [18]})
    assert found["points"] == [] and found["cost_model"] is None
    assert any("scaling: no point at image_size 18" in note for note in subject.notes)


def allocated():
    return paddle.base.core.host_memory_stat_current_value("Allocated", 0)


def test_a_point_finds_the_memory_of_the_one_before_free(tmp_path, monkeypatch):
    subject = inputs.runnable(tiny("pretrain"), tmp_path / "images")
    gc.collect()
    before, held = allocated(), []

    def free_memory():
        held.append(allocated() - before)
        return float("inf")

    monkeypatch.setattr(scaling, "TOO_LONG", float("inf"))
    monkeypatch.setattr(scaling, "_free_memory", free_memory)
    scaling.measure_scaling(subject, 1e-9, {"batch_size": [2, 3, 4]})
    assert max(held) < 1.5 * held[0]  # of one point: a second one more than doubles it


def test_scaling_needs_sizes_to_change(tmp_path):
    config = RunConfig(load(str(ROOT / "configs" / "quickstart" / "tokenizer.yaml"), [TINY[0]]))
    with pytest.raises(ValueError, match="the section Model has no image_size and embed_dim to change"):
        scaling.measure_scaling(inputs.runnable(config, tmp_path / "images"), 1)


def test_keys_that_cannot_be_generated_are_named():
    class Needy(nn.Layer):
        required_keys = ("image", "caption")

    with pytest.raises(ValueError, match="cannot generate caption, which Needy needs"):
        scaling._draw(Needy(), 8, 1, 4, 0)


def test_the_config_is_not_changed(tmp_path):
    config = tiny("pretrain", "Global.global_batch_size=64")
    before = json.dumps(config.tree)
    subject = inputs.runnable(config, tmp_path / "images")
    assert json.dumps(config.tree) == before
    assert subject.config["Tokenizer"] == {"name": "GivenTargets", "vocab_size": 128, "num_targets": 64}
    assert subject.config.global_.global_batch_size is None


def test_an_existing_dataset_is_used(tmp_path):
    inputs.generate_images(tmp_path / "mine", 4, (40, 30))
    subject = inputs.runnable(tiny("finetune", f"DataLoader.Train.dataset.root={tmp_path / 'mine'}"), tmp_path / "no")
    assert len(subject.dataset) == 4
    assert not (tmp_path / "no").exists()
    assert isinstance(subject.samples(), SampleDataset)
    assert inputs.Repeated(subject.dataset, 9)[5]["path"] == subject.dataset[1]["path"]


def test_a_failed_start_shows_its_error(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)ended with code 1: .*NameError"):
        startup._run(["-c", "nonsense"])


@pytest.mark.parametrize(
    ("calls", "seconds", "timed"),
    [
        ([10.0, 6.2, 5.4, 5.5, 5.1, 5.2, 5.0], 20, [5.1, 5.2, 5.0]),  # `least` where fewer fit
        ([1.0, 1.0, 0.9, 0.9, 0.9, 0.9], 3.0, [0.9, 0.9, 0.9]),
        ([9.0, 1.0, 1.0, 1.0], 4.0, [1.0, 1.0, 1.0]),  # the first one has used up the time to warm up
    ],
)
def test_calls_are_timed_once_they_no_longer_get_faster(calls, seconds, timed, monkeypatch):
    left = iter(calls)
    monkeypatch.setattr(step, "_timed", lambda take: next(left))
    assert step.time_steps(lambda: None, seconds, least=3) == timed


@pytest.mark.parametrize(("most", "numbers"), [(3, [1, 2, 3]), (5, [1, 2, 3, 4, 5]), (50, [1, 11, 21, 31, 41])])
def test_the_product_is_timed_among_the_steps(most, numbers, monkeypatch):
    calls, between = [], []
    monkeypatch.setattr(step, "_warm_up", lambda take, seconds: 1e-3)
    timed = step.time_steps(lambda: calls.append(0), 9.0, least=1, most=most, beside=lambda: between.append(len(calls)))
    assert (len(timed), between) == (most, numbers)


def test_the_products_rate_is_a_median(monkeypatch):
    taken = itertools.cycle([1.0, 2.0, 4.0])
    monkeypatch.setattr(step, "_timed", lambda take: next(taken))
    product = step.Product()
    product.measure()
    assert product.gflops() == pytest.approx(2 * np.prod(step.PRODUCT) / 2.0 / 1e9)
