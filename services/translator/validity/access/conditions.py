"""Conditions of an AuthorizationPolicy: attributes of a request and their values."""

from __future__ import annotations

from services.translator.validity.parts import Part
from services.translator.validity.values import check_address_or_subnet

_ADDRESSES = frozenset({"source.ip", "remote.ip", "destination.ip"})
_TEXTS = frozenset(
    {
        *("source.namespace", "source.principal", "source.trustDomain", "connection.sni"),
        "source.serviceAccount",
        *("request.auth.principal", "request.auth.audiences", "request.auth.presenter"),
    }
)
_KEYED = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")
_ACCOUNT = "source.serviceAccount"
_NOT_CUSTOM = (
    *("source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain"),
    "request.auth.",
)
_LARGEST_PORT = 65535


def check_values(values: Part) -> None:
    """Texts of a list: none is empty."""
    for value in values:
        if not value.text:
            value.tell("text-empty")


def check_condition(condition: Part, *, is_custom: bool) -> None:
    """One condition; `is_custom` where an external service decides."""
    key = condition["key"]
    if not key.text:
        key.tell("condition-without-key")
        return
    if not condition["values"].has_items and not condition["notValues"].has_items:
        condition.tell("condition-without-values")
    if not _is_known(key.text):
        key.tell("condition-key-unknown", key=key.text)
    elif is_custom and key.text.startswith(_NOT_CUSTOM):
        key.tell("custom-unsupported", name=key.text)
    for name in ("values", "notValues"):
        check_values(condition[name])
        for value in condition[name]:
            _check_value(value, key.text)


def _is_known(key: str) -> bool:
    if key.startswith(_KEYED):
        start = key.find("[")
        return 0 < start < len(key) - 2 and key.endswith("]")
    return key in _ADDRESSES or key in _TEXTS or key == "destination.port"


def _check_value(value: Part, key: str) -> None:
    if key in _ADDRESSES:
        check_address_or_subnet(value)
    elif key == "destination.port":
        check_port_text(value)
    elif key == _ACCOUNT:
        check_account(value)


def check_account(account: Part) -> None:
    """A service account: its name, or its namespace and its name."""
    parts = account.text.split("/")
    if "*" in account.text:
        account.tell("account-wildcard")
    elif account.text and (len(parts) > 2 or not all(parts)):
        account.tell("account-malformed", name=account.text)


def check_port_text(port: Part) -> None:
    """A port's number as text, without a sign or a space."""
    text = port.text
    is_number = text.isascii() and text.isdigit() and len(text.lstrip("0")) <= 5
    if not is_number or int(text) > _LARGEST_PORT:
        port.tell("port-text", port=text)
