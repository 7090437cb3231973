"""Registries: they turn a YAML node `{name: X, argument: value}` into the object `X(argument=value)`.

There is one registry per kind of component. A component registers itself where it is defined:

    @MODELS.register()
    class ViT(nn.Layer):
        '''Vision transformer.'''
        def __init__(self, depth: int = 12): ...

Its constructor's signature is the schema of its YAML node, its docstring the help. Some arguments are never
written in YAML but handed over by the engine (the model to an optimizer, say): a registry names them in `runtime`.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar

from plsc.config.tree import ConfigError, ConfigMap, blame
from plsc.errors import PlscError

T = TypeVar("T", bound=Callable[..., Any])


class RegistryError(PlscError, ValueError):
    """A component name that is taken, unknown, or built with arguments that only the engine may give."""


class Registry:
    """Components of one kind by the names they have in YAML.

    Args:
        kind: What the components are, for messages: "model", "dataset".
        runtime: Constructor arguments of this kind that come from the engine, never from YAML.
    """

    def __init__(self, kind: str, runtime: Sequence[str] = ()) -> None:
        self.kind = kind
        self.runtime: Tuple[str, ...] = tuple(runtime)
        self._components: Dict[str, Callable[..., Any]] = {}

    def register(self, name: Optional[str] = None) -> Callable[[T], T]:
        """Decorator that files a class or function under `name`, by default its own.

        Raises:
            RegistryError: If the name is taken by another component; both modules are named.
        """
        if callable(name):
            raise RegistryError(f"{_origin(name)}: write @register(), with parentheses")

        def decorate(component: T) -> T:
            key = name or component.__name__
            holder = self._components.get(key)
            if holder is not None and _origin(holder) != _origin(component):
                raise RegistryError(
                    f"the {self.kind} name {key!r} is taken by {_origin(holder)}; "
                    f"{_origin(component)} must register under another name"
                )
            self._components[key] = component
            return component

        return decorate

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._components

    def names(self) -> List[str]:
        """The registered names, sorted."""
        return sorted(self._components)

    def get(self, name: str) -> Callable[..., Any]:
        """The component registered as `name`.

        Raises:
            RegistryError: If there is none; the message lists what there is.
        """
        if name not in self._components:
            raise RegistryError(f"no {self.kind} is called {name!r}; there is: {', '.join(self.names()) or 'none'}")
        return self._components[name]

    def parameters(self, name: str) -> Dict[str, inspect.Parameter]:
        """The arguments that a YAML node of component `name` may give, in the order of the signature."""
        signature = inspect.signature(self.get(name))
        return {key: p for key, p in signature.parameters.items() if key not in self.runtime}

    def build(self, node: Mapping[str, Any], **runtime: Any) -> Any:
        """Builds the component that `node` describes, nested nodes of the same kind first.

        Args:
            node: `{name: X, argument: value, ...}`. A value that is itself a mapping with `name`, or a list of
                such mappings, is built by this registry and handed over as an object.
            **runtime: Arguments from the engine; those that the constructor does not take are left out.

        Raises:
            RegistryError: If the name is unknown, or YAML gives an argument that is the engine's.
            ConfigError: If the component refuses its arguments and they are from a config; with their place in it.
        """
        name, arguments = split_node(node)
        component = self.get(name)
        reserved = sorted(set(arguments) & set(self.runtime))
        if reserved:
            raise RegistryError(f"{self.kind} {name}: {', '.join(reserved)} comes from the engine, not from YAML")
        built = {key: self._build_child(value) for key, value in arguments.items()}
        accepted = inspect.signature(component).parameters
        built.update({key: value for key, value in runtime.items() if key in accepted})
        try:
            return component(**built)
        except ConfigError:
            raise
        except Exception as error:  # whatever it is, it is of these arguments
            if not isinstance(node, ConfigMap):
                raise
            user_error = isinstance(error, (ValueError, OSError, ImportError))
            text = str(error) if user_error else f"{name} cannot be built so: {type(error).__name__}: {error}"
            raise blame(node, text) from error

    def _build_child(self, value: Any) -> Any:
        if is_node(value):
            return self.build(value)
        if isinstance(value, (list, tuple)):
            return [self._build_child(item) for item in value]
        if isinstance(value, Mapping):
            return {key: self._build_child(item) for key, item in value.items()}
        return value


def is_node(value: object) -> bool:
    """Whether a YAML value describes a component: a mapping with a `name`."""
    return isinstance(value, Mapping) and isinstance(value.get("name"), str)


def split_node(node: Mapping[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """A node's component name and its arguments.

    Raises:
        RegistryError: If the node has no `name`.
    """
    if not is_node(node):
        raise RegistryError(f"a component needs a `name:`, got {dict(node) if isinstance(node, Mapping) else node!r}")
    return node["name"], {key: value for key, value in node.items() if key != "name"}


def _origin(component: Any) -> str:
    return f"{component.__module__}.{getattr(component, '__qualname__', component)}"


TASKS = Registry("task", runtime=("model", "tokenizer", "loss"))
MODELS = Registry("model")
TOKENIZERS = Registry("tokenizer")
MASK_GENERATORS = Registry("mask generator")
LOSSES = Registry("loss")
DATASETS = Registry("dataset")
TRANSFORMS = Registry("transform")
BATCH_TRANSFORMS = Registry("batch transform")
OPTIMIZERS = Registry("optimizer", runtime=("model",))
LR_SCHEDULERS = Registry("learning-rate schedule", runtime=("epochs", "steps_per_epoch", "global_batch_size"))
METRICS = Registry("metric")
CALLBACKS = Registry("callback")
