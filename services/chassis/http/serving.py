"""What every HTTP port of ours does alike: whom it answers, and the headers it answers with.

Health, metrics and pages have no password; they are for the machine, the cluster and people in
front of them. A browser is the way in for everybody else: a foreign site lets its name resolve to
this port's address and reads what it likes (DNS rebinding). Such a request carries the foreign name
in `Host`, and no site can change that. IP addresses pass: a name cannot be one.

What changes something is a POST of JSON to an address that is meant for it, from a page of the same
origin: a foreign page can send neither that media type nor this `Origin` without asking before, and
nobody answers such a question.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Set
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from services.chassis.errors import MalformedRequest, MeshbusError

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer, unless a page sets one of them itself."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guarded(
    names: Set[str], takes_posts: Callable[[str], bool] = lambda _: False
) -> web.Application:
    """An application that answers requests to us only, each with `HEADERS`.

    `names` are those besides localhost, this machine's own and IP addresses. `takes_posts` says of
    a path whether something may be posted to it.
    """
    known = {name.lower() for name in names} | {"localhost", socket.gethostname().lower()}

    @web.middleware
    async def check(request: web.Request, handler: _Handler) -> web.StreamResponse:
        refusal = _refusal(request, known, takes_posts)
        return refusal if refusal is not None else await handler(request)

    async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)

    application = web.Application(middlewares=[check])
    application.on_response_prepare.append(add_headers)
    return application


def error_page(error: MeshbusError, *, status: int) -> web.Response:
    """A coded error as JSON."""
    fields = {
        "code": error.code,
        "summary": error.summary,
        "cause": error.cause,
        "remedy": error.remedy,
    }
    return web.Response(body=orjson.dumps(fields), status=status, content_type="application/json")


def _refusal(
    request: web.Request, names: Set[str], takes_posts: Callable[[str], bool]
) -> web.Response | None:
    """The answer to a request that is no question, not to us, or from a foreign page."""
    is_post = request.method == "POST" and takes_posts(request.path)
    if request.method not in ("GET", "HEAD") and not is_post:
        return error_page(MalformedRequest("only GET is answered here"), status=405)
    if not _is_ours(request.host, names):
        error = MalformedRequest(
            "this name is not one of the service's",
            cause="the request's Host is neither an address nor localhost nor configured",
            remedy="ask by the address, or name the host in MESHBUS_HTTP_HOSTS",
        )
        return error_page(error, status=403)
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        error = MalformedRequest(
            "a page of another site asked",
            cause="the request's Origin is another one than its Host",
            remedy="ask from the page itself, or from a program that is no browser",
        )
        return error_page(error, status=403)
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    if is_post and (origin is None or site != "same-origin"):
        error = MalformedRequest(
            "what changes something is taken from the page itself alone",
            cause="the request has no Origin, as those of a browser's page have",
            remedy="use the page, or `nats req` and Meshery from a program",
        )
        return error_page(error, status=403)
    if is_post and request.content_type != "application/json":
        return error_page(MalformedRequest("only JSON is taken here"), status=415)
    return None


def _is_ours(host: str, names: Set[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in names or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
