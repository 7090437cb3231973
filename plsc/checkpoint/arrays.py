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
    """A checkpoint that is missing, damaged, or of something else."""


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray], metadata: Optional[Dict[str, str]] = None) -> None:
    """Writes arrays by name as a safetensors file.

    Raises:
        OSError: If that is not possible; safetensors has an error of its own.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, file, metadata)
    except SafetensorError as error:
        found = re.search(r"(?:os error |code: )(\d+)", str(error))  # as newer and older versions say it
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, f"{file.name}: {os.strerror(number) if found else error}") from error


def read_safetensors(file: Path) -> Dict[str, np.ndarray]:
    """The arrays of a safetensors file.

    Raises:
        CheckpointError: If it is damaged, or holds numbers of a type that numpy does not have.
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
    """As `read_safetensors`, with bfloat16, which numpy does not have, as float32, which holds it exactly.

    Raises:
        CheckpointError: If it holds another type that numpy does not have.
    """
    from safetensors import SafetensorError, deserialize

    arrays = {}
    try:
        for name, said in deserialize(file.read_bytes()):
            kind, raw = said["dtype"], said["data"]
            values = np.frombuffer(raw, _SAFETENSORS_TYPES[kind])
            values = (values.astype("<u4") << 16).view("<f4") if kind == "BF16" else values
            arrays[name] = values.reshape(said["shape"])
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from None
    except KeyError as error:
        raise CheckpointError(
            f"{file} holds numbers of a type that numpy does not have ({error}); save them as float32"
        ) from None
    return arrays
