"""Messages of the feed: absolute changes of parts, numbered within an epoch.

A part is a set of items by id: the nodes and edges of one view of the graph, the findings, the
drifts. A delta holds new items whole, and null for those that are gone, so that applying one twice
or a late one again does no harm. The epoch is the lease's: of two workers that both believe to own
a cluster, the later one's word counts.

Deltas travel as JSON, so that `nats sub 'live.evt.topology.>'` reads like a log. Not by pydantic: a
checkpoint of a large mesh has ten thousand items, and these fields are read here alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import StrEnum
from typing import Any, TypeAlias

import orjson

from services.chassis.bus import envelopes
from services.chassis.errors import InvalidMessage
from services.chassis.messages.models import SCHEMA_VERSION
from services.chassis.reading.jsons import read_json

Item: TypeAlias = dict[str, Any]


class View(StrEnum):
    """Kiali's `graphType`s."""

    APP = "app"
    VERSIONED_APP = "versionedApp"
    WORKLOAD = "workload"
    SERVICE = "service"


class Topic(StrEnum):
    """The fourth token of the subject `evt.topology.<cluster>.<topic>.<stage>`."""

    GRAPH = "graph"
    FINDINGS = "findings"
    DRIFT = "drift"
    CHECKPOINT = "checkpoint"
    """Everything as it is: what readers begin with, and what a time in the past is told from."""


class Stage(StrEnum):
    """The stage of a message: a delta, or a part of a checkpoint."""

    DELTA = "delta"
    BEGIN = "begin"
    """All before is void: the items of a checkpoint follow, up to its end."""
    ITEMS = "items"
    END = "end"


NODES, EDGES = "nodes", "edges"


def part_of(view: View, of: str) -> str:
    """Name of the part with a view's nodes or edges: `app.nodes`."""
    return f"{view}.{of}"


FINDINGS_PART = "findings"
DRIFT_PART = "drift"
INFO_PART = "info"
"""One item for the cluster itself, id `cluster`: name, state of the watches and of telemetry."""

Parts: TypeAlias = Mapping[str, Mapping[str, Item | None]]
"""Changed items by part and id; None is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """One message of the feed."""

    cluster: str
    epoch: int
    number: int
    """Counts from 1 within an epoch over all topics. To a listener of `Views`, 1 is the beginning:
    the whole view is another one."""
    parts: Parts
    topic: Topic = Topic.GRAPH
    stage: Stage = Stage.DELTA
    time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


SERVICE = "topology"
STREAM = "TOPO"
_MOST_BYTES = 400_000
_ITEM_OVERHEAD_BYTES = 100

Encoded: TypeAlias = tuple[bytes, dict[str, str]]
"""Body and headers of a message."""
Texts = Mapping[str, Mapping[str, bytes]]
"""Parts whose items are JSON texts already."""


def subject(cluster: str, topic: Topic, stage: Stage) -> str:
    """Where a message of the feed goes."""
    return f"evt.{SERVICE}.{cluster}.{topic}.{stage}"


def every(cluster: str) -> str:
    """All subjects of a cluster's feed."""
    return f"evt.{SERVICE}.{cluster}.>"


def encoded(delta: Delta) -> Encoded:
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
        raw = read_json(envelopes.unpacked(body, headers))
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
    piece: dict[str, dict[str, Any]] = {}
    size = 0
    for part, items in parts.items():
        for ident, item in items.items():
            if item is None:
                took = 0
            else:
                took = len(item if isinstance(item, bytes) else orjson.dumps(item))
            took += _ITEM_OVERHEAD_BYTES
            if size + took > _MOST_BYTES and piece:
                yield piece
                piece, size = {}, 0
            piece.setdefault(part, {})[ident] = item
            size += took
    if piece:
        yield piece
