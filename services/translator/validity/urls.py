"""Addresses of the web, as far as istiod takes them apart."""

from __future__ import annotations

import re

from services.translator.validity.parts import Part

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_IN_HOSTS = frozenset(" ^`{|}\\")
_WEB = frozenset({"http", "https"})


def scheme_of(url: str) -> str:
    """The scheme in lower case; "" without one."""
    found = _SCHEME.match(url)
    return found[1].lower() if found else ""


def is_written(url: str) -> bool:
    """Whether it has no letter and no escape that no address has."""
    start = url if "://" not in url else url.partition("://")[0]
    if url.startswith("::"):
        return False
    return not (
        _CONTROL.search(url) or _BROKEN_ESCAPE.search(url.partition("?")[0]) or " " in start
    )


def check_url(part: Part) -> None:
    """An address from which something is fetched by HTTP."""
    url = part.text
    if not url:
        return
    before, _, fragment = url.partition("#")
    place = before.partition("://")[2].partition("/")[0].partition("?")[0]
    is_sound = is_written(before) and not _BROKEN_ESCAPE.search(fragment)
    is_placed = _is_place(place.rpartition("@")[2]) and " " not in place
    if scheme_of(url) not in _WEB or not is_sound or not is_placed:
        part.tell("address-unreadable")


def _is_place(place: str) -> bool:
    """A host, perhaps with a port."""
    if place.startswith("["):
        host, bracket, port = place.partition("]")
        return bool(bracket) and ":" in host and (not port or _is_port(port))
    host, colon, port = place.partition(":")
    return not set(host) & _NOT_IN_HOSTS and (not colon or _is_port(f":{port}"))


def _is_port(text: str) -> bool:
    digits = text[1:]
    return text.startswith(":") and (not digits or (digits.isascii() and digits.isdigit()))
