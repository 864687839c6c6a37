"""AuthorizationPolicies, PeerAuthentications and RequestAuthentications."""

from __future__ import annotations

from services.translator.validity.access.conditions import (
    check_account,
    check_condition,
    check_port_text,
    check_values,
)
from services.translator.validity.access.keys import check_keys
from services.translator.validity.access.paths import check_path
from services.translator.validity.names import check_attachment, check_plain_header, check_selector
from services.translator.validity.parts import Part
from services.translator.validity.urls import check_url
from services.translator.validity.values import check_address_or_subnet, check_time

_SOURCES = (
    *("principals", "requestPrincipals", "namespaces", "ipBlocks", "remoteIpBlocks"),
    *("notPrincipals", "notRequestPrincipals", "notNamespaces", "notIpBlocks"),
    *("notRemoteIpBlocks", "serviceAccounts", "notServiceAccounts"),
    *("trustDomains", "notTrustDomains"),
)
_OPERATIONS = (
    *("hosts", "ports", "methods", "paths", "notHosts", "notPorts", "notMethods", "notPaths"),
)
_IDENTITIES = ("principals", "notPrincipals", "namespaces", "notNamespaces")
_NOT_CUSTOM = tuple(name for name in _SOURCES if "pBlocks" not in name)
_LARGEST_PORT = 65535


def check_authorization(obj: Part) -> None:
    """What it holds for, its action, and its rules."""
    spec = obj["spec"]
    check_attachment(spec)
    action = spec["action"].text or "ALLOW"
    if action == "CUSTOM":
        if not spec["provider"]["name"].text:
            spec["provider"]["name"].tell("provider-missing")
    elif spec["provider"]:
        spec["provider"].tell("provider-without-use", action=action)
    if action in ("DENY", "CUSTOM") and not spec["rules"].has_items:
        spec["rules"].tell("rules-missing", action=action)
    for rule in spec["rules"]:
        for source in rule["from"]:
            _check_source(source["source"], is_custom=action == "CUSTOM")
        for operation in rule["to"]:
            _check_operation(operation["operation"])
        for condition in rule["when"]:
            check_condition(condition, is_custom=action == "CUSTOM")


def _check_source(source: Part, *, is_custom: bool) -> None:
    given = [name for name in _SOURCES if source[name].has_items]
    if not given:
        source.tell("source-empty")
    for name in given:
        if is_custom and name in _NOT_CUSTOM:
            source[name].tell("custom-unsupported", name=name)
        check_values(source[name])
        if "pBlocks" in name:
            for block in source[name]:
                check_address_or_subnet(block)
    accounts = [name for name in ("serviceAccounts", "notServiceAccounts") if name in given]
    for name in accounts:
        for account in source[name]:
            check_account(account)
    beside = [name for name in _IDENTITIES if name in given]
    if accounts and beside:
        source[accounts[0]].tell("accounts-beside", other=beside[0])


def _check_operation(operation: Part) -> None:
    given = [name for name in _OPERATIONS if operation[name].has_items]
    if not given:
        operation.tell("operation-empty")
    for name in given:
        check_values(operation[name])
    for name in ("ports", "notPorts"):
        for port in operation[name]:
            check_port_text(port)
    for name in ("paths", "notPaths"):
        for path in operation[name]:
            check_path(path)


def check_peers(obj: Part) -> None:
    """Ports of their own only where workloads are chosen."""
    spec = obj["spec"]
    check_selector(spec["selector"])
    ports = spec["portLevelMtls"]
    if not ports:
        return
    if not spec["selector"]["matchLabels"].has_items:
        ports.tell("ports-without-selector")
    if not ports.has_items:
        ports.tell("ports-empty")
    for name, port in ports.fields():
        if not (name.isascii() and name.isdigit() and 1 <= int(name[-6:]) <= _LARGEST_PORT):
            port.tell("port-out-of-range")


def check_requests(obj: Part) -> None:
    """Where tokens come from, and by which keys they are checked."""
    spec = obj["spec"]
    check_attachment(spec)
    for rule in spec["jwtRules"]:
        if not rule["issuer"].text and not rule["jwksUri"].text:
            rule["issuer"].tell("issuer-missing")
        for name in ("audiences", "fromParams", "fromCookies"):
            for entry in rule[name]:
                if not entry.text:
                    entry.tell("text-empty")
        check_url(rule["jwksUri"])
        if rule["jwks"].text:
            check_keys(rule["jwks"])
        for header in rule["fromHeaders"]:
            if not header["name"].text:
                header["name"].tell("header-empty")
        for claim in rule["outputClaimToHeaders"]:
            if not claim["claim"].text:
                claim["claim"].tell("text-empty")
            check_plain_header(claim["header"])
        check_time(rule["timeout"])
