import json

import pytest

from plsc.config.schema import check
from plsc.config.settings import Global
from plsc.config.tree import ConfigError, parse
from plsc.engine.callbacks.profiler import Profile
from tests.components import CONFIG, register_toys
from tests.engine.toys import toy_trainer


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 3), (2, 9)])
def test_a_trace_of_the_asked_steps_is_written(tmp_path, start, stop):
    toy_trainer(tmp_path, steps=4, callbacks=[Profile(tmp_path / "profile", start, stop)]).fit()
    (trace,) = (tmp_path / "profile").glob("*.json")
    assert f"steps_{start}_to_{stop}" in trace.name
    events = json.loads(trace.read_text())["traceEvents"]
    assert any("linear" in event.get("name", "").lower() or "matmul" in event.get("name", "") for event in events)


def test_a_run_that_is_past_the_start_writes_none(tmp_path):
    trainer = toy_trainer(tmp_path, steps=4, callbacks=[Profile(tmp_path / "profile", 1, 3)])
    trainer.train_step.step = 2
    trainer.fit()
    assert not (tmp_path / "profile").exists()


@pytest.mark.parametrize("steps", [{"start": 3, "stop": 3}, {"start": -1, "stop": 3}, {"start": 3}, {"from": 1}])
def test_invalid_steps_are_refused(steps):
    with pytest.raises(ValueError, match="profile must have two optimizer steps, start >= 0 and stop > start"):
        Global(epochs=1, profile=steps)


def test_the_check_of_a_config_names_the_place(monkeypatch):
    register_toys(monkeypatch)
    good = CONFIG.replace("output_dir: out", "output_dir: out, profile: {start: 1, stop: 2}")
    check(parse(good, "x.yaml"))
    with pytest.raises(ConfigError, match=r"x.yaml:1: Global: profile must have two optimizer steps"):
        check(parse(good.replace("stop: 2", "stop: 1"), "x.yaml"))
