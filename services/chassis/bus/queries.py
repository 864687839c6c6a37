"""The service API: questions that `nats micro ls` shows and `nats req` asks, answered in JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import Service, ServiceConfig

from services.chassis.bus.connection import Bus
from services.chassis.errors import InternalError, MalformedRequest, MeshbusError
from services.chassis.messages import ErrorReport

VERSION = "0.1.0"

log = structlog.get_logger(__name__)

Answerer = Callable[[dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Query:
    """One question: `mesh.<service>.<verb>`. `usage` says what the request's JSON may hold."""

    verb: str
    usage: str
    answer: Answerer


async def serve_queries(
    bus: Bus, *, service: str, description: str, queries: Sequence[Query]
) -> Service:
    """Registers the service and its endpoints; all replicas share one queue group."""
    registered = await add_service(
        bus.client,
        ServiceConfig(
            name=f"mesh-{service}",
            version=VERSION,
            description=description,
            queue_group=service,
        ),
    )
    for query in queries:
        await registered.add_endpoint(
            name=query.verb,
            subject=f"mesh.{service}.{query.verb}",
            handler=_responder(query),
            metadata={"usage": query.usage},
        )
    return registered


def _responder(query: Query) -> Callable[[Request], Awaitable[None]]:
    async def respond(request: Request) -> None:
        try:
            answer = await query.answer(_asked(request.data, usage=query.usage))
        except Exception as error:
            if not isinstance(error, MeshbusError):
                log.exception("query_failed", verb=query.verb)
                error = InternalError("the question could not be answered")
            report = ErrorReport.of(error)
            await request.respond_error(
                code=report.code,
                description=f"{report.summary}. {report.remedy}",
                data=orjson.dumps(report.model_dump(mode="json")),
            )
            return
        await request.respond(orjson.dumps(answer))

    return respond


def _asked(body: bytes, *, usage: str) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        asked = None
    if not isinstance(asked, dict):
        raise MalformedRequest("the question is not a JSON object", remedy=f"send {usage}")
    return asked
