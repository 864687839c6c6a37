"""Kubeconfig intake: one cluster, inline credentials, no reference to files or programs.

kubectl's own loaders run `exec` plugins, read files and follow proxies that the text names. A
service that takes kubeconfigs from strangers must not, so this reads its own small model and
refuses those fields by name. https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml

from services.chassis.bus.subjects import hash_token
from services.chassis.errors import KubeconfigMalformed, KubeconfigRefused
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import YamlProblem, read_yaml

SIZE_LIMIT_BYTES = 256 * 1024
OWN_EXTENSIONS = "meshbus.io/"
"""What names begin with that are meant for Meshbus."""
_DEPTH_LIMIT = 16

_PROGRAM_FIELDS = ("exec", "auth-provider")
_REFUSED_USER_FIELDS = {
    "exec": "it runs a program",
    "auth-provider": "it runs a login plugin",
    "tokenFile": "it names a file",
    "client-certificate": "it names a file",
    "client-key": "it names a file",
}
_REFUSED_CLUSTER_FIELDS = {
    "certificate-authority": "it names a file",
    "proxy-url": "it sends the traffic through a proxy",
}
_OTHER_ACCOUNT = (
    "`make kubeconfig CONTEXT=…` makes an account of its own with the least rights, and a "
    "kubeconfig with its token"
)
_PASSWORD_FIELDS = ("username", "password")
_IMPERSONATION_FIELDS = ("as", "as-uid", "as-groups", "as-user-extra")


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """How to reach one API server. `repr` shows no secret."""

    context: str
    """Name of the current context: what people call the cluster."""
    server: str
    """https URL without a trailing slash."""
    ca_pem: bytes = field(repr=False)
    client_certificate_pem: bytes = field(repr=False)
    client_key_pem: bytes = field(repr=False)
    token: str = field(repr=False)
    tls_server_name: str = ""
    verify_tls: bool = True
    extensions: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What it says to Meshbus about the cluster: those of its context, and of its cluster, that are
    named `meshbus.io/…`."""

    @property
    def cluster(self) -> str:
        """The cluster's token on the bus: a hash of its address and its CA, known without I/O."""
        return hash_token(self.server.encode() + b"\0" + self.ca_pem)

    @property
    def secrets(self) -> list[str]:
        """The values that must not appear anywhere, in the forms in which they could."""
        plain = [self.token] if self.token else []
        key = self.client_key_pem
        if key:
            lines = [line for line in key.decode("latin-1").splitlines() if "-----" not in line]
            plain += [base64.b64encode(key).decode(), *lines]
        return plain


def parse_kubeconfig(
    text: str, *, allow_insecure: bool = False, budget: Budget | None = None
) -> Kubeconfig:
    """The kubeconfig's current context; raises `KubeconfigMalformed`, `KubeconfigRefused` or
    `TooManyValues`. A request's kubeconfigs share a `budget`."""
    document = _loaded(text, budget)
    context_name = _string(document, "current-context", "kubeconfig")
    if not context_name:
        raise KubeconfigMalformed("the kubeconfig has no current-context")
    context = _named(document, "contexts", context_name, "context")
    cluster = _named(document, "clusters", _string(context, "cluster", "context"), "cluster")
    user = _named(document, "users", _string(context, "user", "context"), "user")
    _refuse(cluster, _REFUSED_CLUSTER_FIELDS, "cluster")
    _refuse(user, _REFUSED_USER_FIELDS, "user")
    _refuse_other_identities(user)
    verify = not cluster.get("insecure-skip-tls-verify")
    if not verify and not allow_insecure:
        raise KubeconfigRefused(
            "the kubeconfig sets insecure-skip-tls-verify",
            remedy=(
                "give the cluster's certificate-authority-data, or allow it for this gateway with "
                "MESHBUS_INSECURE_KUBECONFIGS=true"
            ),
        )
    config = Kubeconfig(
        context=context_name,
        server=_server(cluster),
        ca_pem=_pem(cluster, "certificate-authority-data"),
        client_certificate_pem=_pem(user, "client-certificate-data"),
        client_key_pem=_pem(user, "client-key-data"),
        token=_string(user, "token", "user"),
        tls_server_name=_string(cluster, "tls-server-name", "cluster"),
        verify_tls=verify,
        extensions={**_extensions(cluster), **_extensions(context)},
    )
    _require_credential(config)
    return config


def select_context(text: str, context: str) -> str:
    """A kubeconfig reduced to `context`, which becomes the current one.

    Old servers send a whole kubeconfig and name the context beside it; the credentials of all other
    clusters in it are nobody's business further on.
    """
    document = _loaded(text)
    entry = _named(document, "contexts", context, "context")
    parts = {
        "contexts": (context, "context", entry),
        "clusters": _part(document, entry, "cluster"),
        "users": _part(document, entry, "user"),
    }
    selected: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": context}
    for section, (name, field_name, value) in parts.items():
        selected[section] = [{"name": name, field_name: value}]
    return yaml.dump(selected, Dumper=yaml.CSafeDumper, sort_keys=False)


def _part(
    document: dict[str, Any], context: dict[str, Any], field_name: str
) -> tuple[str, str, dict[str, Any]]:
    name = _string(context, field_name, "context")
    return name, field_name, _named(document, f"{field_name}s", name, field_name)


def kubeconfig_budget() -> Budget:
    """For all kubeconfigs of one request together."""
    return Budget.fresh(depth=_DEPTH_LIMIT, is_shared=True)


def _loaded(text: str, budget: Budget | None = None) -> dict[str, Any]:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > SIZE_LIMIT_BYTES:
        raise KubeconfigMalformed(
            f"the kubeconfig has {size} bytes, the limit is {SIZE_LIMIT_BYTES}"
        )
    if "\0" in text:
        raise KubeconfigMalformed("the kubeconfig holds a NUL character")
    try:
        document = read_yaml(text, budget=budget or Budget.fresh(depth=_DEPTH_LIMIT))
    except YamlProblem as error:
        place = f" (line {error.line})" if error.line else ""
        told = f"is not YAML{place}" if error.is_syntax else f"cannot be taken{place}: {error}"
        raise KubeconfigMalformed(f"the kubeconfig {told}") from None
    if not isinstance(document, dict):
        raise KubeconfigMalformed("the kubeconfig is empty or not a mapping")
    return document


def _named(document: dict[str, Any], section: str, name: str, field_name: str) -> dict[str, Any]:
    entries = document.get(section) or []
    if not isinstance(entries, list):
        raise KubeconfigMalformed(f"the kubeconfig's {section} is not a list")
    for entry in entries:
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(field_name)
            if not isinstance(found, dict):
                break
            return found
    raise KubeconfigMalformed(f"the kubeconfig's {section} has no usable entry for its context")


def _string(mapping: dict[str, Any], name: str, where: str) -> str:
    value = mapping.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise KubeconfigMalformed(f"{name} in the kubeconfig's {where} is not text")
    return value


def _extensions(mapping: dict[str, Any]) -> dict[str, Any]:
    """Of a context or a cluster. Other programs write theirs as they like."""
    entries = mapping.get("extensions")
    return {
        entry["name"]: entry.get("extension")
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and str(entry.get("name")).startswith(OWN_EXTENSIONS)
    }


def _refuse(mapping: dict[str, Any], fields: dict[str, str], where: str) -> None:
    for name, reason in fields.items():
        if mapping.get(name):
            raise KubeconfigRefused(
                f"the kubeconfig's {where} sets `{name}`: {reason}",
                remedy=_OTHER_ACCOUNT if name in _PROGRAM_FIELDS else "",
            )


def _refuse_other_identities(user: dict[str, Any]) -> None:
    for name in _PASSWORD_FIELDS:
        if user.get(name):
            raise KubeconfigRefused(
                f"the kubeconfig's user sets `{name}`",
                cause="Kubernetes has no basic authentication any more",
            )
    for name in _IMPERSONATION_FIELDS:
        if user.get(name):
            raise KubeconfigRefused(
                f"the kubeconfig's user sets `{name}`: it acts as somebody else",
                cause="Meshbus acts with the credential's own rights and would ignore this",
                remedy="export a credential of the user who is meant",
            )


def _server(cluster: dict[str, Any]) -> str:
    server = _string(cluster, "server", "cluster").rstrip("/")
    if any(ord(character) < 33 or ord(character) == 127 for character in server):
        # urlsplit would drop some of them, and a client may not.
        raise KubeconfigMalformed("the kubeconfig's server is not a URL")
    try:
        parts = urlsplit(server)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        raise KubeconfigMalformed("the kubeconfig's server is not a URL") from None
    if parts.scheme == "http":
        raise KubeconfigRefused("the kubeconfig's server is plain http: credentials need TLS")
    if parts.scheme != "https" or not parts.hostname:
        raise KubeconfigMalformed("the kubeconfig's server is not an https URL")
    if any(mark in server for mark in "@?#"):
        raise KubeconfigRefused("the kubeconfig's server URL holds more than an address")
    return server


def _pem(mapping: dict[str, Any], name: str) -> bytes:
    text = mapping.get(name)
    if not text:
        return b""
    try:
        pem = base64.b64decode(text if isinstance(text, bytes) else str(text), validate=True)
    except (binascii.Error, ValueError):
        raise KubeconfigMalformed(f"`{name}` in the kubeconfig is not base64") from None
    if b"-----BEGIN" not in pem:
        raise KubeconfigMalformed(f"`{name}` in the kubeconfig is not PEM")
    return pem


def _require_credential(config: Kubeconfig) -> None:
    if bool(config.client_certificate_pem) != bool(config.client_key_pem):
        raise KubeconfigMalformed(
            "the kubeconfig's user has only one of `client-certificate-data` and `client-key-data`"
        )
    if not config.token and not config.client_certificate_pem:
        raise KubeconfigMalformed(
            "the kubeconfig's user has neither `token` nor `client-certificate-data`"
        )
    if any(ord(character) < 33 or ord(character) > 126 for character in config.token):
        raise KubeconfigMalformed("the kubeconfig's token holds characters that no token has")
