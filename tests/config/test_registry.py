"""Registries: names, building, and rejected arguments."""

import pytest

from plsc.config.registry import Registry, RegistryError, is_node, split_node


@pytest.fixture
def shapes():
    registry = Registry("shape", runtime=("scale",))

    @registry.register()
    class Box:
        """A box."""

        def __init__(self, width, children=(), inner=None, scale=1):
            self.width, self.children, self.inner, self.scale = width, children, inner, scale

    @registry.register("Dot")
    class Point:
        def __init__(self, size=1):
            self.size = size

    return registry


def test_builds_by_name_with_defaults(shapes):
    box = shapes.build({"name": "Box", "width": 3})
    assert (type(box).__name__, box.width, box.scale) == ("Box", 3, 1)
    assert shapes.build({"name": "Dot"}).size == 1
    assert shapes.names() == ["Box", "Dot"]
    assert "Dot" in shapes
    assert "Point" not in shapes


def test_constructors_receive_objects_never_nodes(shapes):
    dot = {"name": "Dot", "size": 2}
    box = shapes.build({"name": "Box", "width": {"left": dot, "plain": 1}, "children": [dot, dot], "inner": dot})
    assert [child.size for child in box.children] == [2, 2]
    assert box.inner.size == 2
    assert box.width["left"].size == 2
    assert box.width["plain"] == 1


def test_runtime_arguments_come_from_the_engine_only(shapes):
    assert shapes.build({"name": "Box", "width": 1}, scale=7).scale == 7
    assert shapes.build({"name": "Dot"}, scale=7).size == 1  # not taken, so left out
    assert list(shapes.parameters("Box")) == ["width", "children", "inner"]
    with pytest.raises(RegistryError, match="shape Box: scale comes from the engine, not from YAML"):
        shapes.build({"name": "Box", "width": 1, "scale": 2})


def test_taken_name_names_both_modules(shapes):
    with pytest.raises(RegistryError, match=r"'Dot' is taken by .*test_registry.*Point; .*Other must register"):

        @shapes.register("Dot")
        class Other:
            pass


def test_registering_the_same_component_again_is_fine(shapes):
    shapes.register("Dot")(shapes.get("Dot"))
    assert shapes.names() == ["Box", "Dot"]


def test_register_without_parentheses_is_refused(shapes):
    with pytest.raises(RegistryError, match=r"write @register\(\), with parentheses"):

        @shapes.register
        class Other:
            pass


def test_unknown_name_lists_the_registered_names(shapes):
    with pytest.raises(RegistryError, match="unknown shape 'Ball'; registered: Box, Dot"):
        shapes.build({"name": "Ball"})


@pytest.mark.parametrize("value", [{"width": 1}, {"name": 3}, [1], None, "Box"])
def test_values_that_are_not_nodes(value):
    assert not is_node(value)
    with pytest.raises(RegistryError, match="a component needs a `name:`"):
        split_node(value)
