"""Routes of HTTP: what they do and change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from services.translator.validity.names import (
    check_header,
)
from services.translator.validity.parts import Part
from services.translator.validity.traffic.destinations import (
    check_destination,
    check_weights,
)
from services.translator.validity.traffic.matches import check_http_match
from services.translator.validity.values import (
    check_expression,
    check_fine_percent,
    check_percent,
    check_port,
    check_time,
)

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"}
)
_RETRY_CONDITIONS = frozenset(
    {
        *("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure"),
        *("envoy-ratelimited", "retriable-4xx", "refused-stream", "retriable-status-codes"),
        *("retriable-headers", "http3-post-connect-failure", "cancelled", "deadline-exceeded"),
        *("internal", "resource-exhausted", "unavailable"),
    }
)
_RETRY_SETTINGS = (
    *("perTryTimeout", "retryOn", "backoff"),
    *("retryRemoteLocalities", "retryIgnorePreviousHosts"),
)
_GRPC_STATUSES = frozenset(
    {
        *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
        *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
        *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
        "UNAUTHENTICATED",
    }
)
_STATUSES = range(200, 601)
_LARGEST_BODY = 1024 * 1024
# `%%`, or a command of Envoy's, which may have an argument or a list of texts.
_COMMAND = re.compile(
    r"""%[^(%]*(?:%|\((?:\[\s*"(?:[^"\\]|\\.)*"\s*(?:,\s*"(?:[^"\\]|\\.)*"\s*)*\]\s*\)"""
    r"""|[^\[][^)]*\))\s*%)""",
    re.S,
)


def check_http_route(route: Part, *, is_delegate: bool) -> None:
    """One route; `is_delegate` where it is part of another VirtualService's."""
    if is_delegate and route["delegate"]:
        route["delegate"].tell("delegate-of-delegate")
    elif route["delegate"]:
        for name in ("route", "redirect"):
            if route[name].has_items or (name == "redirect" and route[name]):
                route[name].tell("delegated-and-done", field=name)
    else:
        _check_what_is_done(route)
    for name, part in route.fields():
        check = _CHECKS.get(name)
        if check is not None and part:
            check(part)
    for match in route["match"]:
        check_http_match(match)
    if route["mirror"]:
        route.tell_if_both("mirror-twice", "mirror", "mirrors")
    if route["headers"]:
        _check_authorities(route)


def _check_what_is_done(route: Part) -> None:
    """A route leads somewhere, redirects or answers, and only one of these."""
    answers = [name for name in ("redirect", "directResponse") if route[name]]
    if not answers and not route["route"].has_items:
        route.tell("route-without-action")
    if len(answers) > 1:
        route[answers[1]].tell("actions-excluded", one=answers[0], other=answers[1])
    for answer in answers:
        for name in ("route", "fault", "rewrite"):
            if route[name].has_items or (name != "route" and route[name]):
                route[name].tell("actions-excluded", one=answer, other=name)


def _check_destinations(routes: Part) -> None:
    for route in routes:
        check_destination(route["destination"])
        if route["headers"]:
            _check_headers(route["headers"])
    check_weights(routes)


def _check_fault(fault: Part) -> None:
    delay, abort = fault["delay"], fault["abort"]
    if not delay and not abort:
        fault.tell("fault-empty")
    check_time(delay["fixedDelay"])
    if delay["exponentialDelay"]:
        delay["exponentialDelay"].tell("not-supported")
    for part in (delay, abort):
        check_fine_percent(part["percentage"]["value"])
    if abort["http2Error"]:
        abort["http2Error"].tell("not-supported")
    if abort["httpStatus"]:
        _check_status(abort["httpStatus"])
    if abort["grpcStatus"] and abort["grpcStatus"].text not in _GRPC_STATUSES:
        abort["grpcStatus"].tell("grpc-status-unknown", name=abort["grpcStatus"].text)


def _check_status(status: Part) -> None:
    if status.number not in _STATUSES:
        status.tell("status-out-of-range")


def _check_redirect(redirect: Part) -> None:
    is_elsewhere = any(redirect[name].text for name in ("uri", "authority", "scheme"))
    if not is_elsewhere and not redirect["port"] and not redirect["derivePort"]:
        redirect.tell("redirect-empty")
    code = redirect["redirectCode"].number
    if code and not 300 <= code < 400:
        redirect["redirectCode"].tell("redirect-code")
    if redirect["scheme"].text not in ("", "http", "https"):
        redirect["scheme"].tell("redirect-scheme")
    if redirect["port"]:
        check_port(redirect["port"])


def _check_direct_response(response: Part) -> None:
    _check_status(response["status"])
    for form in ("string", "bytes"):
        body = response["body"][form]
        size = len(body.text.encode()) if form == "string" else len(body.text) * 3 // 4
        if size >= _LARGEST_BODY:
            body.tell("body-too-large")


def _check_rewrite(rewrite: Part) -> None:
    expression = rewrite["uriRegexRewrite"]
    if not rewrite["uri"].text and not rewrite["authority"].text and not expression:
        rewrite.tell("rewrite-empty")
    if rewrite["uri"].text and expression:
        expression.tell("rewrite-twice")
    if expression:
        for name in ("match", "rewrite"):
            if not expression[name].text:
                expression[name].tell("rewrite-incomplete")
        check_expression(expression["match"])


def _check_mirrors(mirrors: Part) -> None:
    for mirror in mirrors:
        check_destination(mirror["destination"])
        check_percent(mirror["percentage"]["value"])


def _check_former_share(share: Part) -> None:
    check_percent(share)
    share.tell("mirror-percent-former")


def _check_cors(policy: Part) -> None:
    for origin in policy["allowOrigins"]:
        if not any(origin[form].text for form in ("exact", "prefix", "regex")):
            origin.tell("origin-empty")
        elif origin["regex"].text:
            check_expression(origin["regex"])
    for method in policy["allowMethods"]:
        if method.text not in _METHODS:
            method.tell("method-unknown", name=method.text)
    for name in ("allowHeaders", "exposeHeaders"):
        for header in policy[name]:
            if header.text != "*":
                check_header(header)
    check_time(policy["maxAge"], at_least_a_second=True)


def _check_retries(retries: Part) -> None:
    attempts = retries["attempts"].number
    if attempts < 0:
        retries["attempts"].tell("negative")
    if not attempts and any(retries[name] for name in _RETRY_SETTINGS):
        retries["attempts"].tell("retries-off-but-set")
    check_time(retries["perTryTimeout"])
    check_time(retries["backoff"])
    conditions = retries["retryOn"].text
    for condition in conditions.split(",") if conditions else ():
        if condition not in _RETRY_CONDITIONS and not _is_status(condition):
            retries["retryOn"].tell("retry-condition-unknown", name=condition or '""')


def _is_status(text: str) -> bool:
    """Whether it is a status that HTTP has a name for."""
    digits = text.removeprefix("+")
    return digits.isascii() and digits.isdigit() and int(digits[-9:]) in _KNOWN_STATUSES


_KNOWN_STATUSES = frozenset(
    {
        *(100, 101, 102, 103, *range(200, 209), 226, *range(300, 306), 307, 308),
        *(*range(400, 419), *range(421, 427), 428, 429, 431, 451, *range(500, 509), 510, 511),
    }
)


def _check_headers(headers: Part) -> None:
    for direction, changes in headers.fields():
        for kind in ("set", "add"):
            for name, value in changes[kind].fields():
                _check_header_change(value, name, may_be_host=direction == "request")
                if not _is_format(value.text):
                    value.tell("header-value-format")
        for name_part in changes["remove"]:
            _check_header_change(name_part, name_part.text, may_be_host=False)


def _is_format(text: str) -> bool:
    """Whether every percent sign begins or ends something; the first one that does not ends it."""
    place = text.find("%")
    while place >= 0:
        found = _COMMAND.match(text, place)
        if found is None:
            return False
        place = text.find("%", found.end())
    return True


def _check_header_change(part: Part, name: str, *, may_be_host: bool) -> None:
    if not name:
        part.tell("header-empty")
    elif may_be_host and _is_authority(name):
        return
    elif name.startswith(":") or name.lower() == "host":
        part.tell("header-reserved", name=name)


def _is_authority(name: str) -> bool:
    return name.lower() in ("host", ":authority")


def _check_authorities(route: Part) -> None:
    """The authority of a request can be set once: by a rewrite, or by a header."""
    set_by = [
        value
        for kind in ("set", "add")
        for name, value in route["headers"]["request"][kind].fields()
        if _is_authority(name)
    ]
    is_rewritten = bool(route["rewrite"]["authority"].text)
    for value in set_by if is_rewritten else set_by[1:]:
        value.tell("authority-twice")


_CHECKS: Mapping[str, Callable[[Part], None]] = MappingProxyType(
    {
        "corsPolicy": _check_cors,
        "directResponse": _check_direct_response,
        "fault": _check_fault,
        "headers": _check_headers,
        "mirror": check_destination,
        "mirrorPercent": _check_former_share,
        "mirrorPercentage": lambda share: check_percent(share["value"]),
        "mirrors": _check_mirrors,
        "redirect": _check_redirect,
        "retries": _check_retries,
        "rewrite": _check_rewrite,
        "route": _check_destinations,
        "timeout": check_time,
    }
)
"""The check of each field of a route."""
