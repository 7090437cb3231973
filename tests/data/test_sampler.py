import numpy as np
import pytest

from plsc.data.sampler import EpochBatchSampler


def indices(sampler):
    return [[index for _, index in batch] for batch in sampler]


def by_step(num_samples, batch_size, accumulate, world_size, **options):
    """Samples of all processes and micro-batches of each optimizer step, in the documented order."""
    samplers = [
        EpochBatchSampler(num_samples, batch_size, accumulate, rank, world_size, **options)
        for rank in range(world_size)
    ]
    per_rank = [indices(sampler) for sampler in samplers]
    micro = [batch for together in zip(*per_rank) for batch in together]
    size = accumulate * world_size
    return [sum(micro[step * size : (step + 1) * size], []) for step in range(len(micro) // size)]


def test_an_epoch_is_a_permutation_of_seed_and_epoch():
    sampler = EpochBatchSampler(12, 4, seed=3)
    first = sum(indices(sampler), [])
    assert sorted(first) == list(range(12))
    assert first == sum(indices(sampler), [])
    sampler.set_position(1, 0)
    second = sum(indices(sampler), [])
    assert sorted(second) == list(range(12))
    assert second != first
    assert sum(indices(EpochBatchSampler(12, 4, seed=4)), []) != first


def test_positions_carry_the_epoch():
    sampler = EpochBatchSampler(4, 2)
    sampler.set_position(7, 1)
    assert [[epoch for epoch, _ in batch] for batch in sampler] == [[7, 7]]
    assert all(type(value) is int for batch in sampler for position in batch for value in position)


def test_without_shuffling():
    assert indices(EpochBatchSampler(7, 3, shuffle=False)) == [[0, 1, 2], [3, 4, 5]]
    assert indices(EpochBatchSampler(7, 3, shuffle=False, drop_last=False)) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "world_size"), [(8, 1, 1), (4, 2, 1), (4, 1, 2), (2, 2, 2), (1, 4, 2)]
)
def test_global_batches_do_not_depend_on_their_division(batch_size, accumulate, world_size):
    order = EpochBatchSampler(50, 8).order(0)
    expected = [order[step * 8 : (step + 1) * 8].tolist() for step in range(6)]
    assert by_step(50, batch_size, accumulate, world_size) == expected


@pytest.mark.parametrize("accumulate", [1, 2])
def test_continues_in_the_middle_of_an_epoch(accumulate):
    sampler = EpochBatchSampler(40, 2, accumulate)
    sampler.set_position(5, 0)
    whole = indices(sampler)
    sampler.set_position(5, 3)
    assert indices(sampler) == whole[3 * accumulate :]
    sampler.set_position(5, sampler.steps_per_epoch)
    assert indices(sampler) == []


@pytest.mark.parametrize("num_samples", [1, 5, 8, 13, 17])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_takes_every_sample_once(num_samples, world_size):
    samplers = [
        EpochBatchSampler(num_samples, 4, rank=rank, world_size=world_size, shuffle=False, drop_last=False)
        for rank in range(world_size)
    ]
    batches = [indices(sampler) for sampler in samplers]
    assert sorted(index for rank in batches for batch in rank for index in batch) == list(range(num_samples))
    for sampler, mine in zip(samplers, batches):
        assert len(sampler) == len(mine)
        assert all(0 < len(batch) <= 4 for batch in mine)
    assert np.ptp([len(mine) for mine in batches]) <= 1


def test_steps_and_lengths():
    sampler = EpochBatchSampler(50, 4, accumulate=2, rank=1, world_size=2)
    assert sampler.global_batch_size == 16
    assert sampler.steps_per_epoch == 3
    assert len(sampler) == len(list(sampler)) == 6
    assert EpochBatchSampler(50, 16, drop_last=False).steps_per_epoch == 4


def test_too_few_samples():
    with pytest.raises(
        ValueError, match="5 samples, fewer than one global batch of 8 .2 per micro-batch x 2 accumulated x 2 processes"
    ):
        EpochBatchSampler(5, 2, 2, world_size=2)
    with pytest.raises(ValueError, match="the dataset is empty"):
        EpochBatchSampler(0, 2, drop_last=False)


@pytest.mark.parametrize("options", [{"accumulate": 2}, {"world_size": 2}, {"accumulate": 2, "shuffle": False}])
def test_unequal_micro_batches_in_training(options):
    with pytest.raises(ValueError, match="drop_last: false would give the last step of an epoch unequal"):
        EpochBatchSampler(10, 2, drop_last=False, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"rank": 2, "world_size": 2}, r"rank must be in \[0, 2\), got 2"),
        ({"seed": -1}, "seed must not be negative, got -1"),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        EpochBatchSampler(10, **{"batch_size": 2, **options})
