"""Reads weights out of pickles that others wrote, without letting them run anything.

`paddle.save` and `torch.save` write pickles, and a pickle is a program. Here it may only build tensors and plain
containers: every other name it asks for is refused. Neither torch nor Paddle is needed. Source of the formats:
`paddle/framework/io.py`, `torch/serialization.py`.
"""

from __future__ import annotations

import argparse
import collections
import io
import math
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, List, Tuple, Union

import numpy as np

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_TYPES = {
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
_MAX_BYTES = 64 << 30


class UnsafeFileError(ValueError):
    """A file that is damaged, or that asks for more than tensors and plain containers."""


def read_state_file(path: Union[str, Path]) -> Any:
    """The content of a file written by `paddle.save` or `torch.save` (zip or legacy).

    Returns:
        Nested dicts, lists, tuples, numbers and text, with numpy arrays for tensors; bfloat16 becomes float32.

    Raises:
        UnsafeFileError: If the file is truncated, of another format, or asks for anything else.
        OSError: If it cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as file:
        try:
            if zipfile.is_zipfile(file):
                return _read_torch_zip(file)
            file.seek(0)
            return _read_stream(file)
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path}: {error}") from None
        except RecursionError:
            raise UnsafeFileError(f"{path}: nested too deeply") from None
        except Exception as error:  # noqa: BLE001 - a damaged pickle can fail anywhere in the interpreter of pickles
            raise UnsafeFileError(f"{path}: not a whole file of weights ({type(error).__name__}: {error})") from None


class _Storage:
    """A torch storage: its element type and, once read, its bytes."""

    def __init__(self, kind: str, elements: int) -> None:
        self.kind = kind
        self.elements = elements
        self.data = b""

    @property
    def item_size(self) -> int:
        return 2 if self.kind == "bfloat16" else np.dtype(self.kind).itemsize

    def array(self) -> np.ndarray:
        if len(self.data) != self.elements * self.item_size:
            raise UnsafeFileError("the file is truncated: a tensor's bytes are missing")
        if self.kind == "bfloat16":
            return (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4")
        return np.frombuffer(self.data, self.kind)


class _Tensor:
    """A view of a storage, made into an array when all storages are read."""

    def __init__(self, storage: Any, offset: int, shape: Tuple[int, ...], stride: Tuple[int, ...]) -> None:
        if not isinstance(storage, _Storage):
            raise UnsafeFileError("a tensor without a storage")
        self.storage, self.offset, self.shape, self.stride = storage, int(offset), tuple(shape), tuple(stride)

    def array(self) -> np.ndarray:
        flat = self.storage.array()
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride))
        if min((*self.shape, *self.stride, self.offset), default=0) < 0 or (0 not in self.shape and last >= len(flat)):
            raise UnsafeFileError("a tensor reaches beyond its storage")
        if math.prod(self.shape) > len(flat):
            raise UnsafeFileError("a tensor has more elements than its storage")
        steps = [s * flat.itemsize for s in self.stride]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps).copy()


class _NumpyType:
    """A numpy dtype on its way out of a pickle: numbers and booleans only."""

    def __init__(self, code: Any, *flags: Any) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else str(code)
        if not (text[:1] in "fiub?" and len(text) <= 3):
            raise UnsafeFileError(f"an array of the type {text!r}; only numbers are read")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _NumpyArray:
    """A numpy array on its way out of a pickle."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _NumpyType) or not isinstance(data, (bytes, bytearray)):
            raise UnsafeFileError("an array that does not hold plain numbers")
        flat = np.frombuffer(data, kind.dtype)
        self.value = flat.reshape(shape, order="F" if fortran else "C").copy()

    def array(self) -> np.ndarray:
        return self.value


class _NumpyScalar:
    """A numpy number on its way out of a pickle."""

    def __init__(self, kind: Any, data: bytes) -> None:
        self.value = np.frombuffer(data, kind.dtype)[0].item()


def _rebuild_tensor(storage: Any, offset: int, shape: Any, stride: Any, *rest: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


def _rebuild_parameter(data: Any, *rest: Any) -> Any:
    return data


def _reconstruct(*arguments: Any) -> _NumpyArray:
    return _NumpyArray()


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    if encoding not in ("latin1", "latin-1", "ascii", "utf-8"):
        raise UnsafeFileError(f"an unusual text encoding, {encoding!r}")
    return text.encode(encoding)


class _Device:
    def __init__(self, *arguments: Any) -> None:
        pass


def _allowed() -> Dict[Tuple[str, str], Callable[..., Any]]:
    names: Dict[Tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("argparse", "Namespace"): argparse.Namespace,
        ("_codecs", "encode"): _encode,
        ("torch", "device"): _Device,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        ("numpy", "ndarray"): _NumpyArray,
        ("numpy", "dtype"): _NumpyType,
    }
    for module in ("builtins", "__builtin__"):
        for kind in (tuple, list, dict, set, int, float, bool, str, complex):
            names[module, kind.__name__] = kind
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[module, "_reconstruct"] = _reconstruct
        names[module, "scalar"] = _NumpyScalar
    return names


_ALLOWED = _allowed()


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows the names above and no others."""

    def __init__(self, file: BinaryIO, storages: Dict[str, _Storage]) -> None:
        super().__init__(file, encoding="latin1")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module in ("torch", "torch.storage") and name in _TORCH_TYPES:
            return name
        raise UnsafeFileError(
            f"the file asks for {module}.{name}; only tensors and plain containers are read, so it was refused"
        )

    def persistent_load(self, identifier: Any) -> _Storage:
        tag, kind, key, _, elements = identifier[:5]
        if tag not in ("storage", b"storage") or kind not in _TORCH_TYPES:
            raise UnsafeFileError(f"an unknown reference {identifier!r:.80}")
        if not 0 <= int(elements) <= _MAX_BYTES:
            raise UnsafeFileError("a tensor of an impossible size")
        return self.storages.setdefault(str(key), _Storage(_TORCH_TYPES[kind], int(elements)))


def _load(file: BinaryIO, storages: Dict[str, _Storage]) -> Any:
    """One pickle from where the file stands, after a look at its operations.

    The interpreter of pickles makes its table of remembered objects as large as the highest number in the file.
    """
    start, size = file.tell(), file.seek(0, io.SEEK_END)
    file.seek(start)
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > size:
            raise UnsafeFileError(f"damaged: it remembers object {argument} of a pickle of {size} bytes")
    file.seek(start)
    return _Unpickler(file, storages).load()


def _read_torch_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(names) != 1:
            raise UnsafeFileError("a zip file, but not one of torch.save")
        root = names[0][: -len("data.pkl")]
        storages: Dict[str, _Storage] = {}
        content = _load(io.BytesIO(archive.read(names[0])), storages)
        for key, storage in storages.items():
            entry = f"{root}data/{key}"
            if archive.getinfo(entry).file_size != storage.elements * storage.item_size:
                raise UnsafeFileError(f"the tensor data {key} has the wrong size")
            storage.data = archive.read(entry)
    return _finish(content)


def _read_stream(file: BinaryIO) -> Any:
    storages: Dict[str, _Storage] = {}
    first = _load(file, storages)
    if first != _LEGACY_MAGIC:
        return _join_slices(_finish(first))
    for _ in range(2):  # protocol version, system information
        _load(file, storages)
    content = _load(file, storages)
    keys: List[Any] = _load(file, storages)
    for key in keys:
        storage = storages[str(key)]
        if int.from_bytes(file.read(8), "little") != storage.elements:
            raise UnsafeFileError("the file is truncated, or its tensors are in another order")
        storage.data = file.read(storage.elements * storage.item_size)
    return _finish(content)


def _finish(value: Any) -> Any:
    """Plain containers with numpy arrays."""
    if isinstance(value, (_Tensor, _NumpyArray)):
        return value.array()
    if isinstance(value, _NumpyScalar):
        return value.value
    if isinstance(value, argparse.Namespace):
        return _finish(vars(value))
    if isinstance(value, dict):
        return {_finish(key): _finish(item) for key, item in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], _NumpyArray):
        return value[1].array()  # Paddle's (tensor name, value)
    if isinstance(value, (list, tuple)):
        return type(value)(_finish(item) for item in value)
    if isinstance(value, (_NumpyType, _Device, _Storage)):
        return None
    return value


def _join_slices(content: Any) -> Any:
    """Puts together what Paddle cut because a pickle of protocol 2 cannot hold more than 4 GB at once."""
    if not isinstance(content, dict) or "UnpackBigParamInfor@@" not in content:
        return content
    cut = content.pop("UnpackBigParamInfor@@")
    for name, how in cut.items():
        parts = [content.pop(part) for part in how["slices"]]
        content[name] = np.concatenate([part.reshape(-1) for part in parts]).reshape(how["OriginShape"])
    return content
