"""Traces: W3C context in NATS headers, spans to Jaeger (or any collector) by OTLP over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from services.chassis.errors import MeshbusError
from services.chassis.settings import ChassisSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_EXPORT_EVERY_MS = 500
_EXPORT_TIMEOUT_S = 5

tracer = trace.get_tracer("meshbus")


def configure(settings: ChassisSettings, *, service: str) -> TracerProvider | None:
    """Starts the exporter when an endpoint is set; without one spans cost next to nothing."""
    if settings.otlp_endpoint is None:
        return None
    # A tenth of a service's start, for those who have a collector.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create(
        {"service.name": f"meshbus-{service}", "service.instance.id": settings.instance}
    )
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(
        endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT_S
    )
    provider.add_span_processor(
        BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_EVERY_MS)
    )
    trace.set_tracer_provider(provider)
    return provider


def injected(headers: Mapping[str, str]) -> dict[str, str]:
    """A fresh copy of `headers` that carries the current span's context."""
    carried = dict(headers)
    propagate.inject(carried)
    return carried


@contextmanager
def continued(
    name: str,
    *,
    headers: Mapping[str, str] | None,
    attributes: Mapping[str, str | int],
    kind: SpanKind = SpanKind.CONSUMER,
) -> Iterator[Span]:
    """A span whose parent is the sender's span."""
    parent = propagate.extract(dict(headers or {}))
    token = context.attach(parent)
    try:
        with span(name, kind=kind, attributes=attributes) as current:
            yield current
    finally:
        context.detach(token)


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int] | None = None,
) -> Iterator[Span]:
    """A span that records our errors by code, never by a foreign text."""
    with tracer.start_as_current_span(
        name,
        kind=kind,
        attributes=dict(attributes or {}),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            code = error.code if isinstance(error, MeshbusError) else type(error).__name__
            current.set_status(Status(StatusCode.ERROR, code))
            raise


def trace_id(current: Span) -> str:
    """The trace's id as Jaeger shows it."""
    return f"{current.get_span_context().trace_id:032x}"
