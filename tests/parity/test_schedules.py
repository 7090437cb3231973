"""Learning-rate and weight-decay schedules of the references, step by step."""

import pytest

from plsc.nn.drop_path import drop_path_ramp
from plsc.optim import optimizers, schedules
from plsc.optim.param_groups import layer_scale
from tests.optim.toys import toy_task
from tests.parity import fixtures

FILE = "schedules.json"


def cases(name, keep=lambda case: True):
    """The recorded cases of one schedule in every set."""

    def select(content):
        found = content.get(name, [])
        found = found if isinstance(found, list) else [found]
        return ((f"{i}", case) for i, case in enumerate(found) if keep(case))

    return fixtures.recorded(FILE, select)


def close(values):
    return pytest.approx(list(values), rel=1e-12, abs=1e-18)


def warmup_cosine(args, rate, **options):
    steps = args["warmup_steps"] if args.get("warmup_steps", -1) > 0 else args["warmup_epochs"] * args["niter_per_ep"]
    return schedules.WarmupCosine(
        rate,
        warmup_epochs=steps / args["niter_per_ep"],
        warmup_start=args.get("start_warmup_value", 0.0),
        epochs=args["epochs"],
        steps_per_epoch=args["niter_per_ep"],
        **options,
    )


@pytest.mark.parametrize("case", cases("pretrain_cosine_scheduler"))
def test_official_cosine(case):
    args = case["args"]
    schedule = warmup_cosine(args, args["base_value"], min_lr=args["final_value"])
    assert [schedule(step) for step in range(len(case["values"]))] == close(case["values"])


@pytest.mark.parametrize("case", cases("pretrain_cosine_scheduler", lambda case: not case["args"]["warmup_epochs"]))
def test_weight_decay_follows_the_cosine_without_warm_up(case):
    args, values = case["args"], case["values"]
    optimizer = optimizers.AdamW(toy_task(), args["base_value"], weight_decay_end=args["final_value"])
    for step, expected in enumerate(values):
        optimizer.set_progress(step / len(values))
        assert [group.weight_decay for group in optimizer.groups if group.decayed] == close([expected])


@pytest.mark.parametrize("case", cases("finetune_per_group_lr"))
def test_fine_tuning_with_layer_decay(case):
    args = case["args"]
    schedule = warmup_cosine(args, args["lr"], min_lr=args["min_lr"])
    assert [schedule(step) for step in range(len(case["base_lr"]))] == close(case["base_lr"])
    depths = args["depth"] + 2
    assert [layer_scale(i, depths, args["layer_decay"]) for i in range(depths)] == close(case["layer_scales"])


@pytest.mark.parametrize("case", cases("linprobe"))
def test_linear_probe(case):
    """The learning rate of a micro-batch follows the position of the last update in the epoch."""
    args = case["args"]
    count, accumulate = args["niter_per_ep"], args["accum_iter"]
    steps = max(count // accumulate, 1)  # optimizer steps of an epoch; what is left over is dropped
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
    for position, expected in enumerate(case["values_per_data_iter"]):
        epoch, micro_batch = divmod(position, count)
        progress = epoch + (micro_batch - micro_batch % accumulate) / count
        assert schedule(progress * steps) == pytest.approx(expected, rel=1e-12, abs=1e-18), position


@pytest.mark.parametrize("case", cases("drop_path_rates"))
def test_drop_path_rates(case):
    ours = list(drop_path_ramp(case["drop_path_rate"], case["depth"]))
    assert ours == pytest.approx(case["rates"], rel=1e-6)  # the reference's are float32


def plsc_case(content):
    values = content.get("plsc_pretrain_timm_cosine_for_first_setting")
    if values is not None:
        yield "plsc", {"args": content["pretrain_cosine_scheduler"][0]["args"], "values": values}


@pytest.mark.parametrize("case", fixtures.recorded(FILE, plsc_case))
def test_plsc_reaches_the_base_one_step_later(case):
    args, expected = case["args"], case["values"]
    schedule = warmup_cosine(args, args["base_value"], min_lr=args["final_value"], warmup_both_ends=False)
    assert [schedule(step) for step in range(len(expected))] == close(expected)
