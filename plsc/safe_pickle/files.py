"""The files that `torch.save` and `paddle.save` write.

Nothing takes more memory than a small multiple of the file. Source of the formats: `torch/serialization.py`,
`paddle/framework/io.py`.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional, Union

import numpy as np

from plsc.safe_pickle.machine import Machine, Maker, UnsafeFileError, plain
from plsc.safe_pickle.values import (
    TORCH_TYPES,
    Namespace,
    NumpyArray,
    NumpyScalar,
    NumpyType,
    Storage,
    Tensor,
    find,
)  # fmt: skip

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_SHARED = 16  # how many times over the tensors of a file may show its bytes: tied weights, views


def read_state_file(path: Union[str, Path]) -> Any:
    """The content of a file written by `paddle.save` or `torch.save` (zip or legacy).

    Returns:
        Nested dicts, lists, tuples, numbers and text, with numpy arrays for tensors; bfloat16 becomes float32.

    Raises:
        UnsafeFileError: If the file is truncated, of another format, or asks for anything else.
        OSError: If it cannot be read.
    """
    with open(path, "rb") as file:
        return _guarded(str(path), _Bounded(file))


def read_pickle(data: bytes, source: str) -> Any:
    """As `read_state_file`, of a pickle in memory.

    Args:
        data: The pickle.
        source: What to call it in messages.

    Raises:
        UnsafeFileError: If it is damaged, or asks for more than tensors and plain containers.
    """
    return _guarded(source, _Bounded(io.BytesIO(data)))


def _guarded(source: str, file: _Bounded) -> Any:
    try:
        return _read_torch_zip(file) if zipfile.is_zipfile(file.file) else _read_stream(file)
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{source}: {error}") from None
    except RecursionError:
        raise UnsafeFileError(f"{source}: nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle can fail anywhere
        reason = f"{type(error).__name__}: {error!s:.200}"
        raise UnsafeFileError(f"{source}: not a whole file of weights ({reason})") from None


class _Bounded:
    """A file that is asked for no more than it holds: a buffer of the size asked for is made before reading."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.readline, self.tell, self.seek = file.readline, file.tell, file.seek

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, self.size - self.file.tell()))


class _Storages(Dict[str, Storage]):
    """Tensors' bytes by key; together no more than the file has."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.left = limit

    def refer(self, identifier: Any) -> Storage:
        """The storage that a pickle refers to."""
        tag, kind, key, _, elements = identifier[:5]
        known = tag in ("storage", b"storage") and isinstance(kind, str) and kind in TORCH_TYPES
        if not known or not isinstance(key, (str, int)) or not isinstance(elements, int):
            raise UnsafeFileError("an unknown kind of reference")
        if str(key) not in self:
            storage = Storage(TORCH_TYPES[kind], elements)
            self.left -= storage.size
            if elements < 0 or self.left < 0:
                raise UnsafeFileError("its tensors are larger than the file; it is truncated or damaged")
            self[str(key)] = storage
        return self[str(key)]


def _read_torch_zip(file: _Bounded) -> Any:
    with zipfile.ZipFile(file.file) as archive:
        names = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(names) != 1:
            raise UnsafeFileError("a zip file, but not one of torch.save")
        root = names[0][: -len("data.pkl")]
        storages = _Storages(file.size)
        content = Machine(find, storages.refer).load(_Bounded(io.BytesIO(_member(archive, names[0]))))
        for key, storage in storages.items():
            storage.data = _member(archive, f"{root}data/{key}", storage.size)
    return _Finisher(file.size).finish(content)


def _member(archive: zipfile.ZipFile, name: str, size: Optional[int] = None) -> bytes:
    """A file in the archive. Nothing compressed is read: a few bytes of it can fill the memory."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise UnsafeFileError(f"{name:.80} is compressed, which torch.save never does, so it was not unpacked")
    if size is not None and info.file_size != size:
        raise UnsafeFileError(f"the tensor data {name:.80} has the wrong size")
    return archive.read(info)


def _read_stream(file: _Bounded) -> Any:
    file.seek(0)
    storages = _Storages(file.size)
    machine = Machine(find, storages.refer)
    first = machine.load(file)
    if not isinstance(first, int) or first != _LEGACY_MAGIC:
        return _join_slices(_Finisher(file.size).finish(first))
    for _ in range(2):  # protocol version, system information
        machine.load(file)
    content = machine.load(file)
    keys: List[Any] = machine.load(file)
    for key in keys:
        storage = storages[str(plain(key))]
        if int.from_bytes(file.read(8), "little") != storage.elements:
            raise UnsafeFileError("the file is truncated, or its tensors are in another order")
        storage.data = file.read(storage.size)
    return _Finisher(file.size).finish(content)


class _Finisher:
    """Makes plain containers with numpy arrays of what a pickle has built; each object once.

    Args:
        size: Bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self.left = _SHARED * size
        self.done: Dict[int, Any] = {}

    def finish(self, value: Any) -> Any:
        """The finished value.

        Raises:
            UnsafeFileError: If a container holds itself, or arrays show the file's bytes over and over.
        """
        if not isinstance(value, (dict, list, tuple, Namespace, Tensor, NumpyArray)):
            return self._single(value)
        if id(value) not in self.done:
            self.done[id(value)] = _Finisher  # open
            self.done[id(value)] = self._made(value)
        if self.done[id(value)] is _Finisher:
            raise UnsafeFileError("a container that holds itself")
        return self.done[id(value)]

    def _single(self, value: Any) -> Any:
        if isinstance(value, NumpyScalar):
            return value.value
        return None if isinstance(value, (NumpyType, Storage, Maker)) else value

    def _made(self, value: Any) -> Any:
        if isinstance(value, (Tensor, NumpyArray)):
            array = value.array()
            self.left -= array.nbytes
            if self.left < 0:
                raise UnsafeFileError("its tensors show the same bytes over and over, and would fill the memory")
            return array
        if isinstance(value, Namespace):
            return self.finish(value.values)
        if isinstance(value, dict):
            return {key: self.finish(item) for key, item in value.items()}
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], NumpyArray):
            return self.finish(value[1])  # Paddle's (tensor name, value)
        return type(value)(self.finish(item) for item in value)


def _join_slices(content: Any) -> Any:
    """Puts together what Paddle cut because a pickle of protocol 2 cannot hold more than 4 GB at once."""
    if not isinstance(content, dict) or "UnpackBigParamInfor@@" not in content:
        return content
    cut = content.pop("UnpackBigParamInfor@@")
    for name, how in cut.items():
        parts = [content.pop(part) for part in how["slices"]]
        content[name] = np.concatenate([part.reshape(-1) for part in parts]).reshape(how["OriginShape"])
    return content
