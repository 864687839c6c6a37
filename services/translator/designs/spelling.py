"""Prettified keys: `cors Policy` for `corsPolicy`, as Meshery's forms show fields.

Meshery's prettifier (meshkit, utils/manifests) puts a blank before each word that begins with a
capital, and its server takes the blanks out again before it calls an adapter, as a rule. So a key
is a prettified field when each of its blanks stands before a capital. Keys of maps that belong to
the user (labels, a ConfigMap's data, headers) are never looked at, because there a blank may be
meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Blanks after a small letter or digit, or after a capital that ends an acronym (`external I Ps`).
_PRETTIFIED = re.compile(r"[A-Za-z](?:[A-Za-z0-9]|(?<=[a-z0-9]) (?=[A-Z])|(?<=[A-Z]) (?=[A-Z]))*\Z")
# Meshery's dictionary of exceptions.
_EXCEPTIONS = {"CA Bundle": "caBundle", "Mesh Sync": "meshSync"}

# All that stands below these is the user's, however deep.
_FREE = frozenset(
    {
        "annotations",
        "binaryData",
        "data",
        "openAPIV3Schema",
        "parameters",
        "pluginConfig",
        "stringData",
        "value",
        "values",
        "volumeAttributes",
    }
)
# Maps with the user's keys; their values have fields again.
_MAPS = frozenset(
    {
        "add",
        "customTags",
        "environmentVariables",
        "headers",
        "labels",
        "limits",
        "matchLabels",
        "nodeSelector",
        "queryParams",
        "requests",
        "set",
        "setHeaders",
        "sourceLabels",
        "tagOverrides",
        "withoutHeaders",
    }
)


def plain_key(key: str) -> str:
    """The field's real name; any other key as it is."""
    if " " not in key:
        return key
    if key in _EXCEPTIONS:
        return _EXCEPTIONS[key]
    if not _PRETTIFIED.match(key):
        return key
    first, *others = key.split(" ")
    # A form's title begins with a capital, a field of Kubernetes never does.
    first = first.lower() if first.isupper() else first[0].lower() + first[1:]
    return first + "".join(others)


def plain(value: Any, *, twice: Callable[[str], None]) -> Any:
    """`value` with the fields' real names; `twice` is told of a field that stands there twice."""
    return _plain(value, is_map=False, twice=twice)


def _plain(value: Any, *, is_map: bool, twice: Callable[[str], None]) -> Any:
    if isinstance(value, list):
        return [_plain(item, is_map=False, twice=twice) for item in value]
    if not isinstance(value, dict):
        return value
    result: dict[str, Any] = {}
    for key, part in value.items():
        name = key if is_map else plain_key(key)
        if name in result:
            twice(name)
        if not is_map and name in _FREE and isinstance(part, dict | list):
            result[name] = part
        else:
            result[name] = _plain(part, is_map=not is_map and name in _MAPS, twice=twice)
    return result
