"""Signing in at an OpenID Connect issuer: the authorization code flow with PKCE.

The ID token that comes of it is what a browser brings from then on. Here only what binds it to this
browser is looked at (state, nonce, and the audience); whether it holds is the gateway's to judge,
which knows the issuer's keys (`gateway/door`). The token comes from the issuer itself over a
connection of ours, which OpenID Connect Core 3.1.3.7 takes for its signature meanwhile.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
from yarl import URL

from services.chassis.addresses import AddressPolicy, denied_address
from services.chassis.errors import NotAuthenticated, SignInUnavailable, shortened
from services.chassis.http.answers import RATIO, AnswerRefused, read, session
from services.chassis.reading.jsons import read_json

_MOST_BYTES = 256 * 1024
_WITHIN = timedelta(seconds=10)
_DISCOVERY = "/.well-known/openid-configuration"
CALLBACK = "/signin/callback"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a browser keeps while it is at the issuer, and has to bring back."""

    state: str
    nonce: str
    verifier: str
    back: str
    """The address of the console that it came from."""

    @classmethod
    def fresh(cls, back: str) -> Attempt:
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, back)

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(slots=True, kw_only=True)
class Issuer:
    """One issuer, and the console as its client."""

    name: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: str
    console_url: str
    policy: AddressPolicy
    _endpoints: Mapping[str, str] = field(default_factory=dict)

    @property
    def redirect(self) -> str:
        return f"{self.console_url}{CALLBACK}"

    async def address(self, attempt: Attempt) -> str:
        """Where the browser is sent to."""
        endpoints = await self._discovered()
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect,
            "scope": self.scopes,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return str(URL(endpoints["authorization_endpoint"]).update_query(query))

    async def token(self, attempt: Attempt, query: Mapping[str, str]) -> tuple[str, float]:
        """The ID token for the code that the browser has brought back, and when it ends (Unix
        time); raises `NotAuthenticated`."""
        if not secrets.compare_digest(query.get("state", "").encode(), attempt.state.encode()):
            raise NotAuthenticated(
                "this sign-in was not begun in this browser",
                cause="the state that the issuer gave back is another one",
                remedy="sign in again",
            )
        if "code" not in query:
            told = shortened(query.get("error_description") or query.get("error", "no code"))
            raise NotAuthenticated(f"the issuer refused: {told}", cause="its own words say why")
        endpoints = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": query["code"],
            "redirect_uri": self.redirect,
            "client_id": self.client_id,
            "code_verifier": attempt.verifier,
        }
        if self.client_secret:
            form["client_secret"] = self.client_secret
        answer = await self._ask("POST", endpoints["token_endpoint"], form)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise NotAuthenticated("the issuer gave no ID token", cause="the code did not hold")
        claims = _claims(token)
        audience = claims.get("aud")
        is_ours = self.client_id in (audience if isinstance(audience, list) else [audience])
        if claims.get("nonce") != attempt.nonce or not is_ours:
            raise NotAuthenticated(
                "the issuer's token is not for this sign-in",
                cause="its nonce or its audience is another one",
            )
        ends = claims.get("exp")
        if not isinstance(ends, (int, float)) or isinstance(ends, bool):
            raise NotAuthenticated("the issuer's token does not say until when it holds")
        return token, float(ends)

    async def _discovered(self) -> Mapping[str, str]:
        if not self._endpoints:
            told = await self._ask("GET", self.name.rstrip("/") + _DISCOVERY)
            if told.get("issuer") != self.name:
                raise SignInUnavailable("the issuer calls itself another name")
            self._endpoints = endpoints_of(told, issuer=self.name)
        return self._endpoints

    async def _ask(
        self, method: str, address: str, form: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        timeout = aiohttp.ClientTimeout(total=_WITHIN.total_seconds())
        try:
            async with (
                session(self.policy, timeout=timeout) as client,
                client.request(method, address, data=form, allow_redirects=False) as response,
            ):
                text = await read(response, most_bytes=_MOST_BYTES, ratio=RATIO)
                status = response.status
            told = read_json(text)
        except AnswerRefused as error:
            raise SignInUnavailable(f"the issuer's answer {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if denied := denied_address(error):
                raise self.policy.denial(denied, subject=self.name) from None
            raise SignInUnavailable(
                f"the issuer does not answer ({type(error).__name__})"
            ) from None
        except ValueError:
            raise SignInUnavailable("the issuer answers without JSON") from None
        if not isinstance(told, dict):
            raise SignInUnavailable("the issuer answers without a JSON object")
        if status >= 500:
            raise SignInUnavailable(f"the issuer answers with {status}")
        if status >= 400:
            raise NotAuthenticated(
                f"the issuer refused: {shortened(str(told.get('error', status)))}"
            )
        return told


def endpoints_of(told: Mapping[str, Any], *, issuer: str) -> dict[str, str]:
    """Where the issuer's own description sends people and codes; raises `SignInUnavailable`.

    The code and the client's secret go there: in clear only where the issuer itself is reached so.
    """
    schemes = ("https://",) if issuer.startswith("https://") else ("https://", "http://")
    found = {
        name: told[name]
        for name in ("authorization_endpoint", "token_endpoint")
        if isinstance(told.get(name), str) and told[name].startswith(schemes)
    }
    if len(found) < 2:
        raise SignInUnavailable(
            f"the issuer names no address to sign in at that begins with {' or '.join(schemes)}"
        )
    return found


def _claims(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    try:
        told = read_json(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError):
        told = None
    if not isinstance(told, dict):
        raise NotAuthenticated("the issuer's token cannot be read")
    return told
