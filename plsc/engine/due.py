"""The callbacks of a step that a signal kept from their work: saved with the step, and called first on resume."""

from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
import paddle

from plsc import distributed


def state_of_callbacks(trainer: Any) -> Dict[str, Any]:
    """The callbacks that are still due, what they need of the step just taken, and the state of all; plain data.

    Every process must call it.
    """
    named = named_callbacks(trainer.callbacks)
    states = {name: callback.state_dict() for name, callback in named.items()}
    own = {"metrics": pack(trainer.metrics) if trainer.due else {}, "states": {n: s for n, s in states.items() if s}}
    results = trainer.evaluation
    return {
        "due": [name for name, callback in named.items() if callback in trainer.due],
        "skipped": trainer.skipped,
        "evaluation": None if results is None else {name: float(value) for name, value in results.items()},
        "processes": distributed.gather_objects(own),
    }


def restore_callbacks(trainer: Any, saved: Mapping[str, Any]) -> None:
    """Restores `state_of_callbacks()` from the state of a checkpoint; callbacks are known again by their names.

    With another number of processes, the metrics of the step are their mean, and states of callbacks are left out.
    """
    named = named_callbacks(trainer.callbacks)
    state = saved.get("callbacks") or {"due": _due_before(saved, list(named))}
    for name in state["due"]:
        if name not in named:
            trainer.log.say(f"note: {name} was still due at step {trainer.step}, but this config has it no longer")
    trainer.due = [callback for name, callback in named.items() if name in state["due"]]
    trainer.skipped = bool(state.get("skipped", False))
    trainer.evaluation = state.get("evaluation")
    processes = state.get("processes", ())
    same = len(processes) == distributed.world_size()
    own = [processes[distributed.rank()]] if same else processes
    trainer.metrics = unpack([one["metrics"] for one in own])
    for name, callback in named.items():
        callback.set_state_dict(own[0]["states"].get(name, {}) if same else {})


def _due_before(saved: Mapping[str, Any], names: Sequence[str]) -> List[str]:
    """The callbacks due by a checkpoint of an earlier version, which says only that an evaluation was interrupted."""
    return list(names[names.index("Evaluation") :]) if saved.get("evaluating") and "Evaluation" in names else []


def named_callbacks(callbacks: Sequence[Any]) -> Dict[str, Any]:
    """Callbacks by the names of their classes; a second one of a class is numbered, `Pictures 2`."""
    found: Dict[str, Any] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        number = 1 + sum(type(other).__name__ == kind for other in found.values())
        found[kind if number == 1 else f"{kind} {number}"] = callback
    return found


def pack(scalars: Mapping[str, paddle.Tensor]) -> Dict[str, List[str]]:
    """Scalars as plain data that keeps every bit, also of numbers that are not finite: digits and dtype."""
    return {name: [repr(float(value)), str(value.dtype).split(".")[-1]] for name, value in scalars.items()}


def unpack(packed: Sequence[Mapping[str, Sequence[str]]]) -> Dict[str, paddle.Tensor]:
    """The inverse of `pack`; of several, such as one of each process, the mean."""
    names = dict.fromkeys(name for one in packed for name in one)
    return {name: _unpacked([one[name] for one in packed if name in one]) for name in names}


def _unpacked(values: Sequence[Sequence[str]]) -> paddle.Tensor:
    mean = float(np.mean([float(digits) for digits, _ in values]))
    return paddle.to_tensor(mean, dtype="float64").astype(values[0][1])
