"""Public keys in a RequestAuthentication: a JWK or a set of them, as istiod reads it."""

from __future__ import annotations

from typing import Any

from services.chassis.errors import MeshbusError
from services.chassis.reading.jsons import read_json
from services.translator.istio.objects import mapping, text
from services.translator.validity.parts import Part

_NEEDED = {
    "RSA": ("n", "e"),
    "EC": ("crv", "x", "y"),
    "OKP": ("crv", "x"),
    "oct": ("k",),
}
_PRIVATE = frozenset({"d", "k"})


def check_keys(keys: Part) -> None:
    """Whether they can be read, and whether a private one is among them."""
    try:
        value: Any = read_json(keys.text)
    except (ValueError, MeshbusError):
        keys.tell("keys-unreadable")
        return
    if not isinstance(value, dict):
        keys.tell("keys-unreadable")
        return
    given = value.get("keys", [value])
    for one in given if isinstance(given, list) else [given]:
        key = mapping(one)
        needed = _NEEDED.get(text(key.get("kty")))
        if needed is None or not all(isinstance(key.get(name), str) for name in needed):
            keys.tell("keys-unreadable")
        elif key.keys() & _PRIVATE:
            keys.tell("keys-private")
