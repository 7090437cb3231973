import pytest

from plsc.config.tree import ConfigError
from plsc.sweep.grid import combinations, named, run_name, table


def test_a_grid():
    fixed, tried = combinations(["a.x=1,2", "seed=3", "b={c: 1, d: 2}", "~e", "f+=[1, 2]", "b.y='p,q',[1, 2]"])
    assert fixed == ["seed=3", "b={c: 1, d: 2}", "~e", "f+=[1, 2]"]
    assert tried == [{"a.x": x, "b.y": y} for x in ("1", "2") for y in ("'p,q'", "[1, 2]")]


def test_random_draws_are_different_and_repeatable():
    overrides = ["a=log:1e-4:1e-2", "b=uniform:0:1", "c=1,2"]
    _, tried = combinations(overrides, draws=20, seed=1)
    assert len(tried) == 20 and combinations(overrides, 20, 1)[1] == tried != combinations(overrides, 20, 2)[1]
    assert all(1e-4 <= float(one["a"]) <= 1e-2 and 0 <= float(one["b"]) <= 1 for one in tried)
    assert sum(float(one["a"]) < 1e-3 for one in tried) > 5  # even in the logarithm
    assert len(combinations(["c=1,2,3"], draws=10)[1]) == 3


def test_names_of_folders():
    assert run_name({"Optimizer.lr": "1e-3", "Model.scale": "[0.1, 1]/x"}) == "lr=1e-3,scale=_0.1,_1_x"
    assert run_name({"a.x": "1", "b.x": "2"}) == "a.x=1,b.x=2"
    assert list(named([{"p": "a/b"}, {"p": "a_b"}, {"p": "c"}])) == ["p=a_b", "p=a_b-2", "p=c"]
    assert len(list(named([{"p": "x" * 300}]))[0]) <= 120


def test_a_table_with_a_run_without_result():
    text = table([({"a.x": "1"}, {"best": 91.234, "epoch": 3}), ({"a.x": "22"}, {})], "top1")
    assert text.splitlines() == [" x   top1  at epoch", "-" * 19, " 1  91.23         3", "22      -         -"]


@pytest.mark.parametrize(
    ("overrides", "draws", "message"),
    [
        (["a=1"], None, "no key has several values"),
        (["a=1,1"], None, "-o a=1,1: the values must be different and not empty"),
        (["a=1,,2"], None, "the values must be different and not empty"),
        (["a=log:1:2"], None, "a: a grid cannot contain a range; list the values, or set --random N"),
        (["a=log:0:2"], 3, "-o a=log:0:2: log takes two numbers, the lower first, above 0"),
        (["a=uniform:2:1"], 3, "uniform takes two numbers, the lower first"),
        (["a=uniform:x:1"], 3, "uniform takes two numbers, the lower first"),
    ],
)
def test_mistakes(overrides, draws, message):
    with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
        combinations(overrides, draws)
