"""Interpreter of pickles without the operations that run code.

A pickle is a program. Python's unpickler imports the names in it, calls methods of the objects that it has built, and
hashes and prints values of any shape. In this interpreter, `names` maps each name to an object; only a `Maker` is
called; any other name becomes an `Unknown` without behavior; only plain values are keys; a `Budget` limits the memory
of all objects. Source of the operations: `pickletools`, which also parses them.
"""

import pickletools
from typing import Any, Callable, Dict, Iterable, List, Tuple

from plsc.errors import PlscError

_PLAIN = (str, bytes, int, float, bool, type(None))
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_SMALL = ("BININT1", "BININT2", "INT", "BININT", "FLOAT", "BINFLOAT")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: Dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT, _GET = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
_NOTHING = ("PROTO", "FRAME", "STOP")
_FREE, _TIMES = 2**24, 64  # memory limit of the objects: bytes for any file, and bytes for each byte of its pickle
_SHARED = 16  # limit of the tensors' bytes, in sizes of the file; above 1 for tied weights and views
_SLOT, _ITEM, _OBJECT = 8, 64, 224  # bytes of a reference, a small object, and an empty set or an object with state
_WIDEST = 4  # bytes of a character
_LARGEST_INTEGER = 2**53  # as a key: the hashes of such integers differ
_MOST_ITEMS, _LONGEST = 4, 32  # limits of a tuple as key: items, characters or hexadecimal digits of an item


class UnsafeFileError(PlscError, ValueError):
    """Error for a file that is damaged, or that needs more than tensors and plain containers."""


class Budget:
    """Memory limit of the objects of a file, a small multiple of its size.

    Args:
        pickle_size: Size of the pickle, bytes; limits the objects.
        file_size: Size of the file, bytes; limits the arrays.
    """

    def __init__(self, pickle_size: int, file_size: int) -> None:
        self.objects, self.arrays = _FREE + _TIMES * pickle_size, _SHARED * file_size

    def spend(self, count: int) -> None:
        """Count `count` bytes of new objects.

        Raises:
            UnsafeFileError: If the total exceeds the limit.
        """
        self.objects -= count
        if self.objects < 0:
            raise UnsafeFileError("the file builds far more objects than its size justifies and would fill the memory")

    def show(self, count: int) -> None:
        """Count `count` bytes of a new array.

        Raises:
            UnsafeFileError: If the total exceeds the limit.
        """
        self.arrays -= count
        if self.arrays < 0:
            raise UnsafeFileError("the tensors use the same bytes of the file many times and would fill the memory")


class Maker:
    """Function of this package that a pickle may call under the name in the file."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class Built:
    """Base of objects that accept a state from a pickle."""

    def build(self, state: Any) -> None:
        raise NotImplementedError


class Unknown(Built):
    """Placeholder of a name in a pickle that this package does not know, or of an object of it. Nothing is imported.

    Args:
        name: Module and name in the pickle.

    Attributes:
        values: State and items that the pickle sets.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: Dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def build(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):  # a pair if the class has slots
            if isinstance(part, dict):
                self.values.update(part)


def plain(value: Any) -> Any:
    """Return a value as a key: text, bytes, None, a boolean, a small integer or an `Unknown`; others become text.

    A file could contain numbers and tuples with equal hashes, which make a dict extremely slow.

    Raises:
        UnsafeFileError: If it is neither of these nor a short tuple of short text and numbers.
    """
    if isinstance(value, (str, bytes, bool, type(None), Unknown)):
        return value
    if isinstance(value, int) and abs(value) < _LARGEST_INTEGER:
        return value
    items = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(item, _PLAIN) for item in items):
        raise UnsafeFileError(f"a key is neither text nor a number, but a {type(value).__name__}")
    if len(items) > _MOST_ITEMS or any(_length(item) > _LONGEST for item in items):
        raise UnsafeFileError("a key is longer than the keys of weights")
    return repr(value)


def _length(item: Any) -> int:
    return item.bit_length() // 4 if isinstance(item, int) else len(item) if isinstance(item, (str, bytes)) else 0


def size_of(value: Any) -> int:
    """Return an upper bound of the bytes of a copy of a container or text, without the items of the container."""
    if isinstance(value, (list, tuple)):
        return _ITEM + _SLOT * len(value)
    if isinstance(value, (dict, set, frozenset)):
        return (_ITEM if isinstance(value, dict) else _OBJECT) + 2 * _ITEM * len(value)
    return _ITEM + (len(value) * _WIDEST if isinstance(value, (str, bytes, bytearray)) else 0)


class Machine:
    """Interpreter of pickles.

    Args:
        names: Function of module and name that returns a `Maker`, another value for the name, or an `Unknown`.
        refer: Function that returns the object for a reference outside the pickle, such as the bytes of a tensor.
        budget: Limit of the memory.
    """

    def __init__(self, names: Callable[[str, str], Any], refer: Callable[[Any], Any], budget: Budget) -> None:
        self.names, self.refer, self.budget = names, refer, budget
        self.stack: List[Any] = []
        self.marks: List[int] = []
        self.memo: Dict[int, Any] = {}

    def load(self, file: Any) -> Any:
        """Read one pickle from the current position of a file (`read`, `readline`, `tell`).

        Raises:
            UnsafeFileError: If the pickle contains an operation that is not allowed.
            Exception: Of any kind, if the pickle is damaged.
        """
        self.stack, self.marks, self.memo = [], [], {}
        for operation, argument, _ in pickletools.genops(file):
            self._step(operation.name, argument)
        return self.stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        self.budget.spend(_SLOT)
        if name in _LITERALS:
            self.budget.spend(_SLOT if name in _SMALL else _ITEM)  # its bytes are in the file
            self.stack.append(argument)
        elif name in _PUT:
            self._remember(argument)
        elif name in _GET:
            self.stack.append(self.memo[argument])
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.budget.spend(_OBJECT if name == "EMPTY_SET" else _ITEM)
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.budget.spend(_ITEM)
            self.stack.append(tuple(self._take(_TUPLES[name])))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _NOTHING:
            raise UnsafeFileError(f"the operation {name} is not needed for tensors and is not allowed")

    def _take(self, count: int) -> List[Any]:
        """Remove and return the last `count` values of the stack."""
        if count > len(self.stack):
            raise UnsafeFileError("the file is damaged: an operation has too few values")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _take_marked(self) -> List[Any]:
        return self._take(len(self.stack) - self.marks.pop())

    def _remember(self, key: Any) -> None:
        self.budget.spend(0 if key in self.memo else 2 * _ITEM)
        self.memo[key] = self.stack[-1]

    def _under(self, kind: type, items: List[Any]) -> Any:
        """Return the container on top of the stack, to add items; None if it is an `Unknown` that has no such items."""
        target = self.stack[-1]
        self.budget.spend((_SLOT if kind is list else _ITEM) * len(items))
        if isinstance(target, Unknown):
            return target.values if kind is dict else None
        if type(target) is not kind:
            raise UnsafeFileError(
                f"the file is damaged: it adds the items of a {kind.__name__} to a {type(target).__name__}"
            )
        return target

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def pop(self, _: Any) -> None:
        self._take(1)

    def pop_mark(self, _: Any) -> None:
        self._take_marked()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def memoize(self, _: Any) -> None:
        self._remember(len(self.memo))

    def make_tuple(self, _: Any) -> None:
        self.budget.spend(_ITEM)
        self.stack.append(tuple(self._take_marked()))

    def make_list(self, _: Any) -> None:
        self.budget.spend(_ITEM)
        self.stack.append(self._take_marked())

    def make_dict(self, _: Any) -> None:
        items = self._take_marked()
        self.budget.spend(_ITEM + _ITEM * len(items))
        self.stack.append(to_dict(_pairs(items)))

    def make_frozenset(self, _: Any) -> None:
        items = self._take_marked()
        self.budget.spend(_OBJECT + _ITEM * len(items))
        self.stack.append(frozenset(map(plain, items)))

    def append(self, _: Any) -> None:
        self._extend(self._take(1))

    def append_many(self, _: Any) -> None:
        self._extend(self._take_marked())

    def _extend(self, items: List[Any]) -> None:
        target = self._under(list, items)
        if target is not None:
            target.extend(items)

    def add_many(self, _: Any) -> None:
        items = self._take_marked()
        target = self._under(set, items)
        if target is not None:
            target.update(map(plain, items))

    def set_item(self, _: Any) -> None:
        items = self._take(2)
        self._under(dict, items).update(to_dict(_pairs(items)))

    def set_items(self, _: Any) -> None:
        items = self._take_marked()
        self._under(dict, items).update(to_dict(_pairs(items)))

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_name(module, name)

    def name_on_stack(self, _: Any) -> None:
        module, name = self._take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnsafeFileError("the file is damaged: a name is not text")
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        self.budget.spend(2 * _OBJECT + size_of(module) + size_of(name))
        self.stack.append(self.names(module, name))

    def call(self, _: Any) -> None:
        maker, arguments = self._take(2)
        if isinstance(maker, Unknown):
            self.budget.spend(2 * _OBJECT)
            self.stack.append(Unknown(maker.name))
            return
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
            raise UnsafeFileError(f"the file calls a {type(maker).__name__}; only tensors and containers can be built")
        copied = sum(len(item) for item in arguments if isinstance(item, (list, tuple, dict, set, frozenset)))
        self.budget.spend(2 * _OBJECT + 2 * _ITEM * copied + sum(map(size_of, arguments)))
        self.stack.append(maker.make(*arguments))

    def call_with_keywords(self, _: Any) -> None:
        self._take(1)
        if not isinstance(self.stack[-2], Unknown):
            raise UnsafeFileError("the file calls a function with keywords, which tensors and containers do not need")
        self.call(_)

    def build(self, _: Any) -> None:
        (state,) = self._take(1)
        target = self.stack[-1]
        self.budget.spend(size_of(state))
        if isinstance(target, Built):
            target.build(state)
        elif not isinstance(target, dict):  # torch sets an attribute of an ordered dict, which is not needed
            raise UnsafeFileError(f"the file changes a {type(target).__name__} after building it")

    def reference(self, _: Any) -> None:
        (identifier,) = self._take(1)
        self.budget.spend(2 * _OBJECT)
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
    "NEWOBJ_EX": Machine.call_with_keywords,
    "BUILD": Machine.build,
    "BINPERSID": Machine.reference,
}


def _pairs(items: List[Any]) -> Iterable[Tuple[Any, Any]]:
    if len(items) % 2:
        raise UnsafeFileError("the file is damaged: a key has no value")
    return zip(items[::2], items[1::2])


def to_dict(pairs: Iterable[Tuple[Any, Any]] = ()) -> Dict[Any, Any]:
    """Return pairs of keys and values, or a dict, as a dict with plain keys.

    Raises:
        UnsafeFileError: If `plain` rejects a key.
    """
    items = pairs.items() if isinstance(pairs, dict) else pairs
    return {plain(key): value for key, value in items}
