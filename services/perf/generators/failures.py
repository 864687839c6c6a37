"""What a generator's words on stderr mean, when not one of its requests was answered.

The words are a foreign program's and name hosts and files, so they choose an error of ours and are
shown only where nothing better is known, cut short.
"""

from __future__ import annotations

import re

from services.chassis.errors import (
    GeneratorFailed,
    MeshbusError,
    TargetSilent,
    TargetUnknown,
    TargetUnreachable,
    TargetUntrusted,
    shortened,
)
from services.chassis.telemetry.redaction import redacted_text

_SIGNS: tuple[tuple[str, type[MeshbusError], str], ...] = (
    (
        r"no such host|server misbehaving|name resolution|unable to resolve",
        TargetUnknown,
        "the name {host} is unknown",
    ),
    (
        r"x509|certificate|tls:|tls handshake|server gave http response to https|handshake failure",
        TargetUntrusted,
        "{host} cannot be spoken with over TLS",
    ),
    (
        r"connection refused|no route to host|network is unreachable|unable to connect",
        TargetUnreachable,
        "nothing answers at {host}",
    ),
    (r"timeout|timed out|deadline exceeded", TargetSilent, "{host} answered no request in time"),
)
_URL_QUERY = re.compile(r"\?[^\s\"\\]*")


def unanswered(stderr: str, *, host: str) -> MeshbusError:
    """Why none of the requests to `host` (with its port) was answered."""
    text = stderr.lower()
    for pattern, kind, summary in _SIGNS:
        if re.search(pattern, text):
            return kind(summary.format(host=host))
    return failed(stderr, what=f"no request to {host} was answered")


def failed(stderr: str, *, what: str) -> GeneratorFailed:
    """A failure of the generator itself."""
    words = shortened(redacted_text(_URL_QUERY.sub("?…", stderr[-2000:])))
    return GeneratorFailed(what, cause=f"the generator says: {words}" if words else "")
