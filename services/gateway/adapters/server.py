"""The gRPC server: both services from one set of handlers, reflection and health on one port.

There is no generated servicer class: the contract's descriptor says which calls there are, and one
handler serves a call under every name that it has. Time, span and the way from an error to a status
are a plain function around each handler, and no interceptor: grpc.aio's interceptors see a handler
before the request is read, so they would wrap it in just this way, with more ceremony.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import SpanKind

from proto import meshops_pb2 as pb
from services.chassis.errors import InternalError, MeshbusError
from services.chassis.policy import LOCAL
from services.chassis.telemetry import traces
from services.chassis.telemetry.metrics import RPC_SECONDS, Metrics
from services.chassis.telemetry.redaction import redacted_text
from services.gateway.events import Joined, Write
from services.gateway.handlers import Caller, Handlers, Unary
from services.gateway.settings import GatewaySettings

SERVICES = tuple(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())

# Go's gRPC, with which Meshery is built, takes answers of 4 MiB.
_LARGEST_ANSWER_BYTES = 4 * 1024 * 1024
# A thousand streams may come at once when Meshery restarts; the default sheds them.
_MOST_PENDING = 10_000
_HEALTH_PERIOD_S = 0.25
_TRACE_HEADERS = ("traceparent", "tracestate")
# Statuses travel in HTTP/2 headers, of which clients take 8 KiB in all.
_LONGEST_TEXT = 2000

Context = grpc.aio.ServicerContext[Any, Any]
Streaming = Callable[[Write, Joined], Awaitable[None]]

log = structlog.get_logger(__name__)


@asynccontextmanager
async def serving(
    settings: GatewaySettings,
    handlers: Handlers,
    *,
    port: int,
    metrics: Metrics,
    is_well: Callable[[], bool],
    on_drain: Callable[[], None],
    grace: timedelta,
) -> AsyncIterator[None]:
    """Serves for the block; on the way out running calls may end within `grace`.

    `on_drain` makes what runs without end (streams) come to one.
    """
    server = grpc.aio.server(options=_options(settings))
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(
        (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    server.add_generic_rpc_handlers(_generic_handlers(handlers, metrics))
    _listen(server, settings, port)
    await _set_health(servicer, is_well())
    await server.start()
    mirror = asyncio.create_task(_mirror_health(servicer, is_well), name="grpc-health")
    try:
        yield
    finally:
        mirror.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await mirror
        await servicer.enter_graceful_shutdown()
        on_drain()
        await server.stop(grace.total_seconds())


def _options(settings: GatewaySettings) -> list[tuple[str, Any]]:
    silence_ms = int(settings.keepalive.total_seconds() * 1000)
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", _LARGEST_ANSWER_BYTES),
        ("grpc.server.max_pending_requests", _MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
        # Two gateways on one port by mistake must be an error, not a lottery.
        ("grpc.so_reuseport", 0),
        # A peer that vanished (half-open TCP) is noticed and its stream ends.
        ("grpc.keepalive_time_ms", silence_ms),
        ("grpc.keepalive_timeout_ms", silence_ms // 3),
        # The answer to the ping itself has a timeout of its own, a minute by default.
        ("grpc.http2.ping_timeout_ms", silence_ms // 3),
        ("grpc.keepalive_permit_without_calls", 1),
        # Go's clients may ping every 10 s, also while they have no call.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def _generic_handlers(handlers: Handlers, metrics: Metrics) -> tuple[grpc.GenericRpcHandler, ...]:
    """One for each service, with a method handler for each of its calls."""
    return tuple(
        grpc.method_handlers_generic_handler(
            service.full_name,
            {
                method.name: _method_handler(service.full_name, method, handlers, metrics)
                for method in service.methods
            },
        )
        for service in pb.DESCRIPTOR.services_by_name.values()
    )


def _method_handler(
    service: str, method: MethodDescriptor, handlers: Handlers, metrics: Metrics
) -> grpc.RpcMethodHandler[Any, Any]:
    path = f"/{service}/{method.name}"
    request = GetMessageClass(method.input_type)
    response = GetMessageClass(method.output_type)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _streaming_method(path, handlers.stream_events),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
    return grpc.unary_unary_rpc_method_handler(
        _unary_method(path, handlers.unary()[method.name], metrics),
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )


def _unary_method(
    path: str, unary: Unary, metrics: Metrics
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
                return await unary(request, Caller(LOCAL, context.peer()))
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as raised:
            error = _own_error(raised, path)
            code = error.status
            await _refuse(context, error)
        finally:
            metrics.observe(RPC_SECONDS, time.perf_counter() - began, method, code)

    return answer


def _streaming_method(path: str, streaming: Streaming) -> Callable[[Any, Context], Awaitable[None]]:
    """`streaming` as grpc.aio calls it."""

    async def stream(_request: Any, context: Context) -> None:
        async def joined() -> None:
            # Headers go out before the first event: the client sees that its stream stands.
            await context.send_initial_metadata(())

        try:
            await streaming(context.write, joined)
        except Exception as raised:
            await _refuse(context, _own_error(raised, path))

    return stream


def _own_error(raised: Exception, path: str) -> MeshbusError:
    """Our own error as it is; a foreign one without its text, which may hold anything."""
    if isinstance(raised, MeshbusError):
        log.info("call_refused", call=path, code=raised.code, reason=raised.summary)
        return raised
    log.error("call_failed", call=path, exc_info=raised)
    return InternalError(f"{path.rpartition('/')[2]} met an unexpected {type(raised).__name__}")


async def _refuse(context: Context, error: MeshbusError) -> None:
    """Ends the call with the error's status, its code, cause and remedy in the text."""
    text = redacted_text(str(error))
    if len(text) > _LONGEST_TEXT:
        text = text[: _LONGEST_TEXT - 1] + "…"
    await context.abort(grpc.StatusCode[error.status], text)


def _trace_headers(context: Context) -> dict[str, str]:
    metadata = context.invocation_metadata() or ()
    return {key: str(value) for key, value in metadata if key in _TRACE_HEADERS}


def _listen(server: grpc.aio.Server, settings: GatewaySettings, port: int) -> None:
    address = f"{settings.host}:{port}"
    try:
        if settings.tls_certificate is None or settings.tls_key is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, _credentials(settings))
    except RuntimeError as error:
        # Without its cause: gRPC's text has file names and lines of its C++ sources.
        raise OSError(f"cannot listen on {address}; is the port taken?") from error


def _credentials(settings: GatewaySettings) -> grpc.ServerCredentials:
    assert settings.tls_certificate is not None
    assert settings.tls_key is not None
    authorities = settings.tls_client_ca.read_bytes() if settings.tls_client_ca else None
    return grpc.ssl_server_credentials(
        [(settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())],
        root_certificates=authorities,
        require_client_auth=authorities is not None,
    )


async def _mirror_health(servicer: health.aio.HealthServicer, is_well: Callable[[], bool]) -> None:
    """Reports the state of NATS in grpc.health as it changes."""
    said = None
    while True:
        well = is_well()
        if well != said:
            await _set_health(servicer, well)
            said = well
        await asyncio.sleep(_HEALTH_PERIOD_S)


async def _set_health(servicer: health.aio.HealthServicer, well: bool) -> None:
    status = health_pb2.HealthCheckResponse
    for service in ("", *SERVICES):
        await servicer.set(service, status.SERVING if well else status.NOT_SERVING)
