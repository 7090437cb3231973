"""Saved state of callbacks: those that a signal kept from finishing a step are called first when the run is resumed."""

from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
import paddle

from plsc import distributed


def state_of_callbacks(trainer: Any) -> Dict[str, Any]:
    """Return the state of all callbacks, those still due, and the metrics of the last step that they need.

    Every process must call it.

    Returns:
        Plain data: `due`, names of callbacks; `skipped`; `evaluation`, the values measured after the step or None;
        `processes`, for each process its `metrics` and the `states` of its callbacks by name.
    """
    store = trainer.metrics
    named = named_callbacks(trainer.callbacks)
    states = {name: callback.state_dict() for name, callback in named.items()}
    own = {"metrics": pack(store.scalars) if store.due else {}, "states": {n: s for n, s in states.items() if s}}
    results = store.results
    return {
        "due": [name for name, callback in named.items() if callback in store.due],
        "skipped": store.skipped,
        "evaluation": None if results is None else {name: float(value) for name, value in results.items()},
        "processes": distributed.gather_objects(own),
    }


def restore_callbacks(trainer: Any, saved: Mapping[str, Any]) -> None:
    """Restore `state_of_callbacks()` from the state of a checkpoint; callbacks are found by their names.

    With another number of processes, the scalars are averaged, and the states of callbacks are not restored.
    """
    store = trainer.metrics
    named = named_callbacks(trainer.callbacks)
    state = saved.get("callbacks") or {"due": _due_before(saved, list(named))}
    for name in state["due"]:
        if name not in named:
            trainer.log.say(f"note: {name} was still due at step {trainer.step}, but is not in this config")
    store.due = [callback for name, callback in named.items() if name in state["due"]]
    store.skipped = bool(state.get("skipped", False))
    store.results = state.get("evaluation")
    processes = state.get("processes", ())
    same = len(processes) == distributed.world_size()
    own = [processes[distributed.rank()]] if same else processes
    store.scalars = unpack([one["metrics"] for one in own])
    for name, callback in named.items():
        callback.set_state_dict(own[0]["states"].get(name, {}) if same else {})


def _due_before(saved: Mapping[str, Any], names: Sequence[str]) -> List[str]:
    """Return the callbacks due by a checkpoint of an earlier version, which only says `evaluating`."""
    return list(names[names.index("Evaluation") :]) if saved.get("evaluating") and "Evaluation" in names else []


def named_callbacks(callbacks: Sequence[Any]) -> Dict[str, Any]:
    """Return the callbacks by the names of their classes; the second one of a class is numbered: `Pictures 2`."""
    found: Dict[str, Any] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        number = 1 + sum(type(other).__name__ == kind for other in found.values())
        found[kind if number == 1 else f"{kind} {number}"] = callback
    return found


def pack(scalars: Mapping[str, paddle.Tensor]) -> Dict[str, List[str]]:
    """Return scalars as plain data, digits and dtype; keeps every bit, also of values that are not finite."""
    return {name: [repr(float(value)), str(value.dtype).split(".")[-1]] for name, value in scalars.items()}


def unpack(packed: Sequence[Mapping[str, Sequence[str]]]) -> Dict[str, paddle.Tensor]:
    """Invert `pack`; return the mean if there are several, such as one of each process."""
    names = dict.fromkeys(name for one in packed for name in one)
    return {name: _unpacked([one[name] for one in packed if name in one]) for name in names}


def _unpacked(values: Sequence[Sequence[str]]) -> paddle.Tensor:
    mean = float(np.mean([float(digits) for digits, _ in values]))
    return paddle.to_tensor(mean, dtype="float64").astype(values[0][1])
