"""Learning-rate and weight-decay schedules of the references, step by step."""

import json

import pytest

from plsc.optim import optimizers, schedules
from plsc.optim.param_groups import layer_scale
from tests.optim.toys import toy_task
from tests.parity import fixtures


def recorded():
    path = fixtures.GOLDEN_DIR / "schedules.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def cases(name, keep=lambda case: True):
    """The recorded cases of one schedule, or one skipped case that says why."""
    found = recorded().get(name, [])
    found = [case for case in (found if isinstance(found, list) else [found]) if keep(case)]
    reason = f"the golden folder has no such case of {name} in schedules.json"
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=reason))]


def warmup_cosine(args, rate, **options):
    steps = args["warmup_steps"] if args.get("warmup_steps", -1) > 0 else args["warmup_epochs"] * args["niter_per_ep"]
    return schedules.WarmupCosine(
        rate,
        warmup_epochs=steps / args["niter_per_ep"],
        epochs=args["epochs"],
        steps_per_epoch=args["niter_per_ep"],
        **options,
    )


@pytest.mark.parametrize("case", cases("pretrain_cosine_scheduler"))
def test_official_cosine(case):
    args = case["args"]
    schedule = warmup_cosine(args, args["base_value"], min_lr=args["final_value"])
    assert [schedule(step) for step in range(len(case["values"]))] == case["values"]


@pytest.mark.parametrize("case", cases("pretrain_cosine_scheduler", lambda case: not case["args"]["warmup_epochs"]))
def test_weight_decay_follows_the_cosine_without_warm_up(case):
    args, values = case["args"], case["values"]
    optimizer = optimizers.AdamW(toy_task(), args["base_value"], weight_decay_end=args["final_value"])
    for step, expected in enumerate(values):
        optimizer.set_progress(step / len(values))
        assert optimizer.groups[0].weight_decay == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("case", cases("finetune_per_group_lr"))
def test_fine_tuning_with_layer_decay(case):
    args = case["args"]
    schedule = warmup_cosine(args, args["lr"], min_lr=args["min_lr"])
    assert [schedule(step) for step in range(len(case["base_lr"]))] == case["base_lr"]
    depths = args["depth"] + 2
    assert [layer_scale(i, depths, args["layer_decay"]) for i in range(depths)] == case["layer_scales"]


@pytest.mark.parametrize("case", cases("linprobe"))
def test_linear_probe(case):
    args = case["args"]
    steps, accumulate = args["niter_per_ep"] // args["accum_iter"], args["accum_iter"]
    schedule = schedules.WarmupCosine(
        args["blr"],
        warmup_epochs=args["warmup_epochs"],
        min_lr=args["min_lr"],
        scale="per_256",
        warmup_both_ends=False,
        epochs=args["epochs"],
        steps_per_epoch=steps,
        global_batch_size=case["eff_batch_size"],
    )
    assert schedule.base == pytest.approx(case["absolute_lr"], rel=1e-15)
    per_step = case["values_per_data_iter"][::accumulate]
    assert [schedule(step) for step in range(len(per_step))] == pytest.approx(per_step, rel=1e-13)


def test_plsc_reaches_the_base_one_step_later():
    expected = recorded().get("plsc_pretrain_timm_cosine_for_first_setting")
    if expected is None:
        pytest.skip("the golden folder has no schedule of PLSC in schedules.json")
    args = recorded()["pretrain_cosine_scheduler"][0]["args"]
    schedule = warmup_cosine(args, args["base_value"], min_lr=args["final_value"], warmup_both_ends=False)
    assert [schedule(step) for step in range(len(expected))] == expected
