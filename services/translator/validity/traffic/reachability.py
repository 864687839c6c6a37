"""Whether the routes of a VirtualService can be reached: the first one that matches answers.

Nothing here is refused; a request never comes to a match that an earlier one covers.
"""

from __future__ import annotations

from typing import Any

import orjson

from services.translator.validity.parts import Part

_PLAIN_FIELDS = frozenset({"uri", "ignoreUriCase", "name"})


def check_reachable(spec: Part) -> None:
    """Tells of routes, and of matches in them, that an earlier one leaves nothing."""
    for protocol in ("http", "tls", "tcp"):
        _check_order(list(spec[protocol]), is_http=protocol == "http")


def _check_order(routes: list[Part], *, is_http: bool) -> None:
    known: set[bytes] = set()
    prefixes: set[str] = set()
    for place, route in enumerate(routes):
        matches = list(route["match"])
        if not matches:
            if place < len(routes) - 1:
                route.tell("route-takes-all")
            continue
        covered = 0
        for match in matches:
            key = _key(match)
            if key in known:
                match.tell("match-covered")
                covered += 1
            elif is_http and _is_below(match, prefixes):
                match.tell("match-below")
            known.add(key)
            if is_http and match["uri"]["prefix"].text and _is_plain(match):
                prefixes.add(match["uri"]["prefix"].text)
        if covered == len(matches):
            route.tell("route-covered")


def _key(match: Part) -> bytes:
    """What a match asks for, as text that is the same for the same."""
    value: Any = match.value
    if isinstance(value, dict):
        value = {name: part for name, part in value.items() if name != "name"}
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return repr(value).encode()


def _is_plain(match: Part) -> bool:
    """Whether nothing but the path is asked for."""
    return isinstance(match.value, dict) and match.value.keys() <= _PLAIN_FIELDS


def _is_below(match: Part, prefixes: set[str]) -> bool:
    """Whether its path begins with a prefix that an earlier match has taken whole."""
    uri = match["uri"]
    path = uri["prefix"].text or uri["exact"].text
    return any(path[:length] in prefixes for length in range(2, min(len(path), 256) + 1))
