"""Who is at a browser, and what he asks for that changes something.

This service is a courier. The token that somebody brings (in the cookie of the page, or in the
header `Authorization` that a proxy in front sets) goes with each of his questions to the gateway,
which looks at it and judges him by the policy; nothing of it is kept here. So whoever has this
service's key, and no living token, can have nothing done.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from services.chassis.errors import (
    MalformedRequest,
    MeshbusError,
    NotAuthenticated,
    TooManyTries,
)
from services.chassis.reading.jsons import read_json
from services.topology.adapters.console.issuers import CALLBACK, Attempt, Issuer
from services.topology.adapters.console.limits import Limit

APPLY = "gateway.apply"
_LONGEST_TOKEN = 3_800
"""A cookie has 4 KiB, its name and attributes included."""
_MOST_BYTES = 512 * 1024
_TOKEN_LIVES_S = 12 * 3600
"""The cookie of a token that does not say itself when it ends."""
_ATTEMPT_LIVES_S = 600
_SIGN_INS = (10, 60.0)
_WRITES = (60, 60.0)
"""So many in so many seconds, from one address."""
POSTS = frozenset({"/api/session", "/api/session/end", "/api/write"})

Carry = Callable[[str, dict[str, Any], str], Awaitable[Any]]
"""Asks `mesh.gateway.<verb>` with the `Authorization` of whoever asks."""


@dataclass(slots=True, kw_only=True)
class Sessions:
    """Signing in and out, who somebody is, and what he asks for."""

    carry: Carry
    console_url: str = ""
    issuer: Issuer | None = None
    _tokens: Limit = field(default_factory=lambda: Limit(*_SIGN_INS, time.monotonic))
    _codes: Limit = field(default_factory=lambda: Limit(*_SIGN_INS, time.monotonic))
    """Apart from tokens: who throws those from behind the same proxy stops nobody at the issuer."""
    _writes: Limit = field(default_factory=lambda: Limit(*_WRITES, time.monotonic))

    # --- who it is ------------------------------------------------------------------------------

    async def me(self, request: web.Request) -> web.Response:
        """Whoever the browser's token says, and what he may ask for; nobody without one."""
        ways = {"issuer": self.issuer is not None, "token": True}
        authorization = self._authorization(request)
        if not authorization:
            return _json({"identity": None, "signIn": ways})
        try:
            told = await self.carry("whoami", {}, authorization)
        except NotAuthenticated as error:
            response = _json({"identity": None, "signIn": ways, "ended": error.cause})
            self._end(response)
            return response
        is_proxied = authorization == request.headers.get("Authorization")
        return _json({**told, "signIn": ways, "proxied": is_proxied})

    async def begin(self, request: web.Request) -> web.Response:
        """Takes a token that somebody has, once the gateway has said that it holds."""
        self._require_room(self._tokens, request)
        token = (await _posted(request)).get("token")
        if not isinstance(token, str) or not token.strip():
            raise MalformedRequest("there is no token", remedy='send {"token": TEXT}')
        token = token.strip()
        self._require_short(token)
        with self._counted(self._tokens, request):
            told = await self.carry("whoami", {}, f"Bearer {token}")
        response = _json(told)
        self._keep(response, token, lives_s=_TOKEN_LIVES_S)
        return response

    async def end(self, _request: web.Request) -> web.Response:
        response = _json({"identity": None})
        self._end(response)
        return response

    # --- by the issuer --------------------------------------------------------------------------

    async def leave(self, request: web.Request) -> web.Response:
        """To the issuer, with what the browser has to bring back in a cookie of its own."""
        issuer = self._issuer()
        attempt = Attempt.fresh(_way_back(request.query.get("back", "/")))
        address = await issuer.address(attempt)
        response = web.Response(status=303, headers={"Location": address})
        kept = base64.urlsafe_b64encode(orjson.dumps(asdict(attempt))).decode()
        # Lax: the issuer sends the browser back from another site.
        self._set(response, self._attempt_cookie, kept, lives_s=_ATTEMPT_LIVES_S, same_site="Lax")
        return response

    async def come_back(self, request: web.Request) -> web.Response:
        """From the issuer, with a code for the token."""
        issuer = self._issuer()
        attempt = _read_attempt(request.cookies.get(self._attempt_cookie, ""))
        self._require_room(self._codes, request)
        with self._counted(self._codes, request):
            token, ends = await issuer.token(attempt, dict(request.query))
        self._require_short(token)
        response = web.Response(status=303, headers={"Location": attempt.back})
        self._set(response, self._attempt_cookie, "", lives_s=0, same_site="Lax")
        self._keep(response, token, lives_s=max(0, int(ends - time.time())))
        return response

    # --- what is asked for ----------------------------------------------------------------------

    async def write(self, request: web.Request) -> web.Response:
        """Has something asked on behalf of whoever brings a token."""
        authorization = self._authorization(request)
        if not authorization:
            raise NotAuthenticated(
                "without being signed in one only sees",
                cause="the browser brings no token",
                remedy="sign in; the gateway says who may what",
            )
        if not self._writes.takes(request.remote or ""):
            raise self._too_often(self._writes, request)
        asked = await _posted(request)
        name, question = asked.get("name"), asked.get("question")
        if not isinstance(name, str) or not isinstance(question, dict):
            raise MalformedRequest(
                "the request names nothing to ask", remedy='send {"name": TEXT, "question": {…}}'
            )
        if name == APPLY:
            return _json(await self.carry("apply", question, authorization))
        return _json(await self.carry("ask", {"name": name, "question": question}, authorization))

    # --- cookies --------------------------------------------------------------------------------

    @property
    def _is_secure(self) -> bool:
        return self.console_url.startswith("https://")

    @property
    def _prefix(self) -> str:
        """With it, a browser takes the cookie from this very host over TLS only."""
        return "__Host-" if self._is_secure else ""

    @property
    def _token_cookie(self) -> str:
        return f"{self._prefix}meshbus-token"

    @property
    def _attempt_cookie(self) -> str:
        return f"{self._prefix}meshbus-signin"

    def _authorization(self, request: web.Request) -> str:
        told = request.headers.get("Authorization", "")
        # What is no token is between the browser and a proxy, a password perhaps.
        told = told if told.lower().startswith("bearer ") and told.isascii() else ""
        token = request.cookies.get(self._token_cookie, "")
        return told or (f"Bearer {token}" if token else "")

    def _keep(self, response: web.Response, token: str, *, lives_s: int) -> None:
        self._set(response, self._token_cookie, token, lives_s=lives_s, same_site="Strict")

    def _end(self, response: web.Response) -> None:
        self._set(response, self._token_cookie, "", lives_s=0, same_site="Strict")

    def _set(
        self, response: web.Response, name: str, value: str, *, lives_s: int, same_site: str
    ) -> None:
        response.set_cookie(
            name,
            value,
            max_age=lives_s,
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite=same_site,
        )

    # --- bounds ---------------------------------------------------------------------------------

    def _issuer(self) -> Issuer:
        if self.issuer is None:
            raise MalformedRequest(
                "no issuer is configured", remedy="sign in by a token, or set OIDC_ISSUER"
            )
        return self.issuer

    def _require_room(self, limit: Limit, request: web.Request) -> None:
        """For one more sign-in: those that failed count, so that a team behind one address is not
        kept out by itself."""
        if not limit.has_room(request.remote or ""):
            raise self._too_often(limit, request)

    @contextmanager
    def _counted(self, limit: Limit, request: web.Request) -> Iterator[None]:
        try:
            yield
        except NotAuthenticated:
            limit.count(request.remote or "")
            raise

    def _too_often(self, limit: Limit, request: web.Request) -> TooManyTries:
        return TooManyTries(
            f"more than {limit.most} tries in {limit.period_s:.0f} s from {request.remote}"
        )

    def _require_short(self, token: str) -> None:
        if len(token) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable():
            raise NotAuthenticated(
                f"a token of {len(token)} characters does not fit into a cookie",
                cause="most likely it lists many groups",
                remedy="have the issuer tell fewer of them, or put a proxy in front that sets "
                "the header Authorization",
            )


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


async def _posted(request: web.Request) -> dict[str, Any]:
    text = await request.content.read(_MOST_BYTES + 1)
    while len(text) <= _MOST_BYTES and (more := await request.content.read(_MOST_BYTES)):
        text += more
    if len(text) > _MOST_BYTES:
        raise MalformedRequest(f"the request is longer than {_MOST_BYTES} bytes")
    try:
        told = read_json(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise MalformedRequest("the request is no JSON object")
    return told


def _way_back(text: str) -> str:
    """An address of this page; anything else leads to the front."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    is_own = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.netloc
    # A fragment may hold a token.
    is_own = is_own and not parts.fragment
    return text if is_own and text.isprintable() and text.isascii() and len(text) < 2_000 else "/"


def _read_attempt(text: str) -> Attempt:
    try:
        told = read_json(base64.urlsafe_b64decode(text))
        state, nonce, verifier = (str(told[name]) for name in ("state", "nonce", "verifier"))
        return Attempt(state, nonce, verifier, _way_back(str(told["back"])))
    except (KeyError, TypeError, ValueError, MeshbusError):
        raise NotAuthenticated(
            "this sign-in was not begun in this browser, or long ago",
            cause=f"the cookie that goes with {CALLBACK} is not there",
            remedy="sign in again",
        ) from None
