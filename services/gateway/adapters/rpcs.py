"""What every RPC goes through: time, span, and errors that become statuses.

A plain function around each handler, and no interceptor: grpc.aio's interceptors see a handler
before the request is read, so they would wrap it in just this way, with more ceremony.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog
from opentelemetry.trace import SpanKind

from services.chassis.errors import InternalError, MeshbusError
from services.chassis.telemetry import metrics, traces
from services.chassis.telemetry.redaction import redacted_text
from services.gateway.events import Joined, Write
from services.gateway.handlers import Unary

Context = grpc.aio.ServicerContext[Any, Any]
Streaming = Callable[[Write, Joined], Awaitable[None]]

_TRACE_HEADERS = ("traceparent", "tracestate")
# Statuses travel in HTTP/2 headers, of which clients take 8 KiB in all.
_LONGEST_TEXT = 2000

log = structlog.get_logger(__name__)


def answered(
    path: str, unary: Unary, meters: metrics.Metrics
) -> Callable[[Any, Context], Awaitable[Any]]:
    """`unary` as grpc.aio calls it. `path` is the RPC's full name, with its leading slash."""
    service, _, method = path.strip("/").partition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}

    async def answer(request: Any, context: Context) -> Any:
        began = time.perf_counter()
        code = "OK"
        try:
            headers = _trace_headers(context)
            with traces.continued(
                path, headers=headers, attributes=attributes, kind=SpanKind.SERVER
            ):
                return await unary(request, context.peer())
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as raised:
            error = known(raised, path)
            code = error.status
            await refuse(context, error)
        finally:
            meters.observe(metrics.RPC_SECONDS, time.perf_counter() - began, method, code)

    return answer


def streamed(path: str, streaming: Streaming) -> Callable[[Any, Context], Awaitable[None]]:
    """`streaming` as grpc.aio calls it."""

    async def stream(_request: Any, context: Context) -> None:
        async def joined() -> None:
            # Headers go out before the first event: the client sees that its stream stands.
            await context.send_initial_metadata(())

        try:
            await streaming(context.write, joined)
        except Exception as raised:
            await refuse(context, known(raised, path))

    return stream


def known(raised: Exception, path: str) -> MeshbusError:
    """Our own errors as they are; of others only that there was one: their texts may tell all."""
    if isinstance(raised, MeshbusError):
        log.info("call_refused", call=path, code=raised.code, reason=raised.summary)
        return raised
    log.error("call_failed", call=path, exc_info=raised)
    return InternalError(f"{path.rpartition('/')[2]} met an unexpected {type(raised).__name__}")


async def refuse(context: Context, error: MeshbusError) -> None:
    """Ends the call with the error's status, its code, cause and remedy in the text."""
    text = redacted_text(str(error))
    if len(text) > _LONGEST_TEXT:
        text = text[: _LONGEST_TEXT - 1] + "…"
    await context.abort(grpc.StatusCode[error.status], text)


def _trace_headers(context: Context) -> dict[str, str]:
    metadata = context.invocation_metadata() or ()
    return {key: str(value) for key, value in metadata if key in _TRACE_HEADERS}
