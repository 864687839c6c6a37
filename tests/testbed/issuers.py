"""An OpenID Connect issuer: signs people in at once, by the code flow with PKCE, and checks what a
real one checks. The bed has none as a program; this one speaks the protocol over HTTP."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.testbed import loopback


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass(slots=True)
class TestIssuer:
    """`claims` are of whoever signs in next; `change` spoils what the token endpoint answers."""

    __test__ = False

    client_id: str = "console"
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "ann", "groups": ["sre"]})
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer
    port: int = field(default_factory=loopback.take_port)
    _key: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"http://{loopback.HOST}:{self.port}"

    def keys(self, path: Path) -> Path:
        """Its key set as the file that the gateway reads."""
        raw = self._key.public_key().public_bytes_raw()
        entry = {"kid": "1", "kty": "OKP", "crv": "Ed25519", "x": b64(raw)}
        path.write_bytes(orjson.dumps({"keys": [entry]}))
        return path

    def token(self, **changed: Any) -> str:
        now = int(time.time())
        claims = {"iss": self.name, "aud": self.client_id, "iat": now, "exp": now + 600}
        told = {**claims, **self.claims, **changed}
        head = {"alg": "EdDSA", "kid": "1"}
        text = f"{b64(orjson.dumps(head))}.{b64(orjson.dumps(told))}"
        return f"{text}.{b64(self._key.sign(text.encode()))}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        application = web.Application()
        application.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._discovery),
                web.get("/authorize", self._authorize),
                web.post("/token", self._exchange),
            ]
        )
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, loopback.HOST, self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _discovery(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.name,
                "authorization_endpoint": f"{self.name}/authorize",
                "token_endpoint": f"{self.name}/token",
            }
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == self.client_id
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        target = f"{asked['redirect_uri']}?code={code}&state={asked['state']}"
        return web.Response(status=302, headers={"Location": target})

    async def _exchange(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked = self._codes.pop(str(form.get("code")), None)
        verifier = str(form.get("code_verifier")).encode()
        if asked is None or b64(hashlib.sha256(verifier).digest()) != asked["code_challenge"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        assert form["redirect_uri"] == asked["redirect_uri"]
        token = self.token(nonce=asked["nonce"])
        return web.json_response(self.change({"id_token": token, "token_type": "Bearer"}))
