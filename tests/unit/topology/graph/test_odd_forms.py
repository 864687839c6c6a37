"""Objects of a form that no schema allows: they hide nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.reading import Reader
from services.topology.cluster.state import State
from services.topology.feed.deltas import NODES, View, part_of
from services.topology.graph.graph import Graph

WEB = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "name": "http"}]},
}
SPECS: dict[str, dict[str, Any]] = {
    kinds.VIRTUAL_SERVICE: {
        "hosts": ["web"],
        "gateways": ["gw", "mesh"],
        "http": [
            {
                "match": [{"uri": {"prefix": "/"}}],
                "route": [{"destination": {"host": "web", "subset": "v1"}, "weight": 1}],
                "fault": {"abort": {"httpStatus": 500, "percentage": {"value": 1}}},
                "mirrors": [{"destination": {"host": "web"}}],
            }
        ],
    },
    kinds.DESTINATION_RULE: {
        "host": "web",
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}],
        "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1}}},
    },
    kinds.GATEWAY: {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"hosts": ["*"], "port": {"number": 80}}],
    },
    kinds.SERVICE_ENTRY: {
        "hosts": ["ext.com"],
        "workloadSelector": {"labels": {"app": "web"}},
        "ports": [{"number": 443}],
    },
    kinds.AUTHORIZATION_POLICY: {
        "selector": {"matchLabels": {"app": "web"}},
        "targetRefs": [{"kind": "Service", "name": "web"}],
    },
    kinds.HTTP_ROUTE: {
        "parentRefs": [{"name": "gw"}],
        "rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": 1}]}],
    },
}
ODD: tuple[Any, ...] = (None, "text", 7, [1], {"a": 1}, [], {}, [{}], [None], "", {"a": None})


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in pairs:
        yield (*at, name)
        if isinstance(inner, dict | list):
            yield from _places(inner, (*at, name))


def _with(spec: dict[str, Any], place: tuple[Any, ...], odd: Any) -> dict[str, Any]:
    changed = copy.deepcopy(spec)
    inner: Any = changed
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = odd
    return changed


@pytest.mark.parametrize("kind", SPECS)
def test_nothing_else_is_hidden(kind: str) -> None:
    reader = Reader()
    for place in _places(SPECS[kind]):
        for odd in ODD:
            state = State("token")
            graph = Graph(state)
            spec = _with(SPECS[kind], place, odd)
            obj = {"metadata": {"name": "odd", "namespace": "shop"}, "spec": spec}
            records = [reader.read(kind, obj), reader.read(kinds.SERVICE, WEB)]
            changes = [change for record in records if (change := state.put(record)) is not None]
            told = graph.changed(changes)
            nodes = told[part_of(View.SERVICE, NODES)].values()
            assert any(node and node.get("service") == "web" for node in nodes), (place, odd)
            # And what comes later is told too.
            gone = state.drop(records[1].key)
            assert gone is not None
            assert None in graph.changed([gone])[part_of(View.SERVICE, NODES)].values()
