"""Writer of `torch.save` files of plain tensors without torch: a zip with a pickle of protocol 2 and raw storages."""

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Dict, Mapping

import numpy as np

_STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


def write_torch_file(path: Path, state: Mapping[str, np.ndarray], **others: Mapping[str, np.ndarray]) -> None:
    """Write `{"model": state}` so that `torch.load` reads it, also with `weights_only=True`.

    Args:
        path: File to write.
        state: Arrays by name.
        others: Further entries beside `model`, of the same kind.

    Raises:
        ValueError: If an array has a type that torch does not have.
    """
    entries = {
        entry: {name: np.array(value, order="C") for name, value in tensors.items()}
        for entry, tensors in {"model": state, **others}.items()
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", _pickle(entries))
        archive.writestr("archive/byteorder", "little")
        for key, value in enumerate(value for arrays in entries.values() for value in arrays.values()):
            archive.writestr(f"archive/data/{key}", value.astype(value.dtype.newbyteorder("<")).tobytes())
        archive.writestr("archive/version", "3\n")


def _pickle(entries: Dict[str, Dict[str, np.ndarray]]) -> bytes:
    content, key = pickle.PROTO + b"\x02" + pickle.EMPTY_DICT, 0
    for entry, arrays in entries.items():
        items = b"".join(_text(name) + _tensor(key + i, value) for i, (name, value) in enumerate(arrays.items()))
        content += _text(entry) + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.SETITEM
        key += len(arrays)
    return content + pickle.STOP


def _tensor(key: int, value: np.ndarray) -> bytes:
    kind = _STORAGES.get(value.dtype.name)
    if kind is None:
        raise ValueError(f"torch has no tensors of the type {value.dtype}")
    strides = [step // value.itemsize for step in value.strides]
    storage = _tuple(_text("storage"), _name("torch", kind), _text(str(key)), _text("cpu"), _number(value.size))
    hooks = _name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    arguments = _tuple(
        storage + pickle.BINPERSID,
        _number(0),
        _tuple(*map(_number, value.shape)),
        _tuple(*map(_number, strides)),
        pickle.NEWFALSE,
        hooks,
    )
    return _name("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    encoded = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _number(value: int) -> bytes:
    if value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + struct.pack("<B", len(encoded)) + encoded
