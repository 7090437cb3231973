"""Any config text or override gives a config or a ConfigError, without running code or writing files."""

import os

import pytest
from hypothesis import strategies as st

from plsc.config.tree import ConfigError
from tests.fuzz import configs
from tests.fuzz.running import examples, fuzz


@examples(150, 4000)
def test_any_text_with_any_overrides(tmp_path, tally, count):
    check = lambda text, overrides: configs.check_text(tmp_path, text, overrides)  # noqa: E731
    fuzz(count, tally, "config files", check, configs.TEXTS, st.lists(configs.OVERRIDES, max_size=3))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@examples(40, 4000)
def test_any_overrides_of_a_real_config(tally, count):
    fuzz(count, tally, "overrides", configs.check_overrides, st.lists(configs.OVERRIDES, min_size=1, max_size=6))


@examples(80, 4000)
def test_real_configs_with_changed_nodes(tally, count):
    fuzz(count, tally, "mutated configs", configs.check_mutant, configs.SEEDS, configs.CHANGES)


def test_forbidden_events_are_detected(tmp_path):
    write, start = (lambda: open(tmp_path / "x", "w").close()), (lambda: os.system(":"))
    for happen in (lambda: compile("1", "text", "single"), write, start):
        with pytest.raises(AssertionError, match="a config made this happen"), configs.nothing_happens():
            happen()
    with configs.nothing_happens():
        open(tmp_path / "x").close()


def test_a_crash_is_counted(tally):
    from tests.conftest import Tally

    counts = Tally()

    def crash(value):
        raise KeyError(value) if value else ConfigError("fine")

    with pytest.raises(KeyError):
        fuzz(5, counts, "x", crash, st.just(1))
    assert counts.counts["crashes"] == 1
