"""JSON output by the standard, which does not allow the NaN and infinity that Python writes."""

import json
import math
from typing import Any, Optional


def dumps(value: Any, indent: Optional[int] = None) -> str:
    """Return plain data as JSON text; numbers that are not finite become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
