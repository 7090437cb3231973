"""YAML text as a tree with origins: accepted and rejected text, and printing."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plsc.config.tree import ConfigError, ConfigMap, describe, dump, one_line, parse, to_plain, type_name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-3", 0.003),
        ("1e-8", 1e-8),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("7", 7),
        ("-0", 0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("no", "no"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("2024-01-02", "2024-01-02"),
        ("e3", "e3"),
        ("a=b=c", "a=b=c"),
        ("=", "="),
        ("'3e-3'", "3e-3"),
        ("'null'", "null"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    read = parse(text, "x.yaml")
    assert read == value
    assert type(read) is type(value)
    assert parse(one_line(value), "x.yaml") == value


def test_every_value_records_its_line():
    tree = parse("a: 1\nb:\n  - x\n  - {c: 2}\n", "x.yaml")
    assert str(tree.origins["a"]) == "x.yaml:1"
    assert str(tree["b"].origins[1]) == "x.yaml:4"
    assert str(tree["b"][1].origins["c"]) == "x.yaml:4"
    assert str(parse("{a: 1}", "-o b={a: 1}", inline=True).origins["a"]) == "-o b={a: 1}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system [ls]", "x.yaml:1: the tag .*python/object.* is not allowed"),
        ("a: !!binary aGk=", "the tag .*binary' is not allowed"),
        ("a: !!bool maybe", "'maybe' is not a valid bool"),
        ("a: !!int ''", "'' is not a valid int"),
        ("a: !!float x", "'x' is not a valid float"),
        ("b: &b {c: 1}\na:\n  <<: *b", "x.yaml:3: the merge key '<<' is not supported; use _base_"),
        ("? [a, b]\n: 1", "x.yaml:1: a key must be a name, not a list or mapping"),
        ("a: 1\nb:\n\tc: 1", "x.yaml:3: not valid YAML: a tab; indent YAML with spaces"),
        ("a: [1, 2", "x.yaml:1: not valid YAML"),
        ("a: *nowhere", "undefined alias.*put text that begins with a special character in quotes"),
        ("a: %x", "cannot start any token; put text that begins with a special character in quotes"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: \x07", r"x.yaml:1: not valid YAML: the character '\\x07' is not allowed"),
        ("[" * 80 + "]" * 80, "nested deeper than 64 levels"),
        ("[" * 5000 + "]" * 5000, "nested deeper than 64 levels"),
        ("a: &a [*a]", "nested deeper than 64 levels"),
        ("1" * 5000, "is not a valid int"),
    ],
)
def test_data_that_is_not_plain_is_rejected_with_its_line(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text, "x.yaml")


def test_aliases_are_limited():
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    with pytest.raises(ConfigError, match="more than 100000 values"):
        parse(f"a0: &a0 [1]\n{levels}", "x.yaml")


def test_an_alias_is_a_copy():
    tree = parse("a: &a {b: 1}\nc: *a", "x.yaml")
    tree["a"]["b"] = 2
    assert tree["c"] == {"b": 1}


def test_all_duplicate_keys_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        parse("a: 1\nb: {c: 1, c: 2}\na: 3\n", "x.yaml")
    assert caught.value.problems == [
        "x.yaml:2: duplicate key 'c'; it was first set at x.yaml:2",
        "x.yaml:3: duplicate key 'a'; it was first set at x.yaml:1",
    ]


def test_errors_of_an_override_name_no_line():
    with pytest.raises(ConfigError, match=r"^-o a=\[1: not valid YAML"):
        parse("[1", "-o a=[1", inline=True)


TRICKY = {
    "Global": {"output_dir": "a...b", "epochs": 1e-05, "resume": None, "on": "on", "1": "010"},
    "text": {"lines": "one\ntwo # no comment", "hash": "a # b", "colon": "a: b", "": "", "float": "3e-3", "é": "ü"},
    "lists": [[1, [2, 3]], [], {}, {"name": "X", "sizes": [1, 2]}, "x", "~", "- y", True],
    "a: b": {"#": 1},
}


def test_dump_and_description_read_back_to_the_same_tree():
    tree = parse(dump(TRICKY), "x.yaml")
    assert to_plain(tree) == TRICKY
    assert parse(describe(tree), "y.yaml") == tree


_text = st.text(st.characters(blacklist_categories=("Cs", "Cc"), whitelist_characters="\n"), max_size=12)
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _text
_trees = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(_text.filter(lambda key: key not in ("<<", "")), _trees, min_size=1, max_size=3))
def test_any_plain_data_survives_printing(data):
    tree = parse(dump(data), "x.yaml")
    assert to_plain(tree) == data
    assert parse(describe(tree), "x.yaml") == tree


def test_description_has_the_origin_of_each_value():
    tree = parse("a: 1\nb:\n- {name: X}\n", "x.yaml")
    tree.put("c", 2, parse("{c: 2}", "-o c=2", inline=True).origins["c"])
    assert describe(tree).splitlines() == [
        "a: 1         # x.yaml:1",
        "b:",
        "  -",
        "    name: X  # x.yaml:3",
        "c: 2         # -o c=2",
    ]


def test_keys_of_a_component_that_was_replaced_are_left_over():
    node = parse("{name: A, x: 1, y: 2}", "x.yaml")
    node.put("name", "B", node.origins["x"])
    node.put("y", 3, node.origins["y"])
    assert node.left_over == {"x": "A"}


@pytest.mark.parametrize(
    ("text", "words"),
    [("{a: 1}", "a mapping"), ("[1]", "a list"), ("x", "the text 'x'"), ("true", "true"), ("", "null")],
)
def test_type_names_are_those_of_yaml(text, words):
    assert type_name(parse(text, "x.yaml")) == words


def test_config_error_holds_every_problem():
    assert str(ConfigError(["one", "two"])) == "one\ntwo"
    assert ConfigError("one").problems == ["one"]
    assert ConfigMap() == {}
