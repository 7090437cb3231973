"""Device of the process, and the job it belongs to."""

import threading
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator

import paddle

from plsc import distributed
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigError
from plsc.engine.consistency import agree_on_inputs

DETERMINISTIC = {
    "FLAGS_cudnn_deterministic": True,  # algorithms with a fixed order of summation
    "FLAGS_embedding_deterministic": 1,
    "FLAGS_cpu_deterministic": True,
    "FLAGS_cudnn_exhaustive_search": False,  # no choice of algorithms by measured speed
}
_STRIDES = "FLAGS_use_stride_kernel"
_lock = threading.Lock()
_blocks = 0  # `device_kept` blocks that are open
_before: Dict[str, Any] = {}  # device and flags before the first of them


def join_job(config: RunConfig) -> None:
    """Choose the device and join the other processes of the job, which must have the same config, code and files.

    Raises:
        ConfigError: If device, strategy or config do not fit.
    """
    run = config.global_
    set_device(run.device)
    if run.deterministic:
        make_deterministic()
    try:
        distributed.setup(config.strategy)
        agree_on_inputs(config)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def make_deterministic() -> None:
    """Select deterministic kernels where this build of Paddle has a choice."""
    for name, value in DETERMINISTIC.items():
        with suppress(ValueError):  # CPU builds have no cuDNN flags, and versions differ
            paddle.set_flags({name: value})


def set_device(device: str) -> None:
    """Choose the device of this process.

    Raises:
        ConfigError: If a GPU is required and missing.
    """
    gpus = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if device == "gpu" and gpus == 0:
        build = "sees no GPU" if paddle.device.is_compiled_with_cuda() else "is the CPU build; install paddlepaddle-gpu"
        raise ConfigError(f"Global.device: gpu was asked for, but this Paddle {build}; set it to auto or cpu")
    chosen = "gpu" if gpus and device != "cpu" else "cpu"
    paddle.device.set_device(chosen)
    if chosen == "cpu":
        # Transposed views would be copied by slow generic kernels at every matmul: half of the time of a step.
        paddle.set_flags({_STRIDES: False})


@contextmanager
def device_kept() -> Iterator[None]:
    """Restore Paddle's device and the flags that this module sets at the end of the block.

    Blocks may be nested and may run in several threads: the last one to end restores. Flags whose values this build of
    Paddle does not reveal (some of DETERMINISTIC) stay set.
    """
    global _blocks
    with _lock:
        _blocks += 1
        if _blocks == 1:
            _before.update(device=paddle.device.get_device(), flags=_readable_flags())
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0:
                paddle.device.set_device(_before["device"])
                paddle.set_flags(_before["flags"])


def _readable_flags() -> Dict[str, Any]:
    flags: Dict[str, Any] = {}
    for name in (_STRIDES, *DETERMINISTIC):
        with suppress(ValueError):
            flags.update(paddle.get_flags([name]))
    return flags
