"""Invariants of masks, crops, schedules and collation for all accepted arguments."""

import math

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from plsc.data.fast_image import of_array
from plsc.data.pipeline import collate
from plsc.data.transforms import CenterCrop, RandomRegion, RandomResizedCrop, TwoSizeCrop
from plsc.masking import BlockMask, RandomMask
from plsc.optim.schedules import Constant, WarmupCosine, WarmupStep
from tests.fuzz.running import examples, fuzz

SEEDS = st.integers(0, 2**32)
GRIDS = st.one_of(st.integers(-1, 24), st.tuples(st.integers(-1, 24), st.integers(-1, 24)))
ASPECTS = st.one_of(st.none(), st.floats(1e-3, 1e3), st.floats())


def accepted(make, *arguments, **options):
    """Build an object, or skip refused arguments; any exception other than ValueError is a crash."""
    try:
        return make(*arguments, **options)
    except ValueError as error:
        assert str(error)
        return None


@examples(150, 10_000)
def test_a_mask_has_the_requested_number_of_patches(tally, count):
    def check(grid, num_masked, ratio, min_block, max_block, aspects, seed):
        made = [
            accepted(BlockMask, grid, num_masked, min_block, max_block, *aspects),
            accepted(RandomMask, grid, num_masked),
            accepted(RandomMask, grid, ratio=ratio),
        ]
        for masks in filter(None, made):
            mask = masks(np.random.default_rng(seed))
            assert mask.shape == masks.grid and mask.dtype == bool
            assert mask.sum() == masks.num_masked and 0 < masks.num_masked < mask.size
            np.testing.assert_array_equal(mask, masks(np.random.default_rng(seed)))

    numbers = st.integers(-1, 600)
    aspects = st.tuples(ASPECTS.filter(lambda aspect: aspect is not None), ASPECTS)
    blocks = (st.integers(-1, 40), st.one_of(st.none(), st.integers(-1, 60)), aspects)
    fuzz(count, tally, "masks", check, GRIDS, numbers, st.floats(), *blocks, SEEDS)


SIDES = st.one_of(st.integers(1, 40), st.integers(1, 5000))
PAIRS = st.one_of(st.tuples(st.floats(1e-4, 1), st.floats(1e-4, 1)).map(sorted), st.tuples(st.floats(), st.floats()))
RATIOS = st.one_of(st.tuples(st.floats(0.01, 9), st.floats(0.01, 99)).map(sorted), st.tuples(st.floats(), st.floats()))


@examples(200, 20_000)
def test_a_region_is_inside_the_image(tally, count):
    def check(width, height, scale, ratio, fit, seed):
        draw = accepted(RandomRegion, tuple(scale), tuple(ratio), fit)
        if draw is None:
            return
        left, top, wide, high = draw(width, height, np.random.default_rng(seed))
        assert 0 <= left < left + wide <= width and 0 <= top < top + high <= height

    fuzz(count, tally, "regions", check, SIDES, SIDES, PAIRS, RATIOS, st.sampled_from(["retry", "clamp"]), SEEDS)


@examples(40, 3000)
def test_a_crop_has_the_requested_size(tally, count):
    def check(sides, size, second, scale, ratio, seed):
        pixels = np.random.default_rng(seed).integers(0, 256, (*sides, 3), dtype=np.uint8)
        options = {"scale": tuple(scale), "ratio": tuple(ratio)}
        made = [
            accepted(RandomResizedCrop, size, **options), accepted(TwoSizeCrop, size, second, **options),
            CenterCrop(size),
        ]  # fmt: skip
        for transform in filter(None, made):
            for image in (Image.fromarray(pixels), of_array(pixels)):
                sample = transform({"image": image}, np.random.default_rng(seed))
                assert np.asarray(sample["image"]).shape == (*size, 3)
                if "target_image" in sample:
                    assert np.asarray(sample["target_image"]).shape == (*second, 3)

    small = st.tuples(st.integers(1, 48), st.integers(1, 48))
    fuzz(count, tally, "crops", check, small, small, small, PAIRS, RATIOS, SEEDS)


RATES = st.one_of(st.floats(0, 10), st.floats())


@examples(200, 20_000)
def test_a_schedule_is_finite_within_bounds_and_its_warm_up_rises(tally, count):
    def check(rates, warmup_epochs, both_ends, epochs, per_epoch, batch, milestones, gamma):
        rate, start, least = rates
        options = {"epochs": epochs, "steps_per_epoch": per_epoch, "global_batch_size": batch, "scale": "per_256"}
        options.update(warmup_epochs=warmup_epochs, warmup_start=start, warmup_both_ends=both_ends)
        made = [
            accepted(WarmupCosine, rate, min_lr=least, **options), accepted(Constant, rate, **options),
            accepted(WarmupStep, rate, milestones, gamma, **options),
        ]  # fmt: skip
        for schedule in filter(None, made):
            values = [schedule(step) for step in range(schedule.total_steps + 2)]
            low = min(0.0 if isinstance(schedule, WarmupStep) else schedule.base, start, schedule.base)
            ends = [low, schedule.base, start, *([least] if isinstance(schedule, WarmupCosine) else [])]
            slack = 1e-9 * max(ends)
            assert all(math.isfinite(value) and min(ends) - slack <= value <= max(ends) + slack for value in values)
            rising = values[: schedule.warmup_steps]
            steps = np.diff(rising) * (1 if start <= schedule.base else -1)
            assert (steps >= -slack).all()

    lengths = (st.one_of(st.floats(0, 5), st.floats()), st.booleans(), st.floats(0.1, 6), st.integers(1, 20))
    falls = (st.lists(st.floats(0, 9), max_size=4), st.one_of(st.floats(0, 1), st.floats()))
    fuzz(count, tally, "schedules", check, st.tuples(RATES, RATES, RATES), *lengths, st.integers(1, 4096), *falls)


@examples(100, 5000)
def test_collation_keeps_shapes_and_dtypes(tally, count):
    def check(number, entries, grid, hidden, seed):
        rng = np.random.default_rng(seed)
        hidden %= grid + 1
        samples = []
        for index in range(number):
            arrays = {name: (rng.integers(0, 2, shape)).astype(kind) for name, (shape, kind) in entries.items()}
            mask = np.zeros(grid, dtype=bool)
            mask[rng.permutation(grid)[:hidden]] = True
            samples.append({**arrays, "mask": mask, "path": "x", "index": np.int64(index)})
        batch = collate(samples)
        for name, (shape, kind) in entries.items():
            assert batch[name].shape == (number, *shape) and batch[name].dtype == kind
            for place, sample in enumerate(samples):
                np.testing.assert_array_equal(batch[name][place], sample[name])
        assert batch["masked_index"].shape == (number, hidden) and batch["masked_index"].dtype == np.int64
        both = np.sort(np.concatenate([batch["visible_index"], batch["masked_index"]], axis=1), axis=1)
        np.testing.assert_array_equal(both, np.tile(np.arange(grid), (number, 1)))
        assert "path" not in batch and batch["index"].tolist() == list(range(number))

    kinds = st.sampled_from(["uint8", "int64", "float32", "float64", "bool"])
    arrays = st.tuples(st.lists(st.integers(0, 4), max_size=3).map(tuple), kinds)
    names = st.text(min_size=1, max_size=4).filter(lambda name: name not in ("mask", "path", "index"))
    entries = st.dictionaries(names, arrays, max_size=4)
    fuzz(count, tally, "batches", check, st.integers(1, 6), entries, st.integers(1, 40), st.integers(0, 99), SEEDS)
