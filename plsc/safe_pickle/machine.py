"""Pickles as data: their operations are interpreted here, and those that run code do not exist.

A pickle is a program. Python's unpickler imports what it names, calls methods of whatever it has built, and hashes and
prints values of any shape. Here `names` says what may be named; only that can be called; only what has a `build`
method takes state; only plain values are keys. Source of the operations: `pickletools`, which also splits them up.
"""

import pickletools
from typing import Any, BinaryIO, Callable, Dict, Iterable, List, Tuple

_PLAIN = (str, bytes, int, float, bool, type(None))
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: Dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT, _GET = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
_NOTHING = ("PROTO", "FRAME", "STOP")


class UnsafeFileError(ValueError):
    """A file that is damaged, or that asks for more than tensors and plain containers."""


class Maker:
    """What a pickle may call: a function of this package under the name that files know."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class Built:
    """What a pickle may give state to, once made."""

    def build(self, state: Any) -> None:
        raise NotImplementedError


def plain(value: Any) -> Any:
    """The value, if it may be a key: text, bytes, a number, or a tuple of these.

    Raises:
        UnsafeFileError: If it is another one; hashing a tuple of tuples can take forever.
    """
    if isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(isinstance(item, _PLAIN) for item in value)):
        return value
    raise UnsafeFileError(f"a key that is neither text nor a number, but a {type(value).__name__}")


class Machine:
    """Interprets pickles.

    Args:
        names: (module, name) -> a Maker, or a value to put in its place; raises UnsafeFileError for all others.
        refer: What a reference to something outside the pickle, such as a tensor's bytes, stands for.
    """

    def __init__(self, names: Callable[[str, str], Any], refer: Callable[[Any], Any]) -> None:
        self.names, self.refer = names, refer
        self.stack: List[Any] = []
        self.marks: List[int] = []
        self.memo: Dict[int, Any] = {}

    def load(self, file: BinaryIO) -> Any:
        """The content of one pickle, from where the file stands to the pickle's end.

        Raises:
            UnsafeFileError: If it asks for what is not allowed.
            Exception: Of any kind, if it is damaged.
        """
        self.stack, self.marks, self.memo = [], [], {}
        for operation, argument, _ in pickletools.genops(file):
            self._step(operation.name, argument)
        return self.stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _PUT:
            self.memo[argument] = self.stack[-1]
        elif name in _GET:
            self.stack.append(self.memo[argument])
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(self._take(_TUPLES[name])))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _NOTHING:
            raise UnsafeFileError(f"the operation {name} is not needed to store tensors, so it was refused")

    def _take(self, count: int) -> List[Any]:
        """The uppermost values, removed."""
        if count > len(self.stack):
            raise UnsafeFileError("damaged: an operation finds too few values")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _take_marked(self) -> List[Any]:
        return self._take(len(self.stack) - self.marks.pop())

    def _under(self, kind: type) -> Any:
        """The uppermost value, which the next operation adds to."""
        if type(self.stack[-1]) is not kind:
            raise UnsafeFileError(f"damaged: items for a {kind.__name__} that is a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def pop(self, _: Any) -> None:
        self._take(1)

    def pop_mark(self, _: Any) -> None:
        self._take_marked()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def make_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._take_marked()))

    def make_list(self, _: Any) -> None:
        self.stack.append(self._take_marked())

    def make_dict(self, _: Any) -> None:
        self.stack.append(to_dict(_pairs(self._take_marked())))

    def make_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(map(plain, self._take_marked())))

    def append(self, _: Any) -> None:
        items = self._take(1)
        self._under(list).extend(items)

    def append_many(self, _: Any) -> None:
        items = self._take_marked()
        self._under(list).extend(items)

    def add_many(self, _: Any) -> None:
        items = self._take_marked()
        self._under(set).update(map(plain, items))

    def set_item(self, _: Any) -> None:
        items = self._take(2)
        self._under(dict).update(to_dict(_pairs(items)))

    def set_items(self, _: Any) -> None:
        items = self._take_marked()
        self._under(dict).update(to_dict(_pairs(items)))

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self.names(module, name))

    def name_on_stack(self, _: Any) -> None:
        module, name = self._take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnsafeFileError("damaged: a name that is no text")
        self.stack.append(self.names(module, name))

    def call(self, _: Any) -> None:
        maker, arguments = self._take(2)
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
            raise UnsafeFileError(f"the file calls a {type(maker).__name__}; only tensors and containers are made")
        self.stack.append(maker.make(*arguments))

    def build(self, _: Any) -> None:
        (state,) = self._take(1)
        target = self.stack[-1]
        if isinstance(target, Built):
            target.build(state)
        elif not isinstance(target, dict):  # torch gives an ordered dict an attribute, which nobody needs
            raise UnsafeFileError(f"the file changes a {type(target).__name__} after it was made")

    def reference(self, _: Any) -> None:
        (identifier,) = self._take(1)
        self.stack.append(self.refer(identifier))


_STEPS: Dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine.mark,
    "POP": Machine.pop,
    "POP_MARK": Machine.pop_mark,
    "DUP": Machine.duplicate,
    "MEMOIZE": Machine.memoize,
    "TUPLE": Machine.make_tuple,
    "LIST": Machine.make_list,
    "DICT": Machine.make_dict,
    "FROZENSET": Machine.make_frozenset,
    "APPEND": Machine.append,
    "APPENDS": Machine.append_many,
    "ADDITEMS": Machine.add_many,
    "SETITEM": Machine.set_item,
    "SETITEMS": Machine.set_items,
    "GLOBAL": Machine.name,
    "STACK_GLOBAL": Machine.name_on_stack,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.reference,
}


def _pairs(items: List[Any]) -> Iterable[Tuple[Any, Any]]:
    if len(items) % 2:
        raise UnsafeFileError("damaged: a key without a value")
    return zip(items[::2], items[1::2])


def to_dict(pairs: Iterable[Tuple[Any, Any]] = ()) -> Dict[Any, Any]:
    """Pairs of keys and values, or a dict, as a dict.

    Raises:
        UnsafeFileError: If a key is none that `plain` accepts.
    """
    items = pairs.items() if isinstance(pairs, dict) else pairs
    return {plain(key): value for key, value in items}
