"""Objects that a pickle of weights may contain: tensors of torch and numpy, and plain containers."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from plsc.safe_pickle.machine import Built, Maker, Unknown, UnsafeFileError, plain, to_dict

TORCH_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
    "ComplexFloatStorage": "<c8",
    "ComplexDoubleStorage": "<c16",
}


class Storage:
    """A torch storage: its element type and, after reading, its bytes."""

    def __init__(self, kind: str, elements: int) -> None:
        self.kind = kind
        self.elements = elements
        self.data = b""

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.elements * (2 if self.kind == "bfloat16" else np.dtype(self.kind).itemsize)

    def array(self) -> np.ndarray:
        if len(self.data) != self.size:
            raise UnsafeFileError("the file is truncated: a tensor's bytes are missing")
        if self.kind == "bfloat16":
            return (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4")
        return np.frombuffer(self.data, self.kind)


class Tensor:
    """A view of a storage, converted into an array after all storages are read."""

    def __init__(self, storage: Storage, offset: Any, shape: Any, stride: Any) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, int(offset), whole(shape), whole(stride)

    @property
    def size(self) -> int:
        """Size of the array in bytes, at most that of its storage."""
        elements = min(max(math.prod(self.shape), 0), self.storage.elements)
        return elements * (4 if self.storage.kind == "bfloat16" else np.dtype(self.storage.kind).itemsize)

    def array(self) -> np.ndarray:
        flat = self.storage.array()
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride))
        if min((*self.shape, *self.stride, self.offset), default=0) < 0 or (0 not in self.shape and last >= len(flat)):
            raise UnsafeFileError("a tensor reaches beyond its storage")
        if math.prod(self.shape) > len(flat):
            raise UnsafeFileError("a tensor has more elements than its storage")
        steps = [s * flat.itemsize for s in self.stride]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps).copy()


def whole(numbers: Any) -> Tuple[int, ...]:
    """Return a shape or strides as integers."""
    return tuple(int(number) for number in numbers)


class NumpyType(Built):
    """A numpy dtype in a pickle: numbers and booleans only."""

    def __init__(self, text: str) -> None:
        self.dtype = np.dtype(text)

    def build(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class NumpyArray(Built):
    """A numpy array in a pickle.

    Attributes:
        unknown: Its dtype if it is not numeric; the values are then not read.
    """

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = ((), NumpyType("u1"), False, b"")  # shape, dtype, Fortran order, bytes
        self.unknown: Optional[Unknown] = None

    def build(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if isinstance(kind, Unknown):
            self.unknown = kind
            return
        data = data.encode("latin1") if isinstance(data, str) else data  # Python 2 has written text
        if not isinstance(kind, NumpyType) or not isinstance(data, (bytes, bytearray)):
            raise UnsafeFileError("an array does not contain plain numbers")
        self.state = (shape, kind, fortran, data)

    @property
    def size(self) -> int:
        """Size of the array in bytes."""
        return len(self.state[3])

    def array(self) -> np.ndarray:
        shape, kind, fortran, data = self.state
        return np.frombuffer(data, kind.dtype).reshape(whole(shape), order="F" if fortran else "C").copy()


class NumpyScalar:
    """A numpy scalar in a pickle."""

    def __init__(self, kind: NumpyType, data: Any) -> None:
        raw = data.encode("latin1") if isinstance(data, str) else data
        self.value = np.frombuffer(raw, kind.dtype)[0].item()


class Namespace(Built):
    """Command-line arguments, an `argparse.Namespace`."""

    def __init__(self) -> None:
        self.values: Dict[Any, Any] = {}

    def build(self, state: Any) -> None:
        self.values.update(to_dict(state))


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Any:
    if isinstance(storage, Unknown):  # a dtype that numpy does not support
        return storage
    if not isinstance(storage, Storage):
        raise UnsafeFileError("a tensor has no storage")
    return Tensor(storage, offset, shape, stride)


def _parameter(data: Any, *rest: Any) -> Any:
    return data


def _typed_tensor(make: Any, kind: Any, arguments: Any, *rest: Any) -> Any:
    """Return the plain tensor of a subclass or of a tensor with attributes."""
    if isinstance(make, Maker) and make.make is _tensor and isinstance(arguments, tuple):
        return _tensor(*arguments)
    return make if isinstance(make, Unknown) else Unknown("torch._tensor._rebuild_from_type_v2")


def _dtype(code: Any, *flags: Any) -> Any:
    text = code.decode("ascii") if isinstance(code, bytes) else code
    if isinstance(text, Unknown):
        return text
    if not isinstance(text, str):
        raise UnsafeFileError(f"the dtype of an array is a {type(text).__name__}")
    return NumpyType(text) if text[:1] in "fiubc?" and len(text) <= 3 else Unknown(f"numpy.dtype({text!r:.40})")


def _scalar(kind: Any, data: Any = b"") -> Any:
    return kind if isinstance(kind, Unknown) else NumpyScalar(kind, data)


def _array_of_buffer(data: Any, kind: Any, shape: Any, order: Any) -> NumpyArray:
    array = NumpyArray()
    array.build((1, shape, kind, order == "F", data))
    return array


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "ascii", "utf-8"):
        said = repr(encoding[:40]) if isinstance(encoding, str) else type(encoding).__name__
        raise UnsafeFileError(f"the text encoding {said} is not supported")
    return text.encode(encoding)


def _empty_dict(*arguments: Any) -> Dict[Any, Any]:
    return {}


def _nothing(*arguments: Any) -> None:
    """Return None for an object that is not needed, such as the device of a tensor."""


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple, set)):
            raise UnsafeFileError(f"the items of a container are a {type(items).__name__}")
        return kind(items)

    return make


def _set(items: Any = ()) -> Any:
    return set(map(plain, items))


def _number(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(*parts: Any) -> Any:
        if not all(isinstance(part, (int, float)) for part in parts):
            raise UnsafeFileError("the argument of a number is not a number")
        return kind(*parts)

    return make


def _of_known(make: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that it returns an `Unknown` among its arguments, if there is one."""

    def made(*arguments: Any) -> Any:
        unknown = [argument for argument in arguments if isinstance(argument, Unknown)]
        return unknown[0] if unknown else make(*arguments)

    return made


def _names() -> Dict[Tuple[str, str], Any]:
    makers: Dict[Tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): _of_known(to_dict),
        ("collections", "defaultdict"): _empty_dict,  # the pickle adds its items later
        ("argparse", "Namespace"): Namespace,
        ("_codecs", "encode"): _of_known(_encode),
        ("torch", "device"): _nothing,
        ("torch", "Size"): _container(tuple),
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): _typed_tensor,
        ("numpy", "ndarray"): NumpyArray,
        ("numpy", "dtype"): _dtype,
    }
    plain_types = {"tuple": _container(tuple), "list": _container(list), "dict": to_dict, "set": _set}
    plain_types.update({kind.__name__: _number(kind) for kind in (int, float, bool, complex)})
    for module in ("builtins", "__builtin__"):
        makers.update({(module, name): _of_known(make) for name, make in plain_types.items()})
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        makers[module, "_reconstruct"] = NumpyArray
        makers[module, "scalar"] = _scalar
    for module in ("numpy.core.numeric", "numpy._core.numeric"):
        makers[module, "_frombuffer"] = _array_of_buffer
    names: Dict[Tuple[str, str], Any] = {name: Maker(make) for name, make in makers.items()}
    names.update({(module, kind): kind for module in ("torch", "torch.storage") for kind in TORCH_TYPES})
    return names


_NAMES = _names()


def find(module: str, name: str) -> Any:
    """Return the object for a name in a pickle; an `Unknown` for names that weights do not need."""
    found = _NAMES.get((module, name))
    return Unknown(f"{module}.{name}"[:100]) if found is None else found
