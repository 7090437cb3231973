"""What a pickle of weights may be made of: tensors of torch and numpy, on their way to arrays, and plain containers."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Tuple

import numpy as np

from plsc.safe_pickle.machine import Built, Maker, UnsafeFileError, plain, to_dict

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
}


class Storage:
    """A torch storage: its element type and, once read, its bytes."""

    def __init__(self, kind: str, elements: int) -> None:
        self.kind = kind
        self.elements = elements
        self.data = b""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * (2 if self.kind == "bfloat16" else np.dtype(self.kind).itemsize)

    def array(self) -> np.ndarray:
        if len(self.data) != self.size:
            raise UnsafeFileError("the file is truncated: a tensor's bytes are missing")
        if self.kind == "bfloat16":
            return (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4")
        return np.frombuffer(self.data, self.kind)


class Tensor:
    """A view of a storage, made into an array when all storages are read."""

    def __init__(self, storage: Any, offset: int, shape: Any, stride: Any, *rest: Any) -> None:
        if not isinstance(storage, Storage):
            raise UnsafeFileError("a tensor without a storage")
        self.storage, self.offset, self.shape, self.stride = storage, int(offset), _whole(shape), _whole(stride)

    def array(self) -> np.ndarray:
        flat = self.storage.array()
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride))
        if min((*self.shape, *self.stride, self.offset), default=0) < 0 or (0 not in self.shape and last >= len(flat)):
            raise UnsafeFileError("a tensor reaches beyond its storage")
        if math.prod(self.shape) > len(flat):
            raise UnsafeFileError("a tensor has more elements than its storage")
        steps = [s * flat.itemsize for s in self.stride]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps).copy()


def _whole(numbers: Any) -> Tuple[int, ...]:
    """A shape or strides."""
    return tuple(int(number) for number in numbers)


class NumpyType(Built):
    """A numpy dtype on its way out of a pickle: numbers and booleans only."""

    def __init__(self, code: Any, *flags: Any) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        if not (isinstance(text, str) and text[:1] in "fiub?" and len(text) <= 3):
            raise UnsafeFileError(f"an array of the type {text!r:.40}; only numbers are read")
        self.dtype = np.dtype(text)

    def build(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class NumpyArray(Built):
    """A numpy array on its way out of a pickle."""

    def __init__(self, *arguments: Any) -> None:
        self.shape, self.kind, self.fortran, self.data = (), None, False, b""

    def build(self, state: Any) -> None:
        _, self.shape, self.kind, self.fortran, data = state
        self.data = data.encode("latin1") if isinstance(data, str) else data  # text: written by Python 2
        if not isinstance(self.kind, NumpyType) or not isinstance(self.data, (bytes, bytearray)):
            raise UnsafeFileError("an array that does not hold plain numbers")

    def array(self) -> np.ndarray:
        flat = np.frombuffer(self.data, self.kind.dtype)
        return flat.reshape(_whole(self.shape), order="F" if self.fortran else "C").copy()


class NumpyScalar:
    """A numpy number on its way out of a pickle."""

    def __init__(self, kind: Any, data: Any) -> None:
        raw = data.encode("latin1") if isinstance(data, str) else data
        self.value = np.frombuffer(raw, kind.dtype)[0].item()


class Namespace(Built):
    """The arguments of a command line, as `argparse` keeps them."""

    def __init__(self) -> None:
        self.values: Dict[Any, Any] = {}

    def build(self, state: Any) -> None:
        self.values.update(to_dict(state))


def _parameter(data: Any, *rest: Any) -> Any:
    return data


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    if encoding not in ("latin1", "latin-1", "ascii", "utf-8"):
        raise UnsafeFileError(f"an unusual text encoding, {encoding!r:.40}")
    return text.encode(encoding)


def _nothing(*arguments: Any) -> None:
    """Stands for what a file says beside its tensors, such as their device."""


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple, set)):
            raise UnsafeFileError(f"a container made of a {type(items).__name__}")
        return kind(items)

    return make


def _set(items: Any = ()) -> Any:
    return set(map(plain, items))


def _number(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(*parts: Any) -> Any:
        if not all(isinstance(part, (int, float)) for part in parts):
            raise UnsafeFileError("a number made of something else")
        return kind(*parts)

    return make


def _names() -> Dict[Tuple[str, str], Any]:
    makers: Dict[Tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): to_dict,
        ("argparse", "Namespace"): Namespace,
        ("_codecs", "encode"): _encode,
        ("torch", "device"): _nothing,
        ("torch._utils", "_rebuild_tensor_v2"): Tensor,
        ("torch._utils", "_rebuild_tensor"): Tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("numpy", "ndarray"): NumpyArray,
        ("numpy", "dtype"): NumpyType,
    }
    plain_types = {"tuple": _container(tuple), "list": _container(list), "dict": to_dict, "set": _set}
    plain_types.update({kind.__name__: _number(kind) for kind in (int, float, bool, complex)})
    for module in ("builtins", "__builtin__"):
        makers.update({(module, name): make for name, make in plain_types.items()})
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        makers[module, "_reconstruct"] = NumpyArray
        makers[module, "scalar"] = NumpyScalar
    names: Dict[Tuple[str, str], Any] = {name: Maker(make) for name, make in makers.items()}
    names.update({(module, kind): kind for module in ("torch", "torch.storage") for kind in TORCH_TYPES})
    return names


_NAMES = _names()


def find(module: str, name: str) -> Any:
    """What stands for a name that a pickle asks for.

    Raises:
        UnsafeFileError: If it is none of the few that are known.
    """
    if (module, name) not in _NAMES:
        asked = f"{module}.{name}"
        raise UnsafeFileError(
            f"the file asks for {asked:.100}; only tensors and plain containers are read, so it was refused"
        )
    return _NAMES[module, name]
