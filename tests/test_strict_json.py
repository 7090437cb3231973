import json
import math
from pathlib import Path

import pytest

from plsc import strict_json
from plsc.runs.log import RunLog
from plsc.runs.reader import read_run

PACKAGE = Path(strict_json.__file__).parent


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_become_null(number):
    text = strict_json.dumps({"a": number, "b": [1.5, (number,)], "c": {"d": number}, "e": "NaN", "f": 1})
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None, "b": [1.5, [None]], "c": {"d": None}, "e": "NaN", "f": 1
    }  # fmt: skip


def test_no_other_file_of_the_package_writes_json():
    plain = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if "json.dump" in path.read_text(encoding="utf-8").replace("strict_json.dumps(", "")
    ]
    assert plain == ["strict_json.py"]


def test_a_loss_that_is_not_a_number_is_null_in_metrics_jsonl_and_a_gap_in_a_report(tmp_path):
    log = RunLog(progress="none")
    log.open(tmp_path)
    for step, loss in ((1, 2.0), (2, math.nan), (3, 1.0)):
        log.record("train", step, float(step), {"loss": loss})
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["loss"] for line in lines] == [2.0, None, 1.0]
    (tmp_path / "config.yaml").write_text("Global: {epochs: 3}\n", encoding="utf-8")
    epochs, losses = read_run(tmp_path).series("train", "loss")
    assert epochs == [1.0, 2.0, 3.0] and losses[::2] == [2.0, 1.0] and math.isnan(losses[1])
