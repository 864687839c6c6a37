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
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import SpanKind

from proto import meshops_pb2 as pb
from services.chassis.bus.audits import Audit
from services.chassis.connections import Connections
from services.chassis.errors import (
    DeadlineExpired,
    InternalError,
    MeshbusError,
    NotPermitted,
    RequestError,
    TooManyValues,
)
from services.chassis.policy import Identity, Policy
from services.chassis.reading.protobufs import require_few_fields
from services.chassis.telemetry import traces
from services.chassis.telemetry.metrics import RPC_SECONDS, Metrics
from services.chassis.telemetry.redaction import redacted_text
from services.gateway.adapters import listening
from services.gateway.door.accounts import Account
from services.gateway.door.identities import Door, Evidence
from services.gateway.handlers import Caller, Handlers, Unary
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.events import Joined, Write

SERVICES = tuple(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())

_HEALTH_PERIOD_S = 0.25
_TRACE_HEADERS = ("traceparent", "tracestate")
# They wait for the end of what they ask for, by a deadline of their own.
_WAITING = ("ProcessOAM", "Provision")
# Statuses travel in HTTP/2 headers, of which clients take 8 KiB in all.
_LONGEST_TEXT = 2000

Context = grpc.aio.ServicerContext[Any, Any]
Streaming = Callable[[Write, Joined, Caller], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """What every call passes: who asks, whether he is known, and a line in the audit."""

    door: Door
    policy: Callable[[], Policy]
    audit: Audit
    connections: Connections
    keeps_peers: bool
    deadline: timedelta
    """How long a call may take whose client sets no deadline."""

    def account(self, method: str, context: Context) -> Account:
        """Of a call that has just come."""
        address, port = _remote(context)
        self.connections.used(address, port)
        return Account(call=method, address=address)

    def admit(self, account: Account, context: Context, *, size: int = 0) -> Caller:
        """Raises `NotAuthenticated` or `NotPermitted`."""
        account.admitted = self.door.admit(_evidence(context))
        identity = account.admitted.identity
        if not self.policy().knows(identity):
            raise NotPermitted(f"no rule is for {identity.name}", subject=identity.name)
        return Caller(identity, account, lambda: self._connection(identity, context), size)

    def _connection(self, identity: Identity, context: Context) -> str:
        found = self.connections.of(*_remote(context)) if self.keeps_peers else None
        return f"{found.cookie} {identity.name}" if found is not None else ""

    def close(self, account: Account, error: MeshbusError | None = None) -> None:
        """The call has its answer."""
        if account.is_told(error):
            self.audit.write(account.entry(error))


def _remote(context: Context) -> tuple[str, int]:
    """Address and port of the peer: gRPC writes `ipv4:192.0.2.1:1234`, `ipv6:%5B::1%5D:1234`."""
    _, _, place = unquote(context.peer()).partition(":")
    address, _, port = place.rpartition(":")
    return address.strip("[]"), int(port) if port.isdigit() else 0


def _evidence(context: Context) -> Evidence:
    metadata = context.invocation_metadata() or ()
    headers = [str(value) for key, value in metadata if key == "authorization"]
    certificates = context.auth_context().get("x509_pem_cert", ())
    return Evidence(next(iter(headers), ""), next(iter(certificates), b""))


log = structlog.get_logger(__name__)


@asynccontextmanager
async def serving(
    settings: GatewaySettings,
    handlers: Handlers,
    entrance: Entrance,
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
    server = grpc.aio.server(options=listening.options(settings))
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(
        (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    server.add_generic_rpc_handlers(_generic_handlers(settings, handlers, entrance, metrics))
    listening.listen(server, settings, port)
    await _set_health(servicer, is_well())
    await server.start()
    beside = [
        asyncio.create_task(_mirror_health(servicer, is_well), name="grpc-health"),
        asyncio.create_task(entrance.connections.bound(), name="grpc-connections"),
    ]
    try:
        yield
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await servicer.enter_graceful_shutdown()
        on_drain()
        await server.stop(grace.total_seconds())


def _generic_handlers(
    settings: GatewaySettings, handlers: Handlers, entrance: Entrance, metrics: Metrics
) -> tuple[grpc.GenericRpcHandler, ...]:
    """One for each service, with a method handler for each of its calls."""
    return tuple(
        grpc.method_handlers_generic_handler(
            service.full_name,
            {
                method.name: _method_handler(settings, method, handlers, entrance, metrics)
                for method in service.methods
            },
        )
        for service in pb.DESCRIPTOR.services_by_name.values()
    )


def _method_handler(
    settings: GatewaySettings,
    method: MethodDescriptor,
    handlers: Handlers,
    entrance: Entrance,
    metrics: Metrics,
) -> grpc.RpcMethodHandler[Any, Any]:
    path = f"/{method.containing_service.full_name}/{method.name}"
    request = GetMessageClass(method.input_type)
    response = GetMessageClass(method.output_type)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _streaming_method(path, handlers.stream_events, entrance),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
    return grpc.unary_unary_rpc_method_handler(
        _unary_method(path, handlers.unary()[method.name], entrance, metrics),
        request_deserializer=_reading(request, most_fields=settings.max_message_fields),
        response_serializer=response.SerializeToString,
    )


class _Received(NamedTuple):
    """A request as it came, or why it is not read: there an error would have no status yet."""

    message: Message | TooManyValues
    size: int
    """Bytes on the wire. To ask a message of some MiB for it takes longer than to read it."""


def _reading(request: type[Message], *, most_fields: int) -> Callable[[bytes], _Received]:
    def read(body: bytes) -> _Received:
        try:
            require_few_fields(body, most=most_fields)
        except TooManyValues as error:
            return _Received(error, len(body))
        return _Received(request.FromString(body), len(body))

    return read


def _unary_method(
    path: str, unary: Unary, entrance: Entrance, metrics: Metrics
) -> Callable[[Any, Context], Awaitable[Any]]:
    """`unary` as grpc.aio calls it. `path` is the RPC's full name, with its leading slash."""
    service, _, method = path.strip("/").partition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    limit_s = None if method in _WAITING else entrance.deadline.total_seconds()

    async def answer(request: _Received, context: Context) -> Any:
        began = time.perf_counter()
        code = "OK"
        account = entrance.account(method, context)
        try:
            headers = _trace_headers(context)
            with traces.continued(
                path, headers=headers, attributes=attributes, kind=SpanKind.SERVER
            ):
                caller = entrance.admit(account, context, size=request.size)
                if isinstance(request.message, TooManyValues):
                    raise request.message
                async with _at_most(limit_s):
                    answered = await unary(request.message, caller)
                # The answer is on its way before that.
                asyncio.get_running_loop().call_soon(entrance.close, account)
                return answered
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as raised:
            error = _own_error(raised, path)
            code = error.status
            entrance.close(account, error)
            await _refuse(context, error)
        finally:
            metrics.observe(RPC_SECONDS, time.perf_counter() - began, method, code)

    return answer


@contextlib.asynccontextmanager
async def _at_most(seconds: float | None) -> AsyncIterator[None]:
    """Raises `DeadlineExpired` when the block takes longer."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExpired(f"the call took longer than {seconds:g} s") from None


def _streaming_method(
    path: str, streaming: Streaming, entrance: Entrance
) -> Callable[[Any, Context], Awaitable[None]]:
    """`streaming` as grpc.aio calls it."""

    async def stream(_request: Any, context: Context) -> None:
        async def joined() -> None:
            # Headers go out before the first event: the client sees that its stream stands.
            await context.send_initial_metadata(())
            entrance.close(account)

        account = entrance.account(path.rpartition("/")[2], context)
        try:
            await streaming(context.write, joined, entrance.admit(account, context))
        except Exception as raised:
            error = _own_error(raised, path)
            if isinstance(error, RequestError):
                entrance.close(account, error)
            await _refuse(context, error)

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
