"""docs/adding_a_method.md lists every public member of the base classes, and nothing else."""

import re
from pathlib import Path

import pytest

from plsc.data.base import Dataset
from plsc.data.batch_transforms import BatchTransform
from plsc.engine.callback import Callback
from plsc.evaluation.metrics import Metric
from plsc.masking import MaskGenerator
from plsc.models import Encoder, Head
from plsc.nn.network import Network
from plsc.tasks import Task
from plsc.tokenizers import Target

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "adding_a_method.md").read_text(encoding="utf-8")
CLASSES = [Task, Network, Encoder, Head, Target, BatchTransform, MaskGenerator, Dataset, Metric, Callback]
CALLS = {"__call__", "__len__", "__getitem__"}


def rows(name):
    """The members of a class on the page, and True if they are required."""
    section = PAGE.split(f"\n### `{name}`\n")[1].split("\n### ")[0]
    found = re.findall(r"^\| (\*\*)?`(\w+)[^`]*`", section, re.MULTILINE)
    return {member: bool(bold) for bold, member in found}


@pytest.mark.parametrize("base", CLASSES, ids=lambda base: base.__name__)
def test_the_page_has_all_members(base):
    names = {*vars(base), *vars(base).get("__annotations__", {})}
    members = {name for name in names if not name.startswith("_") or name in CALLS}
    assert set(rows(base.__name__)) == members


@pytest.mark.parametrize("base", CLASSES, ids=lambda base: base.__name__)
def test_the_required_members_are_bold(base):
    assert {name for name, required in rows(base.__name__).items() if required} == set(vars(base).get("_required", ()))


def test_every_section_is_of_a_class():
    assert re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE) == [base.__name__ for base in CLASSES]
