"""Time of the stages of a training step, for every method: the parts of `task.model` are found by their names."""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

from paddle import nn

from plsc.benchmark.clock import StageClock
from plsc.engine.step import TrainStep

MODEL, LOSS = "rest of the model", "loss"


@contextlib.contextmanager
def timed_stages(train_step: TrainStep, clock: StageClock, trial: Callable[[], Any]) -> Iterator[None]:
    """Measure the stages of steps inside the `with` block.

    The stages are those of `TrainStep.timer`. Forward hooks divide "forward" further: into the parts of the model by
    their names, `MODEL` for the rest of the model, and `LOSS` for the rest of the task.

    Args:
        train_step: Takes the steps.
        clock: Measures the stages; the caller enters the stage `REST` around each step.
        trial: Takes one step; called once to find the layers that the model calls.
    """
    model = train_step.task.model
    parts = _called_parts(model, trial)
    with contextlib.ExitStack() as restore:
        restore.callback(setattr, train_step, "timer", train_step.timer)
        train_step.timer = lambda stage: clock.measuring(LOSS if stage == "forward" else stage)
        hooks = _hooks(model, MODEL, {LOSS}, clock)
        for layer, name in parts:
            hooks += _hooks(layer, name, {MODEL}, clock)
        for hook in hooks:
            restore.callback(hook.remove)
        yield


def _hooks(layer: nn.Layer, stage: str, inside: Set[str], clock: StageClock) -> List[Any]:
    """Make the calls of a layer a stage if they happen in one of the stages `inside`.

    Other calls belong to the stage around them, such as those that the backward pass recomputes.
    """

    def before(layer: nn.Layer, inputs: Any) -> None:
        clock.enter(stage if clock.stage in inside else clock.stage)

    def after(layer: nn.Layer, inputs: Any, outputs: Any) -> None:
        clock.leave()

    return [layer.register_forward_pre_hook(before), layer.register_forward_post_hook(after)]


def _called_parts(model: nn.Layer, trial: Callable[[], Any]) -> List[Tuple[nn.Layer, str]]:
    """Return the outermost layers that the model calls, each with the name of the child of `model` that holds it.

    These are often the children themselves. If the model calls another method of a child than its forward, they are
    layers inside this child.
    """
    found: Dict[int, Tuple[nn.Layer, str]] = {}
    running: List[int] = []
    hooks = []

    for name, child in model.named_children():
        for part in child.sublayers(include_self=True):

            def before(layer: nn.Layer, inputs: Any, name: str = name) -> None:
                if not running:
                    found.setdefault(id(layer), (layer, name))
                running.append(id(layer))

            def after(layer: nn.Layer, inputs: Any, outputs: Any) -> None:
                running.pop()

            hooks += [part.register_forward_pre_hook(before), part.register_forward_post_hook(after)]
    try:
        trial()
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())
