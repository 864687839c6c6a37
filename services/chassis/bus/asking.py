"""Asking another service over the service API; the other half of `queries`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import nats.errors
import orjson
from nats.aio.msg import Msg

from services.chassis.bus import envelopes
from services.chassis.bus.connection import Bus
from services.chassis.bus.envelopes import DEFLATE, MAX_BODY_BYTES
from services.chassis.errors import BusUnavailable, MeshbusError, RequestTooLarge, WorkerUnavailable
from services.chassis.messages import ErrorReport
from services.chassis.telemetry import traces

ACCEPT_ENCODING = "Accept-Encoding"
_ERROR_CODE = "Nats-Service-Error-Code"


async def ask(bus: Bus, question: object, *, service: str, verb: str, within: timedelta) -> Any:
    """The decoded answer of `mesh.<service>.<verb>`.

    Raises the error that the service answered with, as if it had been raised here;
    `WorkerUnavailable` when nobody is there to answer, `BusUnavailable` when NATS is not.
    """
    subject = f"mesh.{service}.{verb}"
    body, headers = packed(orjson.dumps(question))
    carried = traces.injected({**headers, ACCEPT_ENCODING: DEFLATE})
    try:
        reply = await _answered(
            bus,
            bus.client.request(
                subject, body, timeout=within.total_seconds(), headers=dict(carried)
            ),
            subject=subject,
        )
    except nats.errors.NoRespondersError:
        raise WorkerUnavailable(f"no {service} worker is connected") from None
    except TimeoutError:
        raise WorkerUnavailable(
            f"no {service} worker answered {verb} within {within.total_seconds():g} s"
        ) from None
    except nats.errors.Error as error:
        raise BusUnavailable(f"{subject} could not be asked") from error
    answered = dict(reply.headers or {})
    content = envelopes.unpacked(reply.data, answered)
    if _ERROR_CODE in answered:
        raise _raised(content, answered[_ERROR_CODE])
    return orjson.loads(content)


async def _answered(bus: Bus, request: Coroutine[Any, Any, Msg], *, subject: str) -> Msg:
    """The answer; a server that was away meanwhile has forgotten question and answer."""
    lost = asyncio.Event()
    forget = bus.on_reconnect(lost.set)
    asking = asyncio.create_task(request, name=f"ask-{subject}")
    losing = asyncio.create_task(lost.wait(), name="connection-lost")
    try:
        await asyncio.wait({asking, losing}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise BusUnavailable(f"the connection was lost while {subject} was asked")
        return await asking
    finally:
        forget()
        for task in (asking, losing):
            task.cancel()
        await asyncio.gather(asking, losing, return_exceptions=True)


def packed(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers, compressed where that pays; raises `RequestTooLarge`."""
    body, headers = envelopes.compressed(body)
    if len(body) > MAX_BODY_BYTES:
        raise RequestTooLarge(
            f"the text takes {len(body)} bytes on the bus, the limit is {MAX_BODY_BYTES}",
            remedy="ask about fewer objects at once",
        )
    return body, headers


def _raised(content: bytes, code: str) -> MeshbusError:
    try:
        report = ErrorReport.model_validate_json(content)
    except ValueError:
        return WorkerUnavailable(f"the answer was an unreadable failure ({code[:16]})")
    return report.error()
