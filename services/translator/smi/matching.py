"""Matches of an HTTPRouteGroup as conditions of a route.

A path that is plain text becomes a prefix or an exact path, which means the same and is cheaper to
match; everything else stays the regular expression that it is.
"""

from __future__ import annotations

from typing import Any

from services.translator.smi.models import HttpMatch
from services.translator.smi.patterns import Wild, anchored, path_forms, value_forms

HOST = "host"
"""The header that HTTP/2 and Envoy know as the authority."""


def virtual_service_match(match: HttpMatch) -> dict[str, Any]:
    """The condition of a VirtualService's HTTP route; {} fits every request."""
    condition: dict[str, Any] = {}
    uri = _string_match(match.path_regex)
    if uri:
        condition["uri"] = uri
    if match.methods:
        regex = "|".join(match.methods)
        kind = "exact" if len(match.methods) == 1 else "regex"
        condition["method"] = {kind: regex}
    headers = {name: _value_match(pattern) for name, pattern in match.headers}
    authority = headers.pop(HOST, None)
    if authority:
        condition["authority"] = authority
    if headers:
        condition["headers"] = headers
    return condition


def _string_match(path_regex: str | None) -> dict[str, str]:
    forms = path_forms(path_regex) if path_regex is not None else ((Wild.ANY,),)
    match forms:
        case ((Wild.ANY,),):
            return {}
        case ((str(text),),):
            return {"exact": text}
        case ((str(text), Wild.ANY),):
            return {"prefix": text}
    return {"regex": anchored(path_regex or "")}


def _value_match(pattern: str) -> dict[str, str]:
    match value_forms(pattern):
        case ((str(text),),):
            return {"exact": text}
    return {"regex": pattern}


def http_route_matches(match: HttpMatch) -> list[dict[str, Any]]:
    """The conditions of an HTTPRoute's rule, of which one has to fit: a method has one each."""
    condition: dict[str, Any] = {}
    path = _path_match(match.path_regex)
    if path:
        condition["path"] = path
    if match.headers:
        condition["headers"] = [_header_match(*header) for header in match.headers]
    if not match.methods:
        return [condition]
    return [{**condition, "method": method} for method in match.methods]


def _path_match(path_regex: str | None) -> dict[str, str]:
    """A PathPrefix goes by whole elements of the path, so only `/x(/.*)?$` and its kin are one."""
    if path_regex is None:
        return {}
    forms = path_forms(path_regex) or ()
    match forms:
        case ((Wild.ANY,),):
            return {}
        case ((str(text),),) if _is_plain_path(text):
            return {"type": "Exact", "value": text}
    if len(forms) == 2:
        exact, deeper = sorted(forms, key=len)
        match exact, deeper:
            case ((str(text),), (str(prefix), Wild.ANY)) if prefix == f"{text}/":
                if _is_plain_path(text) and not text.endswith("/"):
                    return {"type": "PathPrefix", "value": text}
    return {"type": "RegularExpression", "value": anchored(path_regex)}


def _is_plain_path(text: str) -> bool:
    """Whether the Gateway API takes it for an Exact or PathPrefix path; it is strict about them."""
    elements = text.split("/")
    return (
        text.startswith("/")
        and text.isascii()
        and "//" not in text
        and not {".", ".."} & set(elements)
        and all(letter.isalnum() or letter in "-/._~!$&'()*+,;=:@" for letter in text)
    )


def _header_match(name: str, pattern: str) -> dict[str, str]:
    value = _value_match(pattern)
    kind = "Exact" if "exact" in value else "RegularExpression"
    return {"type": kind, "name": name, "value": next(iter(value.values()))}
