"""Reader of the files that `torch.save` and `paddle.save` write.

The memory is limited to a small multiple of the size of the file. Source of the formats:
`torch/serialization.py`, `paddle/framework/io.py`.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional, Union

import numpy as np

from plsc.safe_pickle.machine import Budget, Machine, Maker, Unknown, UnsafeFileError, plain, size_of
from plsc.safe_pickle.values import (
    TORCH_TYPES,
    Namespace,
    NumpyArray,
    NumpyScalar,
    NumpyType,
    Storage,
    Tensor,
    find,
    whole,
)  # fmt: skip

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_state_file(path: Union[str, Path]) -> Any:
    """Read a file written by `paddle.save` or `torch.save` (zip or legacy).

    Returns:
        Nested dicts, lists, tuples, numbers and text. Tensors become numpy arrays (bfloat16 becomes float32), a torch
        module becomes the dict of its tensors, and any other object becomes an `Unknown`.

    Raises:
        UnsafeFileError: If the file is truncated, has another format, contains a single object of an unknown kind, or
            needs more memory than a small multiple of its size.
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        return _guarded(str(path), _Bounded(file))


def read_pickle(data: bytes, source: str) -> Any:
    """Read a pickle in memory, like `read_state_file`.

    Args:
        data: Bytes of the pickle.
        source: Name of the source, for messages.

    Raises:
        UnsafeFileError: See `read_state_file`.
    """
    return _guarded(source, _Bounded(io.BytesIO(data)))


def _guarded(source: str, file: _Bounded) -> Any:
    try:
        content = _read_torch_zip(file) if zipfile.is_zipfile(file.file) else _read_stream(file)
        if isinstance(content, Unknown):
            raise UnsafeFileError(f"the file contains {content.name}; only tensors and plain containers can be read")
        return content
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{source}: {error}") from None
    except RecursionError:
        raise UnsafeFileError(f"{source}: nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle can fail anywhere
        reason = f"{type(error).__name__}: {error!s:.200}"
        raise UnsafeFileError(f"{source}: not a complete file of weights ({reason})") from None


class _Bounded:
    """File that limits reads to its size, because `read` allocates a buffer of the requested size."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.readline, self.tell, self.seek = file.readline, file.tell, file.seek

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, self.size - self.file.tell()))


class _Storages(Dict[str, Storage]):
    """Tensor storages by key; their total size is at most that of the file."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.left = limit

    def refer(self, identifier: Any) -> Any:
        """Return the storage for a reference of the pickle; in old files also the class of a module with its source."""
        if identifier[0] == "module" and isinstance(identifier[1], Unknown):
            return identifier[1]
        tag, kind, key, _, elements = identifier[:5]
        if tag == "storage" and isinstance(kind, Unknown):
            return kind
        known = tag in ("storage", b"storage") and isinstance(kind, str) and kind in TORCH_TYPES
        if not known or not isinstance(key, (str, int)) or not isinstance(elements, int):
            raise UnsafeFileError("the file contains an unknown kind of reference")
        if str(key) not in self:
            storage = Storage(TORCH_TYPES[kind], elements)
            self.left -= storage.size
            if elements < 0 or self.left < 0:
                raise UnsafeFileError("the tensors are larger than the file; the file is truncated or damaged")
            self[str(key)] = storage
        return self[str(key)]


def _read_torch_zip(file: _Bounded) -> Any:
    with zipfile.ZipFile(file.file) as archive:
        names = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(names) != 1:
            raise UnsafeFileError("the file is a zip file, but torch.save has not written it")
        root = names[0][: -len("data.pkl")]
        storages = _Storages(file.size)
        pickled = _member(archive, names[0])
        budget = Budget(len(pickled), file.size)
        content = Machine(find, storages.refer, budget).load(_Bounded(io.BytesIO(pickled)))
        for key, storage in storages.items():
            storage.data = _member(archive, f"{root}data/{key}", storage.size)
    return _Finisher(budget).finish(content)


def _member(archive: zipfile.ZipFile, name: str, size: Optional[int] = None) -> bytes:
    """Read a file of the archive. Compressed files are rejected, because a few bytes of them can fill the memory."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise UnsafeFileError(f"{name:.80} is compressed, which torch.save never does; it was not unpacked")
    if size is not None and info.file_size != size:
        raise UnsafeFileError(f"the tensor data {name:.80} has the wrong size")
    return archive.read(info)


def _read_stream(file: _Bounded) -> Any:
    file.seek(0)
    storages, budget = _Storages(file.size), Budget(file.size, file.size)
    machine = Machine(find, storages.refer, budget)
    first = machine.load(file)
    if not isinstance(first, int) or first != _LEGACY_MAGIC:
        return _join_slices(_Finisher(budget).finish(first))
    for _ in range(2):  # protocol version, system information
        machine.load(file)
    content = machine.load(file)
    keys: List[Any] = machine.load(file)
    for key in keys:
        storage = storages.get(str(plain(key)))
        if storage is None:
            raise UnsafeFileError("the tensors have a dtype that numpy does not support")
        if int.from_bytes(file.read(8), "little") != storage.elements:
            raise UnsafeFileError("the file is truncated, or the order of its tensors is wrong")
        storage.data = file.read(storage.size)
    return _Finisher(budget).finish(content)


class _Finisher:
    """Converter of the objects of a pickle into plain containers with numpy arrays; each object is converted once.

    Args:
        budget: Limit of the memory.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.done: Dict[int, Any] = {}

    def finish(self, value: Any) -> Any:
        """Return the converted value.

        Raises:
            UnsafeFileError: If a container contains itself, or the memory limit is exceeded.
        """
        if not isinstance(value, (dict, list, tuple, Namespace, Unknown, Tensor, NumpyArray)):
            return self._single(value)
        if id(value) not in self.done:
            self.done[id(value)] = _Finisher  # in progress
            self.done[id(value)] = self._made(value)
        if self.done[id(value)] is _Finisher:
            raise UnsafeFileError("a container contains itself")
        return self.done[id(value)]

    def _single(self, value: Any) -> Any:
        if isinstance(value, NumpyScalar):
            return value.value
        return None if isinstance(value, (NumpyType, Storage, Maker)) else value

    def _made(self, value: Any) -> Any:
        self.budget.spend(size_of(value))
        if isinstance(value, NumpyArray) and value.unknown is not None:
            return Unknown(value.unknown.name)
        if isinstance(value, (Tensor, NumpyArray)):
            self.budget.show(value.size)
            return value.array()
        if isinstance(value, Unknown):
            return self._unknown(value)
        if isinstance(value, Namespace):
            return self.finish(value.values)
        if isinstance(value, dict):
            return {key: self.finish(item) for key, item in value.items()}
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], NumpyArray):
            return self.finish(value[1])  # Paddle's (tensor name, value)
        return type(value)(self.finish(item) for item in value)

    def _unknown(self, value: Unknown) -> Any:
        """Convert the values of an `Unknown`, which may refer to it; a torch module becomes its state dict."""
        made = self.done[id(value)] = Unknown(value.name)
        self.budget.spend(size_of(value.values))
        made.values = {key: self.finish(item) for key, item in value.values.items()}
        parts: List[Any] = [made.values.get(key) for key in ("_parameters", "_buffers", "_modules")]
        return self._state_dict(parts) if all(isinstance(part, dict) for part in parts) else made

    def _state_dict(self, parts: List[Dict[Any, Any]]) -> Dict[str, Any]:
        found = {str(name): item for part in parts[:2] for name, item in part.items() if item is not None}
        for child, below in parts[2].items():
            if isinstance(below, dict):
                self.budget.spend(size_of(below))
                found.update({f"{child}.{name}": item for name, item in below.items()})
        return found


def _join_slices(content: Any) -> Any:
    """Join parameters that Paddle has split because an object in a pickle of protocol 2 is limited to 4 GB."""
    if not isinstance(content, dict) or "UnpackBigParamInfor@@" not in content:
        return content
    cut = content.pop("UnpackBigParamInfor@@")
    for name, how in cut.items():
        parts = [content.pop(plain(part)) for part in how["slices"]]
        content[name] = np.concatenate([part.reshape(-1) for part in parts]).reshape(whole(how["OriginShape"]))
    return content
