"""Checksums of the code of a run: the files of plsc and of its plug-ins."""

import sys
import zlib
from pathlib import Path
from typing import Dict, Iterable, Iterator, Tuple

PACKAGE = Path(__file__).resolve().parent.parent


def source_digests(plugins: Iterable[str] = ()) -> Dict[str, str]:
    """Return the checksum of every source file of plsc and of imported plug-ins.

    A plug-in includes all imported modules of its package, or of its folder if the plug-in is a single file.

    Args:
        plugins: Names of imported modules.

    Returns:
        CRC-32 in hexadecimal digits by path relative to the folder of the package, such as `plsc/engine/run.py`.
    """
    found = {str(path.relative_to(PACKAGE.parent)): path for path in PACKAGE.rglob("*.py")}
    for plugin in plugins:
        found.update(_files(plugin))
    return {name: f"{zlib.crc32(path.read_bytes()):08x}" for name, path in sorted(found.items())}


def _files(plugin: str) -> Iterator[Tuple[str, Path]]:
    """Yield the names and paths of the source files of a plug-in."""
    top = plugin.partition(".")[0]
    file = getattr(sys.modules.get(plugin), "__file__", None)
    for name, module in list(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "")
        if path.suffix != ".py" or not path.is_file():
            continue
        beside = top == plugin and file is not None and path.parent == Path(file).parent
        if name.partition(".")[0] == top or beside:
            yield f"{name.replace('.', '/')}.py", path
