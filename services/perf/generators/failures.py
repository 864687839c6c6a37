"""Reads a generator's complaints when none of its requests was answered.

They are a foreign program's words, and name hosts, files and URLs: they choose an error of ours,
and are shown only where nothing better is known: without URLs and the load's secrets, cut short.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.errors import (
    GeneratorFailed,
    MeshbusError,
    TargetSilent,
    TargetUnknown,
    TargetUnreachable,
    TargetUntrusted,
    shortened,
)
from services.chassis.telemetry.redaction import MASK, redacted_text
from services.perf.definitions.loads import Target

_URL = re.compile(r"\b(\w+://)(?:[^\s\"'/?@]*@)?([^\s\"'/?]*)[^\s\"']*")
_SHORTEST_SECRET = 3


@dataclass(frozen=True, slots=True)
class _Sign:
    """Words by which a failure is known; the first sign that fits decides."""

    words: str
    kind: type[MeshbusError]
    summary: str
    cause: str = ""

    def fits(self, complaint: str) -> bool:
        return re.search(self.words, complaint, re.IGNORECASE) is not None

    def error(self, host: str) -> MeshbusError:
        return self.kind(self.summary.format(host=host), cause=self.cause)


_CLOSED = _Sign(
    r"\bEOF\b|reset by peer|broken pipe|short read|server preface|malformed http",
    TargetUnreachable,
    "{host} ends every connection without an answer",
    cause="the target speaks another protocol, or a proxy in front of it has nothing behind it",
)
_SIGNS = (
    _Sign(
        r"no such host|server misbehaving|name resolution|name or service not known|"
        r"unable to resolve|unable to lookup|\blookup\b.*(i/o timeout|refused)|"
        r"name resolver error|no address associated",
        TargetUnknown,
        "the name {host} is unknown",
    ),
    _Sign(
        r"x509:|certificate|\btls: |tls handshake|http response to https|handshake fail",
        TargetUntrusted,
        "TLS with {host} failed",
    ),
    _Sign(
        r"connection refused|no route to host|network is unreachable",
        TargetUnreachable,
        "nothing answers at {host}",
    ),
    _Sign(
        r"dial tcp\b.*(i/o timeout|timed out)|unable to connect",
        TargetUnreachable,
        "no connection to {host} was made in time",
    ),
    _Sign(
        r"timeout|timed out|deadline exceeded",
        TargetSilent,
        "{host} answered no request in time",
    ),
    _CLOSED,
)


def unanswered(complaints: Sequence[str], *, target: Target) -> MeshbusError:
    """Why none of the requests to the target was answered."""
    host = target.authority
    if not complaints:
        return _CLOSED.error(host)  # fortio has no words for answers that are none
    for complaint in complaints:
        text = _without_names(complaint, host)
        for sign in _SIGNS:
            if sign.fits(text):
                return sign.error(host)
    return failed(complaints, what=f"no request to {host} was answered", target=target)


def silent(target: Target) -> TargetSilent:
    """The generator had to be ended while it waited for the first answer."""
    return TargetSilent(f"{target.authority} answered no request in time")


def failed(complaints: Sequence[str], *, what: str, target: Target) -> GeneratorFailed:
    """A failure of the generator itself, with the first of its complaints."""
    first = next((line for line in complaints if line.strip()), "")
    words = shortened(_without_secrets(first, target))
    return GeneratorFailed(what, cause=f"the generator says: {words}" if words else "")


def _without_names(text: str, host: str) -> str:
    """A host or a path may be called like an error."""
    name = re.escape(host.rpartition(":")[0] or host)
    return re.sub(rf"(?<![\w.-]){name}(?![\w.-])", "…", _URL.sub("…", text))


def _without_urls(text: str) -> str:
    return _URL.sub(r"\1\2", text)


def _without_secrets(text: str, target: Target) -> str:
    secrets = [*target.headers.values(), target.body, target.ca_certificate]
    for secret in sorted(secrets, key=len, reverse=True):
        for form in (secret, secret.strip()):
            if len(form) >= _SHORTEST_SECRET:
                text = text.replace(form, MASK)
    return redacted_text(_without_urls(text))
