"""What the topology service tells: absolute changes of parts, numbered within an epoch.

A part is a set of items by id: the nodes and edges of one view of the graph, the findings, the
drifts. A delta holds new items whole, and null for those that are gone, so that applying one twice
or a late one again does no harm. The epoch is the lease's: of two workers that both believe to own
a cluster, the later one's word counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import StrEnum
from typing import Any, TypeAlias

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
    """What a message of the feed is."""

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
