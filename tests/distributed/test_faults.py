"""Jobs that are killed, stopped or started wrongly: they resume from checkpoints, and no process hangs."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from plsc.checkpoint.reader import Checkpoint
from tests.distributed.jobs import (
    PRETRAIN,
    SMALL_CAE,
    arrays,
    assert_close,
    job_environment,
    launch,
    launch_command,
    logs,
)
from tests.faults.scenes import alive, children_of
from tests.integration.runs import ROOT, data, make_digits, metrics, train
from tests.runs.test_directory import hold

STEPS = 24


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp("images") / "digits", per_class=20)


def options(images, output, *more, batch=4, steps=STEPS):
    size = f"DataLoader.Train.loader.batch_size={batch}"
    length = ["Global.epochs=null", f"Global.steps={steps}", "LRScheduler.warmup_epochs=0"]
    run = [f"Global.output_dir={output}", "Model.encoder.drop_path_rate=0.2"]
    return [*data(images, evaluation=False), *SMALL_CAE, size, *length, *run, *more]


def start(command, cwd):
    return subprocess.Popen(
        command, cwd=cwd, env=job_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_steps(run, count, process, seconds=120):
    deadline = time.time() + seconds
    log = run / "metrics.jsonl"
    while time.time() < deadline and process.poll() is None:
        if log.is_file() and log.read_text(encoding="utf-8").count("\n") >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"no {count} lines in {log}")


def workers(launcher):
    """Ids of a job's training processes, by rank."""
    found = {}
    for path in os.listdir("/proc"):
        if not path.isdecimal():
            continue
        try:
            with open(f"/proc/{path}/status", encoding="utf-8") as status:
                parent = int(re.search(r"PPid:\s+(\d+)", status.read()).group(1))
            with open(f"/proc/{path}/environ", encoding="utf-8", errors="replace") as environ:
                rank = re.search(r"PADDLE_TRAINER_ID=(\d+)", environ.read())
        except OSError:
            continue
        if parent == launcher.pid and rank:
            found[int(rank.group(1))] = int(path)
    return found


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    launch(2, options(images, "run"), folder)
    return arrays(folder / "run")


def assert_same(run, expected):
    found = arrays(run)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def kill_and_restart(images, folder, victim, step, expected):
    arguments = options(images, "run", "Global.save_every_steps=3", "DataLoader.Train.loader.num_workers=1")
    process = start(launch_command(2, PRETRAIN, arguments, launcher=["--max_restart", "2"]), folder)
    wait_for_steps(folder / "run", step, process)
    os.kill(workers(process)[victim], signal.SIGKILL)
    text, _ = process.communicate(timeout=180)
    if process.returncode:  # the launcher may give up; repeating the command continues the run
        launch(2, arguments, folder)
    assert metrics(folder / "run")[-1]["step"] == STEPS, text + logs(folder)
    assert_same(folder / "run", expected)


def test_a_killed_rank_does_not_change_results_after_a_restart(images, undisturbed, tmp_path):
    kill_and_restart(images, tmp_path, victim=1, step=8, expected=undisturbed)


@pytest.mark.slow
def test_twenty_random_kills(images, undisturbed, tmp_path):
    rng = random.Random(0)
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        kill_and_restart(images, folder, rng.randrange(2), rng.randrange(1, STEPS - 2), undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_rank_saves_and_ends_all(images, undisturbed, tmp_path, number):
    arguments = options(images, "run")
    process = start(launch_command(2, PRETRAIN, arguments), tmp_path)
    wait_for_steps(tmp_path / "run", 5, process)
    os.kill(workers(process)[1], number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert "saved in run/checkpoints" in logs(tmp_path)
    stopped = Checkpoint.open(tmp_path / "run").state["step"]
    assert 0 < stopped < STEPS
    launch(2, arguments, tmp_path)
    assert_same(tmp_path / "run", undisturbed)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_a_job_whose_launcher_ends_saves_and_ends(images, tmp_path, number):
    """The launcher does not handle SIGHUP (of a closed terminal) and SIGUSR1; SIGKILL cannot be handled."""
    process = start(launch_command(2, PRETRAIN, options(images, "run", steps=10_000)), tmp_path)
    wait_for_steps(tmp_path / "run", 5, process)
    trained = workers(process)
    assert len(trained) == 2
    process.send_signal(number)
    process.communicate(timeout=60)
    wait_until_ended(trained.values())
    assert "saved in run/checkpoints" in logs(tmp_path)
    assert Checkpoint.open(tmp_path / "run").state["step"] >= 5


def wait_until_ended(pids):
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_script_for_one_machine_passes_signals_on_and_returns_their_code(images, tmp_path, number):
    script = [str(ROOT / "tools/launch_local.sh"), "2", "-c", str(ROOT / PRETRAIN), "-o", "Global.device=cpu"]
    environment = {**job_environment(), "PYTHON": sys.executable, "PLSC_LAUNCH_LOGS": str(tmp_path / "logs")}
    process = subprocess.Popen([*script, *options(images, "run", steps=10_000)], cwd=tmp_path, env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)  # fmt: skip
    wait_for_steps(tmp_path / "run", 5, process)
    (launcher,) = children_of(process.pid)
    trained = children_of(launcher)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert not [pid for pid in (launcher, *trained) if alive(pid)]
    assert "saved in run/checkpoints" in logs(tmp_path)


def test_a_signal_during_an_evaluation_with_uneven_shares(images, tmp_path):
    """The processes have different numbers of batches, but stop at the same batch."""
    slow = tmp_path / "slow_metric.py"
    slow.write_text(
        "import time\nfrom plsc.config.registry import METRICS\nfrom plsc.evaluation.metrics import Accuracy\n"
        "@METRICS.register()\nclass Slow(Accuracy):\n    def update(self, *a):\n        time.sleep(0.2)\n"
        "        super().update(*a)\n",
        encoding="utf-8",
    )
    small = ["Model.encoder.embed_dim=16", "Model.encoder.depth=1", "Model.encoder.num_heads=2",
             "Model.head.in_features=16", "Model.head.num_classes=2", "Global.log_every_steps=1",
             "LRScheduler.warmup_epochs=0", "imports=[slow_metric]", "Metric=[{name: Slow}]", "Global.epochs=3",
             "Global.eval_every_epochs=1", "DataLoader.Eval.loader.batch_size=1"]  # fmt: skip
    process = start(launch_command(2, "configs/quickstart/linprobe_random.yaml",
                                   [*data(images), *small, "Global.output_dir=run"]), tmp_path)  # fmt: skip
    wait_for_steps(tmp_path / "run", 5, process)  # the first epoch's steps are logged: it evaluates now
    time.sleep(0.5)
    os.kill(workers(process)[0], signal.SIGTERM)
    process.communicate(timeout=60)
    assert "saved in run/checkpoints" in logs(tmp_path), logs(tmp_path)
    assert Checkpoint.open(tmp_path / "run").state["step"] == 5


def test_evaluation_counts_every_image_once(tmp_path):
    """1,003 images in batches of 50 by one, two and three processes."""
    images = make_digits(tmp_path / "digits", per_class=502, classes=2, size=8)
    next((images / "val" / "1").iterdir()).unlink()
    small = ["Model.encoder.image_size=8", "Model.encoder.embed_dim=16", "Model.encoder.depth=1",
             "Model.encoder.num_heads=2", "Model.head.in_features=16", "Model.head.num_classes=2",
             "DataLoader.Train.transforms=[]", "DataLoader.Eval.transforms=[]", "LRScheduler.warmup_epochs=0",
             "Global.epochs=null", "Global.steps=2"]  # fmt: skip
    found = []
    for processes, batch in ((1, 12), (2, 6), (3, 4)):
        overrides = [*data(images), *small, f"Global.output_dir=run_{processes}",
                     f"DataLoader.Train.loader.batch_size={batch}", "DataLoader.Eval.loader.batch_size=50"]  # fmt: skip
        config = "configs/quickstart/linprobe_random.yaml"
        if processes == 1:
            train(config, overrides, tmp_path)
        else:
            launch(processes, overrides, tmp_path, config)
        found.append(metrics(tmp_path / f"run_{processes}", "eval")[-1])
    correct = [round(row["top1"] * 1003 / 100, 6) for row in found]
    assert correct[0] == int(correct[0]), "a share of 1,003 images"
    assert correct == [correct[0]] * 3


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_nodes(images, tmp_path):
    """Two launchers, like on two machines."""
    master = f"127.0.0.1:{free_port()}"
    nodes = []
    for number in range(2):
        launcher = ["--nnodes", "2", "--master", master, "--rank", str(number), "--job_id", "two"]
        arguments = options(images, "run", steps=4)
        nodes.append(start(launch_command(1, PRETRAIN, arguments, f"logs{number}", launcher), tmp_path))
    for node in nodes:
        text, _ = node.communicate(timeout=180)
        assert node.returncode == 0, text + logs(tmp_path)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1, 2, 3, 4]
    launch(2, options(images, "one_node", steps=4), tmp_path)
    assert_close(tmp_path / "run", tmp_path / "one_node")  # other numbers of threads round differently


def test_differences_between_configs_of_processes_are_named(images, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom plsc.cli import main\n"
        "sys.exit(main(['train', *sys.argv[1:], f'Global.seed={os.environ[\"PADDLE_TRAINER_ID\"]}']))\n",
        encoding="utf-8",
    )
    command = launch_command(2, PRETRAIN, options(images, "run"))
    command = [str(script) if part == str(ROOT / "tools/train.py") else part for part in command]
    begin = time.time()
    process = start(command, tmp_path)
    process.communicate(timeout=120)
    assert process.returncode != 0 and time.time() - begin < 60
    assert "Global.seed: 0 in process 0, 1 in process 1" in logs(tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_process_without_peers_gives_up(images, tmp_path):
    arguments = options(images, "run", "DistributedStrategy.timeout=8")
    environment = {**job_environment(), "PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "1",
                   "PADDLE_TRAINER_ENDPOINTS": "127.0.0.1:1,127.0.0.1:2", "PADDLE_CURRENT_ENDPOINT": "127.0.0.1:2",
                   "PADDLE_MASTER": f"127.0.0.1:{free_port()}", "PADDLE_LOCAL_SIZE": "1"}  # fmt: skip
    command = [sys.executable, str(ROOT / "tools/train.py"), "-c", str(ROOT / PRETRAIN), "-o", *arguments]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "process 1 of 2 did not find the others within 8 seconds" in done.stderr


def test_a_batch_that_does_not_divide_is_refused_by_all(images, tmp_path):
    text = launch(2, options(images, "run", "Global.global_batch_size=12", batch=4), tmp_path, expect=2)
    assert "12 is not a multiple of 8 (4 images x 2 processes)" in text


def test_a_directory_in_use_by_another_run_is_refused_by_all(images, tmp_path):
    (tmp_path / "run").mkdir()
    other = hold(tmp_path / "run")
    text = launch(2, options(images, "run", steps=2), tmp_path, expect=2)
    assert f"run is in use by another run (process {other.pid} on " in text
    other.communicate("")
    launch(2, options(images, "run", steps=2), tmp_path)  # the processes of one job do not lock each other out


def test_other_number_of_processes_without_a_global_batch(images, tmp_path):
    """With half the processes and half the batch, the run and its length are converted to the same images."""
    launch(2, options(images, "run", "Global.max_train_step=3", steps=10), tmp_path)
    text = train(PRETRAIN, options(images, "run", steps=10), tmp_path, expect=2)
    assert "a step had 8 images and has 4" in text and "Global.steps: 20 is the same number of images" in text
    text = train(PRETRAIN, options(images, "run", steps=20), tmp_path)
    assert "step 3 of 10 becomes step 6 of 20, the same 0 epochs and 24 images" in text
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1, 2, 3, *range(7, 21)]
    assert Checkpoint.open(tmp_path / "run").path.name == "step_00000020_1"
