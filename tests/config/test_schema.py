"""The check of a whole config: every problem, its place, and what to write instead."""

from dataclasses import dataclass, field
from typing import Optional

import pytest

from plsc.config import registry, schema
from plsc.config.files import load
from plsc.config.schema import check, read_settings
from plsc.config.tree import ConfigError
from tests.components import CONFIG, register_toys


@pytest.fixture
def problems(tmp_path, monkeypatch):
    """What `check` says of CONFIG with text added below it and overrides applied."""
    register_toys(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(CONFIG, encoding="utf-8")

    def collect(*overrides, layer=""):
        (tmp_path / "top.yaml").write_text(f"_base_: toy.yaml\n{layer}", encoding="utf-8")
        try:
            check(load("top.yaml", overrides))
        except ConfigError as error:
            return error.problems
        return []

    return collect


def test_a_good_config_passes(problems):
    assert problems() == []


@pytest.mark.parametrize(
    "override",
    [
        "Model.encoder.size=[16,32]",
        "Model.heads=[{name: Inner}, {name: Inner, depth: 3}]",
        "Model.parts={a: {name: Inner}, b: 3}",
        "Model.scale=null",
        "Model.kind=b",
        "Optimizer.betas=[0.9,0.95]",
        "Loss={name: Squares, weight: 2, anything: 3}",
        "EMA=null",
        "Metric=null",
        "DataLoader.Eval=null",
        "DataLoader.Train.transforms=null",
        "imports=[os]",
        "Global.epochs=1.5",
    ],
)
def test_what_is_allowed(problems, override):
    assert problems(override) == []


def test_every_problem_at_once_with_place_and_suggestion(problems):
    layer = "Global: {sed: 1}\nEMMA: {decay: 0.9}\n"
    found = problems("Optimizer.weigth_decay=0.1", "Model.encoder.detph=3", layer=layer)
    assert found == [
        "top.yaml:2: Global.sed: Global has no key 'sed'; did you mean 'seed'?",
        "-o Model.encoder.detph=3: Model.encoder.detph: Inner has no argument 'detph'; did you mean 'depth'?",
        "-o Optimizer.weigth_decay=0.1: Optimizer.weigth_decay: AdamW has no argument 'weigth_decay'; "
        "did you mean 'weight_decay'?",
        "top.yaml:3: EMMA: there is no section 'EMMA'; did you mean 'EMA'?",
    ]


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        # another section's key
        ("pretrained_model=x", "did you mean Init.checkpoint?"),
        ("checkpoint=x", "did you mean Init.checkpoint?"),
        ("lr=0.1", "did you mean LRScheduler.learning_rate?"),
        ("Optimizer.lr=0.1", "did you mean LRScheduler.learning_rate?"),
        ("Optimizer.learning_rate=0.1", "did you mean LRScheduler.learning_rate?"),
        ("learning_rate=0.1", "did you mean LRScheduler.learning_rate?"),
        ("weight_decay=0.1", "did you mean Optimizer.weight_decay?"),
        ("weigth_decay=0.1", "did you mean Optimizer.weight_decay?"),
        ("batch_size=8", "did you mean DataLoader.Train.loader.batch_size?"),
        ("Global.batch_size=8", "did you mean DataLoader.Train.loader.batch_size?"),
        ("epochs=3", "did you mean Global.epochs?"),
        ("Global.lr=1", "did you mean LRScheduler.learning_rate?"),
        # the same section, deeper
        ("Model.depth=3", "did you mean Model.encoder.depth?"),
        ("depth=3", "did you mean Model.encoder.depth?"),
        ("p=0.1", "did you mean DataLoader.Train.transforms.0.p?"),
        # spelling and case
        ("optimizer.weight_decay=1", "there is no section 'optimizer'; did you mean 'Optimizer'?"),
        ("amp.level=O1", "did you mean 'AMP'?"),
        ("DataLoader.train.loader.batch_size=1", "there is no part 'train'; did you mean 'Train'?"),
        ("DataLoader.Train.transform=[]", "did you mean 'transforms'?"),
        ("Init.chekpoint=x", "Init has no key 'chekpoint'; did you mean 'checkpoint'?"),
        # nothing like it
        ("Model.zzz=1", "Outer has no argument 'zzz'; valid here: encoder, width, heads, parts, kind, scale"),
    ],
)
def test_unknown_keys_say_what_was_meant(problems, override, meant):
    (problem,) = problems(override)
    assert problem.startswith(f"-o {override}: ")
    assert meant in problem


def test_dotted_keys_in_a_file(problems):
    (problem,) = problems(layer="Optimizer.weight_decay: 0.1\n")
    assert "top.yaml:2: Optimizer.weight_decay: there is no section" in problem
    assert "in a file keys are nested, `a: {b: value}`; dots are for -o" in problem


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Model.encoder.depth=2.5", "Model.encoder.depth: expected a whole number, got 2.5"),
        ("Model.encoder.depth=null", "Model.encoder.depth: expected a whole number, got null"),
        ("Model.encoder.depth={name: Inner}", "expected a whole number, got the component 'Inner'"),
        ("Model.encoder=Inner", "Model.encoder: expected a component, {name: ...} (Inner), got the text 'Inner'"),
        ("Model.encoder=null", "Model.encoder: expected a component, {name: ...} (Inner), got null"),
        ("Model.kind=c", "Model.kind: expected one of a, b, got the text 'c'"),
        ("Model.heads={name: Inner}", "Model.heads: expected a list, each a component"),
        ("Model.heads=[{name: Inner}, x]", "Model.heads.1: expected a component, {name: ...} (Inner), got"),
        ("Model.heads=[{name: Inner, dept: 1}]", "Model.heads.0.dept: Inner has no argument 'dept'"),
        ("Model.parts={a: {name: Iner}}", "Model.parts.a.name: no model is called 'Iner'; did you mean 'Inner'?"),
        ("Model.width=[{name: Inner}]", "Model.width: expected a whole number, got a list"),
        ("Optimizer=AdamW", "expected {name: ...} of an optimizer, got the text 'AdamW'; write {name: AdamW}"),
        ("Optimizer={_delete_: true, momentum: 1}", "got a mapping with the keys momentum"),
        ("DataLoader.Train.transforms=[Flip]", "DataLoader.Train.transforms.0: expected {name: ...} of a transform"),
        ("DataLoader.Train.transforms={name: Flip}", "expected a list, each {name: ...} of a transform, got a mapping"),
        ("DataLoader.Train.transforms+=", "transforms.1: expected {name: ...} of a transform, got null"),
        ("DataLoader.Train=images", "expected a mapping with the keys dataset, transforms, batch_transforms, loader"),
        ("AMP=O1", "AMP: expected a mapping with the keys level, dtype, init_loss_scaling, growth_steps, got the text"),
        ("AMP.level=o1", "AMP.level: expected one of O0, O1, O2, got the text 'o1'"),
        ("Global.output_dir=2024", 'Global.output_dir: expected text, got 2024; write it in quotes: "2024"'),
        ("Init={allow_missing: head.*}", "expected a list, each text, got the text 'head.*'; write [head.*]"),
        ("imports=os", "imports: expected a list, each text, got the text 'os'; write [os]"),
        ("Optimizer.model=3", "Optimizer.model: AdamW gets 'model' from the engine; remove it from the config"),
        ("LRScheduler.epochs=3", "LRScheduler.epochs: Constant gets 'epochs' from the engine"),
        ("~Model.width", "Model.width: Outer needs the argument 'width'"),
        ("~DataLoader.Train.loader.batch_size", "DataLoader.Train.loader needs the key 'batch_size'"),
    ],
)
def test_wrong_values(problems, override, message):
    (problem,) = problems(override)
    assert message in problem


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Model.name=Otter", "no model is called 'Otter'; did you mean 'Outer'? there is: Inner, Outer"),
        ("Task.name=Inner", "no task is called 'Inner'; it is a model; there is: Alone, Masked, Toy"),
        ("Task.name=Zzzzzz", "components of your own are made known by `imports: [module]`"),
        ("Callbacks+={name: X}", "no callback is called 'X'; there is: none"),
        ("Task.name=3", "no task is called 3"),
        ("Task.name=[Toy]", "no task is called ['Toy']; did you mean 'Toy'?"),
        ("Model.name={name: Inner}", "no model is called {'name': 'Inner'}; "),
    ],
)
def test_unknown_components(problems, override, message):
    (problem,) = problems(override)
    assert message in problem


def test_children_of_an_unknown_component_are_still_checked(problems):
    first, second = problems("Model.name=Otter", "Model.encoder.detph=3")
    assert "no model is called 'Otter'" in first
    assert "Inner has no argument 'detph'; did you mean 'depth'?" in second


def test_arguments_left_over_from_another_component_say_how_to_drop_them(problems):
    (problem,) = problems("Optimizer.name=SGD")
    assert problem == (
        "toy.yaml:12: Optimizer: SGD has no argument 'betas', written for AdamW before -o Optimizer.name=SGD chose "
        "SGD; drop it with -o '~Optimizer.betas', or everything written for AdamW with `_delete_: true` beside the "
        "name: Optimizer: {_delete_: true, name: SGD}"
    )
    assert problems("Optimizer.name=SGD", "~Optimizer.betas") == []
    assert problems("Optimizer={_delete_: true, name: SGD}") == []
    assert problems(layer="Optimizer: {_delete_: true, name: SGD}") == []


def test_left_over_arguments_are_one_problem_and_typos_are_another(problems):
    left, typo = problems(
        "Optimizer.eps=1", "Optimizer.name=SGD", "Optimizer.momentun=0.9", layer="Optimizer: {weight_decay: 0}"
    )
    assert "SGD has no argument 'betas', 'eps', written for AdamW" in left
    assert "-o '~Optimizer.betas' '~Optimizer.eps'" in left
    assert "SGD has no argument 'momentun'; did you mean 'momentum'?" in typo


def test_a_layer_may_name_the_component_after_its_arguments(problems):
    layer = "Optimizer: {momentun: 0.5, name: SGD%s}"
    left, typo = problems(layer=layer % "")
    assert "'betas', written for AdamW before top.yaml:2 chose SGD" in left
    assert typo.endswith("SGD has no argument 'momentun'; did you mean 'momentum'?")
    assert problems(layer=layer % ", _delete_: true") == [typo]


@pytest.mark.parametrize("section", ["Global", "Task", "Optimizer", "LRScheduler", "DataLoader.Train.dataset"])
def test_sections_that_every_run_needs(problems, section):
    for override in (f"~{section}", f"{section}=null"):
        (problem,) = problems(override)
        assert f"top.yaml:1: {section}: required, but missing" in problem


def test_an_evaluation_needs_its_dataset_and_loader(problems):
    first, second = problems("DataLoader.Eval={transforms: []}")
    assert "DataLoader.Eval.dataset: required for evaluation, but missing" in first
    assert "DataLoader.Eval.loader" in second


def test_a_task_says_which_sections_it_takes(problems):
    assert problems("~Model") == ["toy.yaml:2: Model: the task Toy needs this section"]
    model, loss = problems("Task.name=Alone")
    assert model == "toy.yaml:3: Model: the task Alone takes no model; remove the section or set it to null"
    assert loss == "-o Task.name=Alone: Loss: the task Alone needs this section"
    assert problems("Task.name=Alone", "Model=null", "Loss={name: Squares}") == []
    (masks,) = problems("Task.name=Masked")
    assert masks == "-o Task.name=Masked: MaskGenerator: the task Masked needs this section, for masked_index"
    assert problems("Task.name=Masked", "MaskGenerator={name: Half}") == []
    (problem,) = problems("Task.model=3")
    assert "Toy gets 'model' from the engine" in problem


def test_settings_out_of_range_and_settings_that_contradict_each_other(problems, monkeypatch):
    @dataclass
    class Limits:
        low: int = field(default=1, metadata={"at_least": 1})
        high: Optional[float] = field(default=None, metadata={"at_least": 0})

        def __post_init__(self):
            if self.high is not None and self.high < self.low:
                raise ValueError("high is below low")

    monkeypatch.setitem(schema.SECTIONS, "EMA", Limits)
    assert problems("EMA={low: 2, high: 3}") == problems("EMA.high=null") == []
    assert problems("EMA.low=0", "EMA.high=-1") == [
        "-o EMA.low=0: EMA.low: must be at least 1, got 0",
        "-o EMA.high=-1: EMA.high: must be at least 0, got -1",
    ]
    assert problems("EMA={low: 2, high: 1}") == ["-o EMA={low: 2, high: 1}: EMA: high is below low"]


def test_settings_are_read_with_their_defaults(problems, tmp_path):
    config = load(tmp_path / "toy.yaml", ["AMP.level=O1"])
    assert read_settings(config, "AMP").level == "O1"
    assert read_settings(config, "AMP").dtype == "auto"
    assert read_settings(config, "DataLoader.Train.loader").batch_size == 4
    assert read_settings(config, "EMA").decay is None


def test_what_passes_can_be_built(problems, tmp_path):
    config = load(tmp_path / "toy.yaml", ["Model.heads=[{name: Inner}]"])
    check(config)
    assert type(registry.MODELS.build(config["Model"])).__name__ == "Outer"
