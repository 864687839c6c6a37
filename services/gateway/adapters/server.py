"""The gRPC server: both services from one set of handlers, reflection and health on one port.

There is no generated servicer class: the contract's descriptor says which calls there are, and one
handler serves a call under every name that it has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from proto import meshops_pb2 as pb
from services.chassis.telemetry.metrics import Metrics
from services.gateway.adapters.rpcs import answered, streamed
from services.gateway.handlers import Handlers

SERVICES = tuple(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())

# Go's gRPC, with which Meshery is built, takes answers of 4 MiB.
_LARGEST_ANSWER_BYTES = 4 * 1024 * 1024
# A thousand streams may come at once when Meshery restarts; the default sheds them.
_MOST_PENDING = 10_000
_HEALTH_PERIOD_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where and how the server listens."""

    address: str
    max_message_bytes: int
    keepalive: timedelta
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None


@asynccontextmanager
async def serving(
    listener: Listener,
    handlers: Handlers,
    *,
    metrics: Metrics,
    is_well: Callable[[], bool],
    on_drain: Callable[[], None],
    grace: timedelta,
) -> AsyncIterator[None]:
    """Serves for the block; on the way out running calls may end within `grace`.

    `on_drain` makes what runs without end (streams) come to one.
    """
    server = grpc.aio.server(options=_options(listener))
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(
        (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    server.add_generic_rpc_handlers(_generic_handlers(handlers, metrics))
    _listen(server, listener)
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


def _options(listener: Listener) -> list[tuple[str, Any]]:
    silence_ms = int(listener.keepalive.total_seconds() * 1000)
    return [
        ("grpc.max_receive_message_length", listener.max_message_bytes),
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
            streamed(path, handlers.stream_events),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
    return grpc.unary_unary_rpc_method_handler(
        answered(path, handlers.unary()[method.name], metrics),
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )


def _listen(server: grpc.aio.Server, listener: Listener) -> None:
    try:
        if listener.tls_certificate is None or listener.tls_key is None:
            server.add_insecure_port(listener.address)
        else:
            server.add_secure_port(listener.address, _credentials(listener))
    except RuntimeError as error:
        # Without its cause: gRPC's text has file names and lines of its C++ sources.
        raise OSError(f"cannot listen on {listener.address}; is the port taken?") from error


def _credentials(listener: Listener) -> grpc.ServerCredentials:
    assert listener.tls_certificate is not None
    assert listener.tls_key is not None
    authorities = listener.tls_client_ca.read_bytes() if listener.tls_client_ca else None
    return grpc.ssl_server_credentials(
        [(listener.tls_key.read_bytes(), listener.tls_certificate.read_bytes())],
        root_certificates=authorities,
        require_client_auth=authorities is not None,
    )


async def _mirror_health(servicer: health.aio.HealthServicer, is_well: Callable[[], bool]) -> None:
    """NATS comes and goes; grpc.health must say so to whoever watches."""
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
