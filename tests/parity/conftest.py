"""Writes the deviations of a run for `tools/fidelity_report.py`."""

from tests.parity import deviation


def pytest_sessionfinish():
    deviation.write()
