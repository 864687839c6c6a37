"""What a route of HTTP matches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from services.translator.validity.names import check_labels, check_matched_header, is_label
from services.translator.validity.parts import Part
from services.translator.validity.traffic.destinations import check_gateway_names
from services.translator.validity.values import check_match, check_port


def check_http_match(match: Part) -> None:
    """All that a match asks for."""
    for name, part in match.fields():
        check = _CHECKS.get(name)
        if check is not None and part:
            check(part)


def _check_headers(headers: Part) -> None:
    for name, value in headers.fields():
        check_matched_header(value, name)
        check_match(value)


def _check_parameters(parameters: Part) -> None:
    for _, value in parameters.fields():
        check_match(value)


def _check_port(port: Part) -> None:
    if port.number:
        check_port(port)


def _check_namespace(namespace: Part) -> None:
    if namespace.text and not is_label(namespace.text):
        namespace.tell("namespace-malformed", name=namespace.text)


_CHECKS: Mapping[str, Callable[[Part], None]] = MappingProxyType(
    {
        "authority": check_match,
        "gateways": check_gateway_names,
        "headers": _check_headers,
        "method": check_match,
        "port": _check_port,
        "queryParams": _check_parameters,
        "scheme": check_match,
        "sourceLabels": check_labels,
        "sourceNamespace": _check_namespace,
        "uri": lambda uri: check_match(uri, may_be_any=True),
        "withoutHeaders": _check_headers,
    }
)
"""The check of each field of a match."""
