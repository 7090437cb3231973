"""Registries of components, which build the object `X(argument=value)` from a YAML node `{name: X, argument: value}`.

Each kind of component has one registry. A component is registered where it is defined:

    @MODELS.register()
    class ViT(nn.Layer):
        '''Vision transformer.'''
        def __init__(self, depth: int = 12): ...

The signature of its constructor is the schema of its YAML node, and its docstring is the help text. Some arguments
come from the engine and not from YAML, such as the model of an optimizer; the registry lists them in `runtime`.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar

from plsc.config.tree import ConfigError, ConfigMap, blame
from plsc.errors import PlscError

T = TypeVar("T", bound=Callable[..., Any])


class RegistryError(PlscError, ValueError):
    """Error for a component name that is taken or unknown, or for YAML arguments that are reserved for the engine."""


class Registry:
    """Components of one kind by their names in YAML.

    Args:
        kind: Name of the kind, used in messages: "model", "dataset".
        runtime: Constructor arguments of this kind that come from the engine, never from YAML.
    """

    def __init__(self, kind: str, runtime: Sequence[str] = ()) -> None:
        self.kind = kind
        self.runtime: Tuple[str, ...] = tuple(runtime)
        self._components: Dict[str, Callable[..., Any]] = {}
        self._contract: Optional[Callable[[Any], None]] = None

    def require(self, contract: Callable[[Any], None]) -> None:
        """Call `contract` with every component that is built; it raises ValueError if the component breaks it."""
        self._contract = contract

    def register(self, name: Optional[str] = None) -> Callable[[T], T]:
        """Return a decorator that registers a class or function.

        Args:
            name: Name in YAML; None: the name of the class or function.

        Raises:
            RegistryError: If another component has the name; the message gives both modules.
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
        """Return the registered names, sorted."""
        return sorted(self._components)

    def get(self, name: str) -> Callable[..., Any]:
        """Return the component registered as `name`.

        Raises:
            RegistryError: If no component has this name; the message lists the registered names.
        """
        if name not in self._components:
            raise RegistryError(f"unknown {self.kind} {name!r}; registered: {', '.join(self.names()) or 'none'}")
        return self._components[name]

    def parameters(self, name: str) -> Dict[str, inspect.Parameter]:
        """Return the arguments that a YAML node of component `name` may set, in the order of the signature."""
        signature = inspect.signature(self.get(name))
        return {key: p for key, p in signature.parameters.items() if key not in self.runtime}

    def build(self, node: Mapping[str, Any], **runtime: Any) -> Any:
        """Build the component that `node` describes, and before it the nested nodes of the same kind.

        Args:
            node: `{name: X, argument: value, ...}`. A value that is a mapping with `name`, or a list of such mappings,
                is built by this registry and passed as an object.
            **runtime: Arguments from the engine; those that the constructor does not accept are omitted.

        Raises:
            RegistryError: If the name is unknown, or YAML sets an argument that is reserved for the engine.
            ConfigError: If the component rejects its arguments, or breaks the contract of its kind, and the arguments
                come from a config; with their origin in it.
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
            made = component(**built)
            if self._contract is not None:
                self._contract(made)
            return made
        except ConfigError:
            raise
        except Exception as error:  # these arguments are the cause of any error
            if not isinstance(node, ConfigMap):
                raise
            user_error = isinstance(error, (ValueError, OSError, ImportError))
            reason = f"cannot build {name} with these arguments: {type(error).__name__}: {error}"
            raise blame(node, str(error) if user_error else reason) from error

    def _build_child(self, value: Any) -> Any:
        if is_node(value):
            return self.build(value)
        if isinstance(value, (list, tuple)):
            return [self._build_child(item) for item in value]
        if isinstance(value, Mapping):
            return {key: self._build_child(item) for key, item in value.items()}
        return value


def is_node(value: object) -> bool:
    """Return True if a YAML value describes a component: a mapping with a `name`."""
    return isinstance(value, Mapping) and isinstance(value.get("name"), str)


def split_node(node: Mapping[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """Return the component name and the arguments of a node.

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
