"""What other clusters are called: whenever it is known, the graph is as if it always had been."""

from __future__ import annotations

from dataclasses import replace

from services.topology.feed.deltas import View
from services.topology.telemetry.traffic import Called, FlowKey, Peer
from tests.unit.topology.graph.clusters import Followed, called, deployed, http, peer, service

WEST = Peer("west", "shop", "cart-v1", "cart", "v1")
OUT = http(peer("web-v1"), Called("west", "shop", "cart", "cart.shop.svc.cluster.local"), WEST)
NAMES = {"west": "green"}


def mesh() -> Followed:
    found = Followed()
    found.put(service("web"), *deployed("web-v1", "web"))
    return found


def clusters(found: Followed) -> set[str]:
    return {node["cluster"] for view in View for node in found.nodes(view).values()}


def test_a_name_that_comes_late_makes_the_same_graph() -> None:
    late, early = mesh(), mesh()
    late.flows(OUT)
    assert clusters(late) == {"east", "west"}
    late.follow(late.graph.neighbours(NAMES))
    early.follow(early.graph.neighbours(NAMES))
    early.flows(OUT)
    assert clusters(late) == {"east", "green"}
    assert late.items == early.items
    assert late.graph.neighbours(dict(NAMES)) == {}


def test_a_name_that_goes_leaves_what_telemetry_says() -> None:
    found, never = mesh(), mesh()
    found.follow(found.graph.neighbours(NAMES))
    found.flows(OUT)
    found.follow(found.graph.neighbours({}))
    never.flows(OUT)
    assert found.items == never.items


def test_its_own_names_are_not_anothers() -> None:
    key, flow = http(peer("web-v1"), called("web"), peer("web-v1"))
    unnamed = FlowKey(replace(key.source, cluster=""), key.called, key.destination, key.protocol)
    found = mesh()
    found.follow(found.graph.neighbours({"east": "blue", "": "nobody"}))
    found.flows((unnamed, flow))
    assert clusters(found) == {"east"}
