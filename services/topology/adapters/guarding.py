"""Who may ask over HTTP.

Nothing shown is a secret, but the map of a mesh is nobody else's business: a page of another site
must not read it through the user's browser. Hence the check of `Host` (a name that an attacker made
to resolve to this machine is refused; an address cannot be made to lie) and of `Origin`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Set
from urllib.parse import urlsplit

from aiohttp import web

from services.chassis.errors import MalformedRequest, MeshbusError


class Refused(Exception):
    """Carries the HTTP status beside the error: that of our errors has no 403 and no 405."""

    def __init__(self, status: int, error: MeshbusError) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error


def refused(status: int, summary: str, *, cause: str = "", remedy: str = "") -> Refused:
    return Refused(status, MalformedRequest(summary, cause=cause, remedy=remedy))


def check(request: web.Request, names: Set[str]) -> None:
    """Raises unless the request is a question, to us by one of our names, and not foreign."""
    if request.method not in ("GET", "HEAD"):
        raise refused(405, "only GET is answered here")
    if not _is_ours(request.host, names):
        raise refused(
            403,
            "this name is not one of the service's",
            cause="the request's Host is neither an address nor localhost nor configured",
            remedy="open the page by its address, or configure the name",
        )
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise refused(
            403,
            "a page of another site asked",
            cause="the request's Origin is another one than its Host",
            remedy="ask from the page itself, or from a program that is no browser",
        )


def _is_ours(host: str, names: Set[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
