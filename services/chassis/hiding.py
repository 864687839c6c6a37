"""Values of an object that nobody has to read: keyed hashes stand in their place.

ConfigMaps, environment variables, arguments of programs, annotations, plugins' settings, and what
kinds that neither Kubernetes nor a mesh defines hold beside their metadata: passwords and tokens
are found in all of them. An equal value is still known by its hash to whoever has the key, so a
change is seen; the value itself is not, and without the key it cannot be guessed and tried.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

import orjson

KEY_BYTES = 32
_MARK = "meshbus:hidden:"
_CONFIG_MAP = "/ConfigMap"
_DEFINITION = "apiextensions.k8s.io/CustomResourceDefinition"
_KNOWN_GROUPS = ("", "apps", "batch", "autoscaling", "policy", "extensions")
_KNOWN_ENDS = (".k8s.io", ".x-k8s.io", ".istio.io")
_PRIVATE = re.compile(
    r"(\A|[.\]])(env(\[[^\]]*\])+\.value\Z|(args|command|pluginConfig)\b"
    r"|metadata\.annotations\b)"
)
_METADATA = re.compile(r"(apiVersion|kind|metadata)\b")
_IDENTITY = re.compile(r"(apiVersion|kind|metadata)\b|.*[.\]](name|type|port|protocol)\Z")
"""Also what the items of a list are mostly known by: drift finds its item by them."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]+\Z")


def is_hidden(kind: str, path: str) -> bool:
    """Whether the value at a readable path, such as `spec.containers[0].env[1].value`, is nobody's
    business; `kind` is `group/Kind`."""
    if kind == _CONFIG_MAP and not _METADATA.match(path):
        return True
    if _is_foreign(kind) and not _IDENTITY.match(path):
        return True
    return bool(_PRIVATE.search(path))


def field_under(path: str, name: str) -> str:
    """The path of a field; names with dots and slashes stand in brackets."""
    if not _PLAIN.match(name):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name


def concealed(kind: str, obj: Any, *, key: bytes) -> Any:
    """A copy with hashes in the place of hidden values; `obj` itself when it has none.

    Of a definition nothing: what it says about fields is no value of anybody's, and to open all of
    them takes as long as all else of an install that finds everything there.
    """
    if kind == _DEFINITION:
        return obj
    return _concealed(kind, obj, path="", key=key)


def revealed(wanted: Any, found: Any, *, key: bytes | None) -> Any:
    """`wanted` with the values of `found` in the place of their hashes; a hash that stands for
    another value stays. Without the key nobody can tell, and every value counts as equal."""
    if isinstance(wanted, str) and wanted.startswith(_MARK):
        if not isinstance(found, (str, bool, int, float)):
            return wanted
        return found if key is None or _mark(found, key) == wanted else wanted
    if isinstance(wanted, dict) and isinstance(found, dict):
        return {n: revealed(v, found.get(n), key=key) for n, v in wanted.items()}
    if isinstance(wanted, list) and isinstance(found, list):
        others = [*found, *[None] * (len(wanted) - len(found))]
        return [revealed(a, b, key=key) for a, b in zip(wanted, others, strict=False)]
    return wanted


def restored(part: Any, whole: Any, *, concealed: Any) -> Any:
    """`part` of an object with the values of `whole` in the place of their hashes.

    Lists may lack items, as a part leaves fields to others: an item is known by its form in the
    `concealed` whole.
    """
    if isinstance(part, str) and part.startswith(_MARK) and part == concealed:
        return whole
    if isinstance(part, dict) and isinstance(whole, dict) and isinstance(concealed, dict):
        return {
            name: restored(value, whole.get(name), concealed=concealed.get(name))
            for name, value in part.items()
        }
    if isinstance(part, list) and isinstance(whole, list) and isinstance(concealed, list):
        return _restored_items(part, whole, concealed)
    return part


def _restored_items(part: list[Any], whole: list[Any], hidden: list[Any]) -> list[Any]:
    """Items in their order; those that were left out entirely are skipped."""
    if len(part) == len(whole):
        pairs = zip(part, whole, hidden, strict=True)
        return [restored(item, full, concealed=form) for item, full, form in pairs]
    items, at = [], 0
    for item in part:
        at = next((i for i in range(at, len(hidden)) if hidden[i] == item), at)
        if at >= len(whole):
            return part
        items.append(restored(item, whole[at], concealed=hidden[at]))
        at += 1
    return items


def _is_foreign(kind: str) -> bool:
    """Whether neither Kubernetes nor a mesh defines the kind."""
    group = kind.rpartition("/")[0]
    return not (group in _KNOWN_GROUPS or group.endswith(_KNOWN_ENDS))


def _concealed(kind: str, value: Any, *, path: str, key: bytes) -> Any:
    if isinstance(value, dict):
        fields = {
            name: _concealed(kind, item, path=field_under(path, name), key=key)
            for name, item in value.items()
        }
        return fields if any(fields[name] is not value[name] for name in value) else value
    if isinstance(value, list):
        items = [
            _concealed(kind, item, path=f"{path}[{index}]", key=key)
            for index, item in enumerate(value)
        ]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if value is None or value == "" or isinstance(value, bool) or not is_hidden(kind, path):
        return value
    return _mark(value, key)


def _mark(value: Any, key: bytes) -> str:
    return _MARK + blake2b(orjson.dumps(value), key=key, digest_size=16).hexdigest()
