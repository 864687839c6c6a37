"""Renewing traffic: which flows are a cluster's, and what becomes of a source that is away."""

from __future__ import annotations

from typing import Any

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Key
from services.topology.cluster.state import State
from services.topology.mesh.meshes import DEFAULT_NAME, istio_name
from services.topology.renewing import own
from services.topology.telemetry.traffic import Called, Flow, FlowKey, Peer, Protocol


def _state(name: str = "") -> State:
    state = State("token", "people's name")
    if name:
        key = Key(kinds.CONFIG_MAP, "istio-system", "istio-sidecar-injector-canary")
        values = {"global": {"multiCluster": {"clusterName": name}}}
        state.put(Config(key=key, spec={"values": values}))
    return state


@pytest.mark.parametrize(
    "values",
    ["text", 7, ["a"], {"global": "text"}, {"global": {"multiCluster": {"clusterName": 1}}}],
)
def test_the_injectors_values_may_be_anything(values: Any) -> None:
    state = _state("east")
    key = Key(kinds.CONFIG_MAP, "istio-system", "istio-sidecar-injector-canary")
    state.put(Config(key=key, spec={"values": values}))
    assert istio_name(state) == DEFAULT_NAME


def _flow(source: str, destination: str) -> FlowKey:
    ends = [Peer(cluster=name, namespace="a", workload="w") for name in (source, destination)]
    return FlowKey(ends[0], Called(name="s"), ends[1], Protocol.HTTP)


def test_the_injector_says_what_istio_calls_the_cluster() -> None:
    assert istio_name(_state()) == DEFAULT_NAME
    assert istio_name(_state("east")) == "east"


def test_a_flow_is_of_the_clusters_of_both_its_ends() -> None:
    within, out, back, foreign = (
        _flow("east", "east"),
        _flow("east", "west"),
        _flow("west", "east"),
        _flow("west", "north"),
    )
    unknown = _flow("", "west")
    flows = {key: Flow() for key in (within, out, back, foreign, unknown)}
    assert set(own(flows, _state("east"))) == {within, out, back, unknown}
