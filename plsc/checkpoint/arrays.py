"""Arrays by name in safetensors files."""

import errno
import os
import re
from pathlib import Path
from typing import Dict, Mapping, Optional

import numpy as np

from plsc.errors import PlscError

_SAFETENSORS_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?",
}  # fmt: skip


class CheckpointError(PlscError, ValueError):
    """A checkpoint is missing, damaged, or of another kind or model."""


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray], metadata: Optional[Dict[str, str]] = None) -> None:
    """Write arrays by name as a safetensors file.

    Raises:
        OSError: If the file cannot be written; errors of safetensors are converted.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, file, metadata)
    except SafetensorError as error:
        found = re.search(r"(?:os error |code: )(\d+)", str(error))  # in newer and older versions
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, f"{file.name}: {os.strerror(number) if found else error}") from error


def read_safetensors(file: Path) -> Dict[str, np.ndarray]:
    """Read the arrays of a safetensors file.

    Raises:
        CheckpointError: If it is damaged, or has values of a type that numpy does not have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from None
    except Exception:  # noqa: BLE001 - which one depends on the version of safetensors
        return _read_with_bfloat16(file)


def _read_with_bfloat16(file: Path) -> Dict[str, np.ndarray]:
    """Read a safetensors file with bfloat16, which numpy does not have; it becomes float32, which is exact.

    Raises:
        CheckpointError: If it has values of another type that numpy does not have.
    """
    from safetensors import SafetensorError, deserialize

    arrays = {}
    try:
        for name, entry in deserialize(file.read_bytes()):
            kind, raw = entry["dtype"], entry["data"]
            values = np.frombuffer(raw, _SAFETENSORS_TYPES[kind])
            values = (values.astype("<u4") << 16).view("<f4") if kind == "BF16" else values
            arrays[name] = values.reshape(entry["shape"])
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from None
    except KeyError as error:
        raise CheckpointError(
            f"{file} has values of a type that numpy does not have ({error}); save them as float32"
        ) from None
    return arrays
