"""Meshery's server over HTTP: its version, the models that it lists, and packages sent to it.

The address is the operator's. An answer is read up to a bound, a redirect is not followed: here it
is the way to a login.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import orjson
from yarl import URL

from services.chassis.addresses import AddressPolicy, denied_address
from services.chassis.errors import MesheryUnreachable, RegistrationRefused, shortened
from services.chassis.http.answers import RATIO, AnswerRefused, read, session
from services.chassis.reading.jsons import read_json
from services.gateway.meshery.packages import MODEL

_MOST_BYTES = 8 * 1024 * 1024
_TAKEN = frozenset({200, 201, 202})
_LOGIN = frozenset({301, 302, 303, 307, 308, 401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class MesheryRegistry:
    """One Meshery server."""

    base: str
    policy: AddressPolicy
    provider: str
    token: str
    within: timedelta = timedelta(seconds=60)
    """For one call; a package of all kinds takes Meshery some seconds."""

    @property
    def address(self) -> str:
        """Without what may be a password in it."""
        return str(URL(self.base).with_user(None).with_query(None).with_fragment(None))

    async def build(self) -> str:
        answer = await self._ask("GET", "/api/system/version")
        return str(answer.get("build", "")) if isinstance(answer, dict) else ""

    async def listed(self) -> set[str]:
        answer = await self._ask("GET", f"/api/meshmodels/models/{MODEL}", {"pagesize": "all"})
        models = answer.get("models") if isinstance(answer, dict) else None
        if models is not None and not isinstance(models, list):
            raise RegistrationRefused(f"{self.address} lists its models in an unknown form")
        return {
            str(model["version"])
            for model in models or []
            # The list holds whatever the name is a part of.
            if isinstance(model, dict) and model.get("name") == MODEL and model.get("version")
        }

    async def register(self, package: bytes, *, name: str) -> str:
        body = {
            "uploadType": "file",
            "register": True,
            "importBody": {
                "model_file": base64.b64encode(package).decode(),
                "file_name": name,
            },
        }
        return _failures(
            await self._ask("POST", "/api/meshmodels/register", body=orjson.dumps(body))
        )

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
    ) -> Any:
        """The answer's JSON, None for one without."""
        timeout = aiohttp.ClientTimeout(total=self.within.total_seconds())
        try:
            async with (
                session(self.policy, timeout=timeout, headers=self._headers()) as client,
                client.request(
                    method,
                    URL(self.base.rstrip("/") + path),
                    params=query,
                    data=body,
                    allow_redirects=False,
                ) as response,
            ):
                self._require_taken(response.status, path)
                text = await read(response, most_bytes=_MOST_BYTES, ratio=RATIO)
            return read_json(text) if text.strip() else None
        except AnswerRefused as error:
            raise RegistrationRefused(f"the answer of {self.address} {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if address := denied_address(error):
                raise self.policy.denial(address, subject=self.address) from None
            # Its text may hold the address with what is secret in it.
            raise MesheryUnreachable(
                f"Meshery does not answer at {self.address} ({type(error).__name__})"
            ) from None
        except ValueError:
            raise RegistrationRefused(f"{self.address} answers {path} without JSON") from None

    def _headers(self) -> dict[str, str]:
        cookies = {"meshery-provider": self.provider, "token": self.token}
        told = "; ".join(f"{name}={value}" for name, value in cookies.items() if value)
        return {"Content-Type": "application/json", **({"Cookie": told} if told else {})}

    def _require_taken(self, status: int, path: str) -> None:
        if status in _TAKEN:
            return
        if status >= 500:
            raise MesheryUnreachable(f"Meshery at {self.address} answers {path} with {status}")
        if status in _LOGIN:
            raise RegistrationRefused(
                f"Meshery at {self.address} asks for a login",
                cause="its provider of identities does not know who registers",
                remedy="set MESHBUS_GATEWAY_MESHERY_PROVIDER, and MESHBUS_GATEWAY_MESHERY_TOKEN "
                "for any other provider than None",
            )
        raise RegistrationRefused(f"Meshery at {self.address} answers {path} with {status}")


def _failures(answer: Any) -> str:
    """What of a package was not registered, in Meshery's words; it answers 200 all the same."""
    if not isinstance(answer, dict):
        return ""
    counts = answer.get("entityCount") or answer.get("entity_count") or {}
    failed = counts.get("totalErrCount") or counts.get("total_err_count") or 0
    if not failed:
        return ""
    words = answer.get("errMsg") or answer.get("err_msg") or ""
    return shortened(str(words)) or f"{failed} of its parts were refused"
