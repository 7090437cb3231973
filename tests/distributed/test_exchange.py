"""Gradients averaged by Paddle's reducer during the backward pass."""

import subprocess
import sys

from tests.distributed.jobs import job_environment, logs
from tests.integration.runs import ROOT


def test_gradient_means_and_rejected_models(tmp_path):
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(tmp_path / "logs")]
    done = subprocess.run(
        [sys.executable, *launch, str(ROOT / "tests/distributed/exchange_job.py")],
        cwd=tmp_path, env={**job_environment(), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    text = done.stdout + done.stderr + logs(tmp_path)
    assert done.returncode == 0, text
    assert text.count("done") >= 2, text
    assert (
        "overlap: true requires that each backward pass computes the gradient of every trained parameter exactly once; "
        "this fails for model.branch.weight, model.branch.bias; set overlap to false" in text
    ), text
    assert "gradients differ between processes: stem.weight, stem.bias; set overlap to false" in text, text
