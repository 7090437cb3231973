"""Small components of every kind that a config needs, for tests of the configuration itself."""

from typing import Any, List, Literal, Optional, Tuple

from plsc.config import registry

CONFIG = """\
Global: {epochs: 2, output_dir: out}
Task: {name: Toy}
Model:
  name: Outer
  width: 4
  encoder: {name: Inner, depth: 2}
DataLoader:
  Train:
    dataset: {name: Images, root: images}
    transforms: [{name: Flip}]
    loader: {batch_size: 4}
Optimizer: {name: AdamW, weight_decay: 0.05, betas: [0.9, 0.999]}
LRScheduler: {name: Constant, learning_rate: 1e-3}
"""


def register_toys(monkeypatch):
    """Replaces what is registered by toys, until the test is over."""
    for kind in vars(registry).values():
        if isinstance(kind, registry.Registry):
            monkeypatch.setattr(kind, "_components", {})

    @registry.TASKS.register()
    class Toy:
        """A task with a network."""

        def __init__(self, model, loss=None, rate: float = 1.0): ...

    @registry.TASKS.register()
    class Alone:
        """A task that brings its own network and trains with a loss."""

        def __init__(self, loss: Any, width: int = 3): ...

    @registry.TASKS.register()
    class Masked:
        """A task that hides patches."""

        required_keys = ("image", "masked_index")

        def __init__(self, model): ...

    @registry.MASK_GENERATORS.register()
    class Half:
        """A mask."""

        def __init__(self): ...

    @registry.MODELS.register()
    class Inner:
        """An encoder."""

        def __init__(self, depth: int = 1, size: Tuple[int, int] = (8, 8)): ...

    @registry.MODELS.register()
    class Outer:
        """A network around an encoder."""

        def __init__(
            self,
            encoder: Inner,
            width: int,
            heads: Optional[List[Inner]] = None,
            parts: Optional[dict] = None,
            kind: Literal["a", "b"] = "a",
            scale: float = None,  # noqa: RUF013 - as foreign code writes it
        ): ...

    @registry.LOSSES.register()
    class Squares:
        """A loss."""

        def __init__(self, weight: float = 1.0, **options): ...

    @registry.DATASETS.register()
    class Images:
        """A dataset."""

        def __init__(self, root: str): ...

    @registry.TRANSFORMS.register()
    class Flip:
        """A transform."""

        def __init__(self, p: float = 0.5): ...

    @registry.OPTIMIZERS.register()
    class AdamW:
        """An optimizer."""

        def __init__(self, model, weight_decay: float = 0.05, betas: Tuple[float, float] = (0.9, 0.999)): ...

    @registry.OPTIMIZERS.register()
    class SGD:
        """Another optimizer."""

        def __init__(self, model, momentum: float = 0.9, weight_decay: float = 0.0): ...

    @registry.LR_SCHEDULERS.register()
    class Constant:
        """A schedule."""

        def __init__(self, learning_rate: float, epochs: float): ...
