"""Pickles as data: their operations are interpreted here, and those that run code do not exist.

A pickle is a program. Python's unpickler imports what it names, calls methods of whatever it has built, and hashes and
prints values of any shape. Here `names` says what each name stands for; only a `Maker` is called; any other name is an
`Unknown`, which does nothing; only plain values are keys; a `Budget` limits the memory of all objects together. Source
of the operations: `pickletools`, which also splits them up.
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
_FREE, _TIMES = 2**24, 64  # bytes that the objects of any file may take, and more for each byte of its pickle
_SHARED = 16  # how many times over the tensors of a file may show its bytes: tied weights, views
_SLOT, _ITEM, _OBJECT = 8, 64, 224  # bytes of a reference, a small object, and an empty set or an object with state
_WIDEST = 4  # bytes of a letter
_LARGEST_INTEGER = 2**53  # as a key: the hashes of such integers differ
_MOST_ITEMS, _LONGEST = 4, 32  # items of a key that is a tuple, letters or hexadecimal digits of each


class UnsafeFileError(PlscError, ValueError):
    """A file that is damaged, or that asks for more than tensors and plain containers."""


class Budget:
    """Memory that the objects of a file may take, at most a small multiple of its size.

    Args:
        pickle_size: Bytes of the pickle, which all objects are made of.
        file_size: Bytes of the whole file, which all arrays show.
    """

    def __init__(self, pickle_size: int, file_size: int) -> None:
        self.objects, self.arrays = _FREE + _TIMES * pickle_size, _SHARED * file_size

    def spend(self, count: int) -> None:
        """Notes that objects of so many bytes are about to be made.

        Raises:
            UnsafeFileError: If all objects together would be too large.
        """
        self.objects -= count
        if self.objects < 0:
            raise UnsafeFileError("it makes far more objects than a file of its size needs, and would fill the memory")

    def show(self, count: int) -> None:
        """Notes that an array of so many bytes is about to be made.

        Raises:
            UnsafeFileError: If all arrays together would be too large.
        """
        self.arrays -= count
        if self.arrays < 0:
            raise UnsafeFileError("its tensors show the same bytes over and over, and would fill the memory")


class Maker:
    """What a pickle may call: a function of this package under the name that files know."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class Built:
    """What a pickle may give state to, once made."""

    def build(self, state: Any) -> None:
        raise NotImplementedError


class Unknown(Built):
    """Stands for what a pickle names and this package does not know, or has made of it. Nothing is imported or called.

    Args:
        name: Module and name that the pickle asks for.

    Attributes:
        values: State and items that the pickle gives it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: Dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def build(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):  # a pair, if the class has slots
            if isinstance(part, dict):
                self.values.update(part)


def plain(value: Any) -> Any:
    """The value as a key: text, bytes, None, a boolean, a small integer or an `Unknown`; others become text.

    Whoever writes a file can choose numbers and tuples of one hash, and then a dict of them takes forever.

    Raises:
        UnsafeFileError: If it is neither of these nor a short tuple of short text and numbers.
    """
    if isinstance(value, (str, bytes, bool, type(None), Unknown)):
        return value
    if isinstance(value, int) and abs(value) < _LARGEST_INTEGER:
        return value
    items = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(item, _PLAIN) for item in items):
        raise UnsafeFileError(f"a key that is neither text nor a number, but a {type(value).__name__}")
    if len(items) > _MOST_ITEMS or any(_length(item) > _LONGEST for item in items):
        raise UnsafeFileError("a key that is longer than any that weights need")
    return repr(value)


def _length(item: Any) -> int:
    return item.bit_length() // 4 if isinstance(item, int) else len(item) if isinstance(item, (str, bytes)) else 0


def size_of(value: Any) -> int:
    """Bytes of a copy of a container or text, without what the container holds; at most."""
    if isinstance(value, (list, tuple)):
        return _ITEM + _SLOT * len(value)
    if isinstance(value, (dict, set, frozenset)):
        return (_ITEM if isinstance(value, dict) else _OBJECT) + 2 * _ITEM * len(value)
    return _ITEM + (len(value) * _WIDEST if isinstance(value, (str, bytes, bytearray)) else 0)


class Machine:
    """Interprets pickles.

    Args:
        names: (module, name) -> a Maker, another value to put in its place, or an `Unknown`.
        refer: What a reference to something outside the pickle, such as a tensor's bytes, stands for.
        budget: Memory that the objects may take.
    """

    def __init__(self, names: Callable[[str, str], Any], refer: Callable[[Any], Any], budget: Budget) -> None:
        self.names, self.refer, self.budget = names, refer, budget
        self.stack: List[Any] = []
        self.marks: List[int] = []
        self.memo: Dict[int, Any] = {}

    def load(self, file: Any) -> Any:
        """The content of one pickle, from where the file (`read`, `readline`, `tell`) stands to the pickle's end.

        Raises:
            UnsafeFileError: If it asks for what is not allowed.
            Exception: Of any kind, if it is damaged.
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

    def _remember(self, key: Any) -> None:
        self.budget.spend(0 if key in self.memo else 2 * _ITEM)
        self.memo[key] = self.stack[-1]

    def _under(self, kind: type, items: List[Any]) -> Any:
        """The uppermost value, to which items are added; None if it is unknown what that means for it."""
        target = self.stack[-1]
        self.budget.spend((_SLOT if kind is list else _ITEM) * len(items))
        if isinstance(target, Unknown):
            return target.values if kind is dict else None
        if type(target) is not kind:
            raise UnsafeFileError(f"damaged: items for a {kind.__name__} that is a {type(target).__name__}")
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
            raise UnsafeFileError("damaged: a name that is no text")
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
            raise UnsafeFileError(f"the file calls a {type(maker).__name__}; only tensors and containers are made")
        copied = sum(len(item) for item in arguments if isinstance(item, (list, tuple, dict, set, frozenset)))
        self.budget.spend(2 * _OBJECT + 2 * _ITEM * copied + sum(map(size_of, arguments)))
        self.stack.append(maker.make(*arguments))

    def call_with_keywords(self, _: Any) -> None:
        self._take(1)
        if not isinstance(self.stack[-2], Unknown):
            raise UnsafeFileError("the file calls something with keywords, which tensors and containers do not need")
        self.call(_)

    def build(self, _: Any) -> None:
        (state,) = self._take(1)
        target = self.stack[-1]
        self.budget.spend(size_of(state))
        if isinstance(target, Built):
            target.build(state)
        elif not isinstance(target, dict):  # torch gives an ordered dict an attribute, which nobody needs
            raise UnsafeFileError(f"the file changes a {type(target).__name__} after it was made")

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
        raise UnsafeFileError("damaged: a key without a value")
    return zip(items[::2], items[1::2])


def to_dict(pairs: Iterable[Tuple[Any, Any]] = ()) -> Dict[Any, Any]:
    """Pairs of keys and values, or a dict, as a dict.

    Raises:
        UnsafeFileError: If a key is none that `plain` accepts.
    """
    items = pairs.items() if isinstance(pairs, dict) else pairs
    return {plain(key): value for key, value in items}
