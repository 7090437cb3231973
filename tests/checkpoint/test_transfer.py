import numpy as np
import paddle
import pytest
from paddle import nn

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.torch_file import write_torch_file
from plsc.checkpoint.transfer import below, encoder_prefix, initialise
from plsc.config.settings import Init
from plsc.models import Classifier, LinearHead, ViT
from plsc.nn.pos_embed import resample_pos_embed, resample_relative_position_table, sincos_2d
from plsc.tasks.base import Task
from plsc.tasks.classification import Classification
from tests.checkpoint.test_weights import save
from tests.optim.toys import toy_task, values


class Tables(nn.Layer):
    """An encoder with the tables that belong to a grid."""

    def __init__(self, grid):
        super().__init__()
        self.grid_size = grid
        rows, columns = grid
        self.pos_embed = self.create_parameter([1, 1 + rows * columns, 4])
        self.relative_position_bias = nn.Layer()
        table = self.create_parameter([(2 * rows - 1) * (2 * columns - 1) + 3, 2])
        self.relative_position_bias.table = table


class Wrapper(nn.Layer):
    """A network whose encoder has another name."""

    def __init__(self, encoder):
        super().__init__()
        self.trunk = encoder
        self.encoder_twin = nn.Linear(1, 1)


class WrapperTask(Task):
    """A task that says where its encoder is."""

    @property
    def encoder(self):
        return self.model.trunk


def saved(tmp_path, task, prefix="model.encoder"):
    save(tmp_path / "checkpoints", task, encoder=prefix)
    return str(tmp_path)


def same(task, name, source, source_name="model.encoder.embed.weight"):
    np.testing.assert_array_equal(values(task)[name], values(source)[source_name])


def with_tables(seed, grid):
    paddle.seed(seed)
    return WrapperTask(Wrapper(Tables(grid)))


def test_the_encoder_goes_into_the_encoder(tmp_path):
    source, task = toy_task(1), toy_task(2)
    before = values(task)
    report = initialise(task, Init(saved(tmp_path, source)))
    for name, value in values(task).items():
        expected = values(source) if name.startswith("model.encoder.") else before
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    outside = [name for name in before if not name.startswith("model.encoder.")]
    assert report.loaded == [name for name in before if name.startswith("model.encoder.")]
    assert report.untouched == outside
    assert sorted(report.left) == sorted(outside)
    text = str(report)
    assert text.startswith(f"initialized from {tmp_path}: 8 tensors taken into model.encoder\n")
    assert "4 outside model.encoder, newly initialized: model.head.weight" in text
    assert "4 of the checkpoint not used: model." in text


def test_the_encoder_may_have_another_name_in_either(tmp_path):
    source = toy_task(1)
    task = WrapperTask(Wrapper(toy_task(2).encoder))
    assert encoder_prefix(task) == "model.trunk"
    initialise(task, Init(saved(tmp_path / "a", source)))
    same(task, "model.trunk.embed.weight", source)
    back = toy_task(3)
    initialise(back, Init(saved(tmp_path / "b", task, "model.trunk")))
    same(back, "model.encoder.embed.weight", source)


def test_everything(tmp_path):
    source, task = toy_task(1), toy_task(2)
    report = initialise(task, Init(saved(tmp_path, source), take=None))
    for name, value in values(task).items():
        np.testing.assert_array_equal(value, values(source)[name], err_msg=name)
    assert str(report) == f"initialized from {tmp_path}: 12 tensors taken"


def test_literal_parts(tmp_path):
    source, task = toy_task(1), toy_task(2)
    initialise(task, Init(saved(tmp_path, source), take="model.head", into="model.branch"))
    np.testing.assert_array_equal(values(task)["model.branch.weight"], values(source)["model.head.weight"])


@pytest.mark.parametrize(
    "key, init",
    [("take: .* has no tensors", {"take": "model.tail"}), ("into: the task has no tensors", {"into": "model.enc"})],
)
def test_a_part_that_is_not_there(tmp_path, key, init):
    with pytest.raises(CheckpointError, match=f"Init.{key} below 'model..*'; its names begin with model"):
        initialise(toy_task(2), Init(saved(tmp_path, toy_task(1)), **init))


def test_all_that_does_not_fit_is_listed_and_nothing_is_changed(tmp_path):
    source, task = toy_task(1), toy_task(2)
    source.encoder.old = nn.Linear(1, 1)
    task.encoder.new = nn.Linear(1, 1)
    task.encoder.embed.weight = task.create_parameter([2, 4])
    before = values(task)
    with pytest.raises(CheckpointError) as error:
        initialise(task, Init(saved(tmp_path, source)))
    text = str(error.value)
    assert f"model.encoder of {tmp_path} does not fit model.encoder" in text
    assert "model.encoder.new.weight [1, 1] is not in the checkpoint" in text
    assert "model.encoder.old.bias [1] of the checkpoint is not in the model" in text
    assert "model.encoder.embed.weight is [3, 4] in the checkpoint and [2, 4] in the model" in text
    assert "Init.allow_missing or Init.allow_unexpected" in text
    for name, value in values(task).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("prefix", ["", "model.encoder."])
def test_what_is_allowed_is_told(tmp_path, prefix):
    source, task = toy_task(1), toy_task(2)
    source.encoder.old = nn.Linear(1, 1)
    task.encoder.new = nn.Linear(1, 1)
    allowed = {"allow_missing": [f"{prefix}new.*"], "allow_unexpected": [f"{prefix}old.*"]}
    report = initialise(task, Init(saved(tmp_path, source), **allowed))
    assert report.new == ["model.encoder.new.weight", "model.encoder.new.bias"]
    assert report.left[:2] == ["model.encoder.old.bias", "model.encoder.old.weight"]
    assert "2 not in the checkpoint, newly initialized: model.encoder.new.weight" in str(report)


def test_another_shape_is_never_allowed(tmp_path):
    task = toy_task(2)
    task.encoder.embed.weight = task.create_parameter([2, 4])
    with pytest.raises(CheckpointError, match=r"embed.weight is \[3, 4\] in the checkpoint and \[2, 4\] in the model"):
        initialise(task, Init(saved(tmp_path, toy_task(1)), allow_missing=["*"], allow_unexpected=["*"]))


@pytest.mark.parametrize("grid", [(5, 5), (3, 6)])
def test_tables_are_resampled_to_the_grid(tmp_path, grid):
    source, task = with_tables(1, (4, 4)), with_tables(2, grid)
    report = initialise(task, Init(saved(tmp_path, source, "model.trunk")))
    taken, own = values(source), values(task)
    position, bias = "model.trunk.pos_embed", "model.trunk.relative_position_bias.table"
    np.testing.assert_array_equal(own[position], resample_pos_embed(taken[position], (4, 4), grid))
    np.testing.assert_array_equal(own[bias], resample_relative_position_table(taken[bias], (4, 4), grid))
    assert sorted(report.resampled) == [position, bias]
    assert f"2 of them resampled to another grid: {position}" in str(report)


def test_tables_of_another_width_or_of_no_square_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"pos_embed is \[1, 13, 4\] .* and \[1, 17, 4\] in the model"):
        initialise(with_tables(2, (4, 4)), Init(saved(tmp_path, with_tables(1, (3, 4)), "model.trunk")))


TWICE = [(4, 4), (2, 8), (8, 2)]


@pytest.mark.parametrize("grid", TWICE)
@pytest.mark.parametrize("wanted", TWICE)
def test_tables_of_our_own_checkpoints_are_taken_on_their_grid(tmp_path, grid, wanted):
    source, task = with_tables(1, grid), with_tables(2, wanted)
    save(tmp_path / "checkpoints", source, encoder="model.trunk", grid=list(grid))
    report = initialise(task, Init(str(tmp_path), take="model.trunk"))
    position, bias = "model.trunk.pos_embed", "model.trunk.relative_position_bias.table"
    expected = resample_pos_embed(values(source)[position], grid, wanted)
    np.testing.assert_array_equal(values(task)[position], expected)
    expected = resample_relative_position_table(values(source)[bias], grid, wanted)
    np.testing.assert_array_equal(values(task)[bias], expected)
    assert sorted(report.resampled) == ([] if grid == wanted else [position, bias])
    assert not report.notes


def test_the_grid_of_a_run_of_before_is_that_of_its_config(tmp_path):
    source, task = with_tables(1, (2, 8)), with_tables(2, (4, 4))
    arrays = {"model": dict(values(source))}
    config = "Model: {encoder: {name: ViT, image_size: [32, 128], patch_size: 16}}\n"
    checkpoint_files.write(tmp_path / "checkpoints", 1, arrays, {"encoder": "model.trunk"}, config)
    initialise(task, Init(str(tmp_path)))
    position = "model.trunk.pos_embed"
    expected = resample_pos_embed(values(source)[position], (2, 8), (4, 4))
    np.testing.assert_array_equal(values(task)[position], expected)


def positions(grid, wanted, tmp_path, given=None):
    """A position table of a file without its grid, for a model with another grid."""
    source, task = with_tables(1, grid), with_tables(2, wanted)
    source.model.trunk.relative_position_bias = task.model.trunk.relative_position_bias = None
    save(tmp_path / "checkpoints", source, encoder="model.trunk")
    report = initialise(task, Init(str(tmp_path), grid=given))
    return report, values(source)["model.trunk.pos_embed"], values(task)["model.trunk.pos_embed"]


@pytest.mark.parametrize("grid", [(4, 4), (2, 8), (8, 2)])
def test_a_grid_that_may_be_another_is_refused_or_given(tmp_path, grid):
    with pytest.raises(CheckpointError, match=r"pos_embed is \[1, 17, 4\], which fits both a grid of 4 x 4"):
        positions(grid, (2, 8), tmp_path / "a")
    with pytest.raises(CheckpointError, match="in the checkpoint .*, which does not fit a square grid.* Init.grid"):
        positions((3, 4), (2, 8), tmp_path / "b")
    report, stored, taken = positions(grid, (2, 8), tmp_path / "c", list(grid))
    np.testing.assert_array_equal(taken, resample_pos_embed(stored, grid, (2, 8)))
    assert not report.notes


@pytest.mark.parametrize("wanted", [(4, 4), (3, 5), (3, 3)])
def test_an_assumed_grid_is_said(tmp_path, wanted):
    report, stored, taken = positions((4, 4), wanted, tmp_path)
    np.testing.assert_array_equal(taken, resample_pos_embed(stored, (4, 4), wanted))
    assert "the file does not store its grid of positions; 4 x 4 was assumed" in str(report)


def vit_task(**options):
    encoder = ViT(image_size=(8, 32), patch_size=4, embed_dim=8, depth=1, num_heads=2, **options)
    return Classification(Classifier(encoder, LinearHead(8, 3)), None)


def vit_file(tmp_path, table):
    write_torch_file(tmp_path / "vit.pth", {
        **{name.replace("encoder.", ""): v for name, v in convert_names(vit_task(pos_embed="none")).items()},
        "pos_embed": table,
    })  # fmt: skip
    return str(tmp_path / "vit.pth")


def convert_names(task):
    """The arrays of a task's encoder as PLSC's names have them, but (out, in)."""
    arrays = {name[6:]: value for name, value in values(task).items() if name.startswith("model.encoder.")}
    return {name: value.T if value.ndim == 2 else value for name, value in arrays.items()}


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_fixed_table_in_another_order_than_the_model_computes(tmp_path, official, dtype):
    path = vit_file(tmp_path, sincos_2d((2, 8), 8, official_order=official).astype(dtype))
    initialise(vit_task(pos_embed="sincos_official" if official else "sincos"), Init(path))
    with pytest.raises(CheckpointError, match="another order; set Model.encoder.pos_embed to the other"):
        initialise(vit_task(pos_embed="sincos" if official else "sincos_official"), Init(path))
    assert "the model has pos_embed: none" in str(initialise(vit_task(pos_embed="none"), Init(path)))


def test_learned_positions_begin_with_a_fixed_table(tmp_path):
    table = sincos_2d((2, 8), 8)
    task = vit_task(pos_embed="learned")
    initialise(task, Init(vit_file(tmp_path, table), grid=[2, 8]))
    np.testing.assert_array_equal(task.encoder.pos_embed.numpy(), table)


def test_nothing_taken_is_an_error(tmp_path):
    allowed = {"allow_missing": ["*"], "allow_unexpected": ["*"]}
    with pytest.raises(CheckpointError, match="nothing of .* was taken: none of its names below 'model.head'"):
        initialise(toy_task(2), Init(saved(tmp_path, toy_task(1)), take="model.head", into="model.encoder", **allowed))


def test_weights_are_taken_in_the_dtype_of_the_model(tmp_path):
    source, task = toy_task(1), toy_task(2)
    task.to(dtype="float64")
    initialise(task, Init(saved(tmp_path, source)))
    assert task.encoder.embed.weight.dtype == paddle.float64
    same(task, "model.encoder.embed.weight", source)


def test_an_encoder_outside_the_task():
    class Strange(Task):
        encoder = nn.Linear(1, 1)

    with pytest.raises(ValueError, match="Strange.encoder is not a sub-layer of the task"):
        encoder_prefix(Strange(nn.Linear(1, 1)))


def test_below():
    names = {"model.encoder.a": 1, "model.encoder_twin.b": 2, "model.head.c": 3}
    assert below(names, "model.encoder") == {"a": 1}
    assert below(names, "") == names
