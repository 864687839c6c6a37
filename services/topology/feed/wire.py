"""The feed's messages as JSON: `nats sub 'live.evt.topology.>'` reads like a log.

Not pydantic: a checkpoint of a large mesh has ten thousand items, and the only reader of these
fields is this file's other half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import orjson

from services.chassis.bus import envelopes
from services.chassis.errors import InvalidMessage
from services.chassis.messages.models import SCHEMA_VERSION
from services.topology.feed.feeds import Delta, Parts, Stage, Topic

SERVICE = "topology"
STREAM = "TOPO"
_MOST_BYTES = 400_000
_ITEM_OVERHEAD_BYTES = 100

Texts = Mapping[str, Mapping[str, bytes]]
"""Parts whose items are JSON texts already."""


def subject(cluster: str, topic: Topic, stage: Stage) -> str:
    """Where a message of the feed goes."""
    return f"evt.{SERVICE}.{cluster}.{topic}.{stage}"


def every(cluster: str) -> str:
    """All subjects of a cluster's feed."""
    return f"evt.{SERVICE}.{cluster}.>"


def encoded(delta: Delta) -> tuple[bytes, dict[str, str]]:
    """Body and headers."""
    body = orjson.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "time": delta.time,
            "cluster": delta.cluster,
            "epoch": delta.epoch,
            "number": delta.number,
            "topic": delta.topic,
            "stage": delta.stage,
            "parts": {
                part: {
                    ident: orjson.Fragment(item) if isinstance(item, bytes) else item
                    for ident, item in items.items()
                }
                for part, items in delta.parts.items()
            },
        }
    )
    body, encoding = envelopes.compressed(body)
    headers = {envelopes.CONTENT_TYPE: envelopes.JSON, envelopes.SCHEMA: str(SCHEMA_VERSION)}
    return body, headers | encoding


def decoded(body: bytes, headers: Mapping[str, str]) -> Delta:
    """The delta of a message; raises `InvalidMessage`."""
    try:
        raw = orjson.loads(envelopes.unpacked(body, headers))
        if raw["schema_version"] != SCHEMA_VERSION:
            raise InvalidMessage(f"schema version {raw['schema_version']!r} is not known here")
        return Delta(
            cluster=raw["cluster"],
            epoch=raw["epoch"],
            number=raw["number"],
            parts=raw["parts"],
            topic=Topic(raw["topic"]),
            stage=Stage(raw["stage"]),
            time=datetime.fromisoformat(raw["time"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidMessage("not a message of the feed") from error


def cut(parts: Parts | Texts) -> Iterator[Parts]:
    """The same items in pieces that each fit into a message."""
    piece: dict[str, dict[str, object]] = {}
    size = 0
    for part, items in parts.items():
        for ident, item in items.items():
            if item is None:
                took = 0
            else:
                took = len(item if isinstance(item, bytes) else orjson.dumps(item))
            took += _ITEM_OVERHEAD_BYTES
            if size + took > _MOST_BYTES and piece:
                yield piece  # type: ignore[misc]
                piece, size = {}, 0
            piece.setdefault(part, {})[ident] = item
            size += took
    if piece:
        yield piece  # type: ignore[misc]
