"""What a run decides for the whole process."""

import paddle
import pytest

from plsc.config.run_config import RunConfig
from plsc.config.tree import parse
from plsc.engine import device, run


def test_deterministic_sets_every_flag_that_this_build_has(monkeypatch):
    flags = {}

    def set_flags(given):
        ((name, value),) = given.items()
        if name == "FLAGS_embedding_deterministic":
            raise ValueError("Flag cannot set its value through this function.")
        flags[name] = value

    monkeypatch.setattr(paddle, "set_flags", set_flags)
    device.make_deterministic()
    assert flags == {
        "FLAGS_cudnn_deterministic": True,
        "FLAGS_cpu_deterministic": True,
        "FLAGS_cudnn_exhaustive_search": False,
    }


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_is_a_key_of_global(monkeypatch, wanted):
    called = []
    monkeypatch.setattr(device, "make_deterministic", lambda: called.append(True))
    monkeypatch.setattr(run.distributed, "setup", lambda strategy: None)
    device.join_job(RunConfig(parse(f"Global: {{epochs: 1, deterministic: {str(wanted).lower()}}}", "x.yaml")))
    assert called == [True] * wanted


def test_a_problem_of_the_first_process_ends_all(monkeypatch):
    monkeypatch.setattr(run.distributed, "is_main", lambda: False)
    monkeypatch.setattr(run.distributed, "agree_on", lambda problem: "full")
    with pytest.raises(run.OutputError, match="full"):
        run._first_process(lambda: pytest.fail("only the first process looks"))
