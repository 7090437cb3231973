"""Comparison of YAML values with type annotations."""

import sys
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Literal, Optional, Sequence, Tuple, TypeVar, Union

import pytest

from plsc.config.annotations import annotations_of, item_annotation, mismatch, takes_component


class Network:
    pass


T = TypeVar("T")


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (3, int),
        (3, float),
        (1e-3, float),
        ("x", str),
        (True, bool),
        (None, Optional[int]),
        (3, Optional[float]),
        ("a", Literal["a", "b"]),
        (2, Literal[1, 2]),
        ([1, 2], Tuple[int, int]),
        ([1, 2, 3], Tuple[int, ...]),
        ([], Tuple[int, ...]),
        ([1, "x"], tuple),
        (["a"], List[str]),
        (["a"], Sequence[str]),
        ([1.0], Iterable[float]),
        ([1], list),
        (4, Union[int, Tuple[int, int]]),
        ([4, 5], Union[int, Tuple[int, int]]),
        ({"a": 1}, dict),
        ({"a": 1}, Dict[str, float]),
        ({"a": [1]}, Dict[str, Any]),
        ("anything", Any),
        ("anything", object),
        ([[1]], List[List[int]]),
        (None, type(None)),
        (3, T),
    ],
)
def test_values_that_fit(value, annotation):
    assert mismatch(value, annotation) is None


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        ("3", int, "expected a whole number, got the text '3'"),
        (3.0, int, "expected a whole number, got 3.0"),
        (True, int, "expected a whole number, got true"),
        (True, float, "expected a number, got true"),
        (None, float, "expected a number, got null"),
        (2024, str, 'expected text, got 2024; write it in quotes: "2024"'),
        (2024, Optional[str], 'expected text or null, got 2024; write it in quotes: "2024"'),
        ("yes", bool, "expected true or false, got the text 'yes'; write true"),
        ("off", Optional[bool], "expected true or false or null, got the text 'off'; write false"),
        (1, bool, "expected true or false, got 1"),
        ("c", Literal["a", "b"], "expected one of a, b, got the text 'c'"),
        (True, Literal[1, 2], "expected one of 1, 2, got true"),
        ([1], Tuple[int, int], "expected a list of 2: [a whole number, a whole number], got a list [1]"),
        ([1, "x"], Tuple[int, ...], "expected a list, each a whole number, got a list [1, x]"),
        ("head.*", List[str], "expected a list, each text, got the text 'head.*'; write [head.*]"),
        ("a", Tuple[int, int], "expected a list of 2: [a whole number, a whole number], got the text 'a'"),
        ({"a": "x"}, Dict[str, int], "expected a mapping, got a mapping {a: x}"),
        (["x"], Union[int, List[int]], "expected a whole number or a list, each a whole number, got a list [x]"),
        ("x", Network, "expected a component, {name: ...} (Network), got the text 'x'"),
        ({"depth": 1}, Optional[Network], "component, {name: ...} (Network) or null, got a mapping {depth: 1}"),
        ("x", Callable[[int], int], "expected a component"),
    ],
)
def test_messages_for_values_that_do_not_fit(value, annotation, message):
    assert message in mismatch(value, annotation)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="`int | None` is newer")
def test_new_union_syntax():
    new = int | Tuple[int, int] | None
    assert mismatch([1, 2], new) is None
    assert "a whole number or a list of 2" in mismatch("x", new)
    assert takes_component(Network | None)


@pytest.mark.parametrize(
    ("annotation", "takes"),
    [
        (int, False),
        (Optional[str], False),
        (Literal["a"], False),
        (List[Network], False),
        (Network, True),
        (Optional[Network], True),
        (Union[str, Network], True),
        (Any, True),
        (Callable[..., Any], True),
        (Dict[str, Any], True),
    ],
)
def test_which_arguments_can_be_components(annotation, takes):
    assert takes_component(annotation) is takes


@pytest.mark.parametrize(
    ("annotation", "container", "inner"),
    [
        (List[Network], list, Network),
        (Optional[Sequence[Network]], list, Network),
        (Dict[str, Network], dict, Network),
        (list, list, Any),
        (Any, list, Any),
        (Network, list, None),
        (Dict[str, Network], list, None),
        (List[Network], dict, None),
    ],
)
def test_annotations_of_items(annotation, container, inner):
    assert item_annotation(annotation, container) is inner


def test_annotations_of_classes_functions_and_dataclasses():
    class Plain:
        def __init__(self, a: int, b=1) -> None: ...

    class Child(Plain):
        pass

    class Unresolvable:
        def __init__(self, a: "NoSuchType") -> None: ...  # noqa: F821

    @dataclass
    class Data:
        a: int
        b: List[str] = field(default_factory=list)

    def function(a: Optional[int] = None) -> None: ...

    assert annotations_of(Plain)["a"] is int
    assert annotations_of(Child)["a"] is int
    assert annotations_of(Unresolvable) == {}
    assert annotations_of(Data) == {"a": int, "b": List[str]}
    assert annotations_of(function)["a"] == Optional[int]
