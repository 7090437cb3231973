"""The counts that a session ends with."""

from types import SimpleNamespace

from tests.conftest import TALLY, Tally, pytest_terminal_summary


def test_counts_are_summed_and_shown_at_the_end(pytestconfig, tally):
    assert pytestconfig.stash[TALLY] is tally
    counts, shown = Tally(), []
    counts.add("inputs tried", 12_000)
    counts.add("crashes", 0)
    counts.add("inputs tried")
    reporter = SimpleNamespace(section=shown.append, write_line=shown.append)
    pytest_terminal_summary(reporter, SimpleNamespace(stash={TALLY: counts}))
    assert shown == ["counts", "      12,001  inputs tried", "           0  crashes"]


def test_nothing_is_shown_if_nothing_was_counted():
    pytest_terminal_summary(None, SimpleNamespace(stash={TALLY: Tally()}))


def test_slow_tests_are_not_run_unless_asked_for(pytestconfig):
    options = pytestconfig.getini("addopts")
    assert options[options.index("-m") + 1] == "not slow"
