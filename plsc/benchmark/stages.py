"""The stages of a training step, found without knowing the method: the parts of `task.model` by their names."""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

from paddle import nn

from plsc.benchmark.clock import REST, StageClock
from plsc.engine.trainer import Trainer

MODEL, LOSS = "rest of the model", "loss"
# What the trainer calls in a step besides the networks: owner, method, stage.
CALLS: Tuple[Tuple[str, str, str], ...] = (
    ("", "prepare", "batch transforms"),
    ("task", "prepare", "targets"),
    ("precision", "backward", "backward"),
    ("precision", "unscale", "gradient clip"),
    ("optimizer", "clip_gradients", "gradient clip"),
    ("task", "before_step", "task before the update"),
    ("optimizer", "step", "optimizer"),
    ("optimizer", "clear_grad", "optimizer"),
    ("task", "on_step_end", "task after the update"),
)


@contextlib.contextmanager
def timed_stages(trainer: Trainer, clock: StageClock, trial: Callable[[], Any]) -> Iterator[None]:
    """Lets `clock` see the stages of the trainer's steps, inside the `with` block.

    Args:
        trainer: Whose `train_step` is to be looked at.
        clock: Told when stages begin and end; whoever calls `train_step` enters the stage `REST` around it.
        trial: Takes one step; called once to see which layers the model calls itself.
    """
    parts = _called_parts(trainer.task.model, trial)
    with contextlib.ExitStack() as restore:
        for owner, method, stage in CALLS:
            target = getattr(trainer, owner) if owner else trainer
            object.__setattr__(target, method, clock.wrap(getattr(target, method), stage))
            restore.callback(object.__delattr__, target, method)
        hooks = [*_hooks(trainer.task, LOSS, {REST}, clock), *_hooks(trainer.task.model, MODEL, {LOSS}, clock)]
        for layer, name in parts:
            hooks += _hooks(layer, name, {MODEL}, clock)
        for hook in hooks:
            restore.callback(hook.remove)
        yield


def _hooks(layer: nn.Layer, stage: str, inside: Set[str], clock: StageClock) -> List[Any]:
    """Makes the calls of a layer a stage if they happen in one of the stages `inside`.

    A call elsewhere belongs to what it is part of, such as one that is recomputed in the backward pass.
    """

    def before(layer: nn.Layer, inputs: Any) -> None:
        clock.enter(stage if clock.stage in inside else clock.stage)

    def after(layer: nn.Layer, inputs: Any, outputs: Any) -> None:
        clock.leave()

    return [layer.register_forward_pre_hook(before), layer.register_forward_post_hook(after)]


def _called_parts(model: nn.Layer, trial: Callable[[], Any]) -> List[Tuple[nn.Layer, str]]:
    """The outermost layers that the model calls, each with the name of the child of `model` that it belongs to.

    Often these are the children themselves; but a model may call another method of a child than its forward, and
    then they are the child's own children.
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
