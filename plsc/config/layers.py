"""Merge of config layers."""

from __future__ import annotations

from plsc.config.tree import ConfigError, ConfigMap

DELETE_KEY = "_delete_"


def merge(base: ConfigMap, layer: ConfigMap) -> ConfigMap:
    """Merge `layer` into `base` in place and return `base`: mappings merge, all other values replace.

    Raises:
        ConfigError: If the value of `_delete_` is not true.
    """
    for key in sorted(layer, key=lambda key: key != "name"):  # `name` first: older keys belong to another component
        value = layer[key]
        if isinstance(value, ConfigMap):
            replaces = _takes_delete(value)
            old = base.get(key)
            value = merge(old if isinstance(old, ConfigMap) and not replaces else ConfigMap(value.origin), value)
            if value is old:
                continue
        base.put(key, value, layer.origins[key])
    return base


def _takes_delete(mapping: ConfigMap) -> bool:
    if DELETE_KEY not in mapping:
        return False
    origin = mapping.origins.pop(DELETE_KEY)
    value = mapping.pop(DELETE_KEY)
    if value is not True:
        raise ConfigError(f"{origin}: {DELETE_KEY} can only be true, got {value!r}")
    return True
