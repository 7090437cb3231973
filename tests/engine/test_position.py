"""Positions of runs that have changed, as numbers; tests/integration/test_changed_runs.py changes real ones."""

import dataclasses
import json

import pytest

from plsc.engine.position import Position, Resumed, compare, converted_state, saved_position

# 48 images in steps of 8: six steps an epoch, four epochs
RUN = Position(6, 24, False, 8, 1, 1, 0, True, 48, "d1", ["cat", "dog"], "e1", "top1", "max", False)


def changed(**values):
    return dataclasses.replace(RUN, **values)


def batch(size, **values):
    return changed(global_batch_size=size, steps_per_epoch=48 // size, total_steps=4 * (48 // size), **values)


def test_an_unchanged_run_continues_without_notes():
    for step in (1, 12, 24):
        assert compare(RUN, RUN, step) == Resumed(step, False, True, [])


def test_state_goes_through_json():
    state = {"position": json.loads(json.dumps(RUN.state_dict())), "classes": ["cat", "dog"], "seed": 0}
    assert saved_position(state, False) == RUN
    state["position"]["of a later version"] = 1
    assert saved_position(state, False) == RUN


@pytest.mark.parametrize(
    "size, step, expected",
    [(16, 12, 6), (4, 12, 24), (16, 14, 7), (4, 13, 26), (24, 15, 5), (16, 24, 12), (1, 7, 56), (48, 18, 3)],
)
def test_another_batch_size_converts_the_step(size, step, expected):
    found = compare(RUN, batch(size), step)
    assert (found.step, found.converted, found.best_holds) == (expected, True, True)
    assert found.step * size == step * 8
    (note,) = found.notes
    assert f"a step has {size} images instead of 8" in note
    assert f"step {step} of 24 becomes step {expected} of {4 * (48 // size)}" in note


def test_images_that_no_global_batch_takes_do_not_count():
    """50 images: 48 of an epoch in steps of 8, 45 in steps of 9."""
    saved, now = changed(samples=50), changed(samples=50, global_batch_size=9, steps_per_epoch=5, total_steps=20)
    assert compare(saved, now, 12).step == 10
    with pytest.raises(ValueError, match="the 16 images that epoch 2 has used are not a multiple of 9"):
        compare(saved, now, 8)


def test_last_batch_of_an_epoch_that_is_no_longer_left_out():
    saved, now = changed(samples=50), changed(samples=50, steps_per_epoch=7, total_steps=28)
    assert [compare(saved, now, step).step for step in (6, 7, 12)] == [7, 8, 14]


@pytest.mark.parametrize("size, step", [(16, 13), (24, 14), (5, 3)])
def test_another_batch_in_the_middle_of_the_images_is_refused(size, step):
    with pytest.raises(ValueError, match=rf"are not a multiple of {size}; set Global.global_batch_size to 8;"):
        compare(RUN, batch(size), step)


def test_length_in_steps_must_be_of_the_same_images():
    saved = changed(by_steps=True)
    kept = dataclasses.replace(batch(16), by_steps=True, total_steps=24)
    with pytest.raises(ValueError, match="gives 24 of them .24 before.*Global.steps: 12 is the same number"):
        compare(saved, kept, 12)
    assert compare(saved, dataclasses.replace(kept, total_steps=12), 12).step == 6
    with pytest.raises(ValueError, match="give the length as Global.epochs"):
        compare(saved, dataclasses.replace(kept, global_batch_size=48 * 7, steps_per_epoch=1), 12)


def test_another_division_of_the_same_batch_keeps_the_step():
    found = compare(RUN, changed(accumulate=2, processes=2), 13)
    assert (found.step, found.converted) == (13, False)
    assert found.notes == ["2 x 2 x 2 instead of 1 x 1 x 8: the global batch is 8 as before"]


def test_another_length_is_noted():
    found = compare(RUN, changed(total_steps=48), 13)
    assert found.step == 13 and "the run has 48 steps instead of 24" in found.notes[0]


@pytest.mark.parametrize(
    "values, text",
    [
        ({"samples": 96, "digest": "d2"}, "DataLoader.Train.dataset had 48 images and has 96"),
        ({"digest": "d2"}, "has 48 images as before, but not the same"),
        ({"classes": ["cat", "rat"], "digest": "d2"}, r"had 2 classes and has 2 \(removed: 'dog'; new: 'rat'\)"),
        ({"classes": ["dog", "cat"]}, r"in another order: 'cat is now dog', 'dog is now cat'\), so labels"),
        ({"classes": ["cat", "dog", "eel"]}, r"had 2 classes and has 3 \(new: 'eel'\)"),
    ],
)
@pytest.mark.parametrize("step", [12, 13])
def test_other_data_is_refused(values, text, step):
    with pytest.raises(ValueError, match=text):
        compare(RUN, changed(**values), step)


@pytest.mark.parametrize("values", [{"seed": 5}, {"shuffle": False}])
def test_another_order_of_images_only_between_epochs(values):
    found = compare(RUN, changed(**values), 12)
    assert found.step == 12 and "later epochs draw other random numbers" in found.notes[0]
    with pytest.raises(ValueError, match="the order of the images changes in the middle of epoch 3, so some"):
        compare(RUN, changed(**values), 13)


@pytest.mark.parametrize(
    "values, text",
    [
        ({"monitor": "loss", "monitor_mode": "min"}, "Global.monitor was top1 (max) and is loss (min)"),
        ({"monitor_mode": "min"}, "Global.monitor was top1 (max) and is top1 (min)"),
        ({"ema": True}, "other weights are evaluated"),
        ({"evaluated": "e2"}, "the images of DataLoader.Eval are not the same"),
    ],
)
def test_best_starts_again_if_its_metric_has_changed(values, text):
    found = compare(RUN, changed(**values), 13)
    assert (found.step, found.best_holds) == (13, False)
    assert found.notes[-1] == f"best starts again: {text}"


def test_an_average_that_is_added_or_removed_is_noted():
    assert "EMA.decay is new: the average starts at the weights" in compare(RUN, changed(ema=True), 13).notes[0]
    assert "EMA.decay was removed" in compare(changed(ema=True), RUN, 13).notes[0]


def test_everything_that_differs_is_listed_at_once():
    with pytest.raises(ValueError) as caught:
        compare(RUN, dataclasses.replace(batch(16), seed=3, samples=47, digest="d2"), 13)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    for line, text in zip(lines[1:], ("has 47", "Global.seed was 0 and is 3", "are not a multiple of 16")):
        assert text in line


def test_a_checkpoint_of_an_earlier_version_continues():
    saved = saved_position({"seed": 0, "classes": ["cat", "dog"]}, False)
    found = compare(saved, RUN, 13)
    assert (found.step, found.converted, found.best_holds) == (13, False, True)
    assert "the checkpoint is of an earlier version" in found.notes[0] and "step 13 of 24" in found.notes[0]
    with pytest.raises(ValueError, match="labels would change"):
        compare(saved, changed(classes=["cat", "eel"]), 13)
    with pytest.raises(ValueError, match="Global.seed was 0 and is 5"):
        compare(saved, changed(seed=5), 13)


def test_steps_left_out_still_count_but_do_not_come_again():
    state = {
        "step": 12,
        "nonfinite": {"left_out": [3, 9], "overflows": 1},
        "callbacks": {"due": ["Probe"], "processes": [{"metrics": {}, "states": {"ProgressLog": {"steps": 2}}}]},
    }
    same = compare(RUN, RUN, 12)
    assert converted_state(state, same) == state
    found = converted_state(state, compare(RUN, batch(16), 12))
    assert found["step"] == 6 and found["nonfinite"] == {"left_out": [-1, -2], "overflows": 1}
    assert found["callbacks"] == {"due": ["Probe"], "processes": [{"metrics": {}, "states": {}}]}
    assert state["nonfinite"]["left_out"] == [3, 9]
    with pytest.raises(ValueError, match="step 15 of the old count is still to be left out"):
        compare(RUN, batch(16), 12, later=[15])
