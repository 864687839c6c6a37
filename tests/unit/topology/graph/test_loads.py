"""Rates, response tables and health: figures and their form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from services.topology.graph.health import (
    DEFAULT,
    Status,
    of_replicas,
    of_requests,
    tolerances,
)
from services.topology.graph.loads import number
from services.topology.telemetry.traffic import Answers, Flow, FlowKey, Protocol
from tests.unit.topology.graph.clusters import (
    NS,
    UNKNOWN,
    Followed,
    called,
    deployed,
    endpoints,
    http,
    peer,
    service,
    workload,
)

CART, SHOP = peer("cart-v1", "cart"), peer("front-v1", "front")


@pytest.mark.parametrize(
    ("value", "least", "text"),
    [
        (1.0, 2, "1.00"),
        (12.345, 2, "12.35"),
        (0.5, 2, "0.50"),
        (0.004, 2, "0.004"),
        (0.00002, 2, "0.00002"),
        (0.0000004, 2, "0.00000"),
        (33.333, 1, "33.3"),
        (0.02, 1, "0.02"),
        (0.0, 2, "0.00"),
    ],
)
def test_numbers(value: float, least: int, text: str) -> None:
    assert number(value, least) == text


def shop(*flows: tuple[FlowKey, Flow]) -> Followed:
    found = Followed()
    found.put(
        service("cart"),
        endpoints("cart"),
        *deployed("front-v1", "front"),
        *deployed("cart-v1", "cart"),
    )
    found.flows(*flows)
    return found


def test_http_edge() -> None:
    rates = {"200": 6.0, "302": 1.0, "404": 1.0, "503": 1.5, "0": 0.5}
    found = shop(
        http(
            SHOP,
            called("cart"),
            CART,
            rates,
            response_ms={"50": 3.0, "95": 41.6},
            mtls_share=0.994,
            source_principal="spiffe://a",
            destination_principal="spiffe://b",
        ),
        http(SHOP, called("else"), UNKNOWN, {"200": 10.0}),
    )
    edge = found.edge("w:front-v1", "s:cart")
    assert edge["traffic"]["protocol"] == "http"
    assert edge["traffic"]["rates"] == {
        "http": "10.00",
        "http3xx": "1.00",
        "http4xx": "1.00",
        "http5xx": "1.50",
        "httpNoResponse": "0.50",
        "httpPercentErr": "30.0",
        "httpPercentReq": "50.0",
    }
    host = called("cart").host
    assert edge["traffic"]["responses"]["503"] == {"flags": {"-": "15.0"}, "hosts": {host: "15.0"}}
    assert "-" in edge["traffic"]["responses"]
    assert (edge["responseTime"], edge["isMTLS"]) == ("42", "99")
    assert (edge["sourcePrincipal"], edge["destPrincipal"]) == ("spiffe://a", "spiffe://b")
    assert edge["healthStatus"] == "Failure"


def test_http_node() -> None:
    found = shop(http(SHOP, called("cart"), CART, {"200": 3.0, "500": 1.0}))
    rates = {"httpIn": "4.00", "httpIn5xx": "1.00"}
    assert found.node("wl", NS, "cart-v1")["traffic"] == [{"protocol": "http", "rates": rates}]
    both = rates | {"httpOut": "4.00"}
    assert found.node("svc", NS, "cart")["traffic"] == [{"protocol": "http", "rates": both}]
    out = [{"protocol": "http", "rates": {"httpOut": "4.00"}}]
    assert found.node("wl", NS, "front-v1")["traffic"] == out


def test_grpc() -> None:
    answers = tuple(Answers(code, "-", "", 1.0) for code in ("0", "14", "503", "-"))
    key = FlowKey(SHOP, called("cart"), CART, Protocol.GRPC)
    found = shop((key, Flow(answers=answers)))
    assert found.edge("w:front-v1", "s:cart")["traffic"]["rates"] == {
        "grpc": "4.00",
        "grpcErr": "2.00",
        "grpcNoResponse": "1.00",
        "grpcPercentErr": "75.0",
        "grpcPercentReq": "100.0",
    }
    (node,) = found.node("wl", NS, "cart-v1")["traffic"]
    assert node["rates"] == {"grpcIn": "4.00", "grpcInErr": "2.00", "grpcInNoResponse": "1.00"}


def test_tcp() -> None:
    key = FlowKey(SHOP, called("cart"), CART, Protocol.TCP)
    found = shop((key, Flow(sent=100.0, received=7.0)))
    edge = found.edge("w:front-v1", "s:cart")
    assert edge["traffic"] == {"protocol": "tcp", "rates": {"tcp": "100.00"}}
    assert "healthStatus" not in edge
    (node,) = found.node("svc", NS, "cart")["traffic"]
    assert node["rates"] == {"tcpIn": "100.00", "tcpOut": "100.00"}


@pytest.mark.parametrize(
    ("requests", "status"),
    [
        ({}, Status.NA),
        ({"http": {"200": 1.0}}, Status.HEALTHY),
        ({"http": {"200": 99.9, "500": 0.1}}, Status.DEGRADED),
        ({"http": {"200": 9.0, "500": 1.0}}, Status.FAILURE),
        ({"http": {"200": 95.0, "404": 5.0}}, Status.HEALTHY),
        ({"http": {"200": 9.0, "404": 1.0}}, Status.DEGRADED),
        ({"http": {"200": 8.0, "404": 2.0}}, Status.FAILURE),
        ({"http": {"200": 99.0, "-": 1.0}}, Status.DEGRADED),
        ({"grpc": {"0": 99.0, "14": 1.0}}, Status.DEGRADED),
        ({"grpc": {"0": 9.0, "16": 1.0}}, Status.FAILURE),
        ({"grpc": {"0": 9.0, "17": 1.0}}, Status.HEALTHY),
        ({"http": {"500": 0.0}}, Status.NA),
    ],
)
def test_tolerances(requests: Mapping[str, Any], status: Status) -> None:
    assert of_requests(requests) is status


@pytest.mark.parametrize(
    ("wanted", "ready", "status"),
    [
        (0, 0, Status.NOT_READY),
        (2, 0, Status.FAILURE),
        (2, 1, Status.DEGRADED),
        (2, 2, Status.HEALTHY),
        (1, 2, Status.HEALTHY),
    ],
)
def test_replicas(wanted: int, ready: int, status: Status) -> None:
    assert of_replicas(wanted, ready) is status


NOTE = {"health.kiali.io/rate": "5xx,30,60,http,inbound;4XX,1,2,http,outbound"}


def test_an_annotation_takes_the_defaults_place() -> None:
    limits = tolerances(NOTE)
    assert of_requests({"http": {"200": 8.0, "500": 2.0}}, limits) is Status.HEALTHY
    assert of_requests({"http": {"200": 6.0, "500": 4.0}}, limits) is Status.DEGRADED
    assert of_requests({"http": {"404": 1.0}}, limits) is Status.HEALTHY
    assert of_requests({"http": {"404": 1.0}}, limits, "outbound") is Status.FAILURE


@pytest.mark.parametrize("text", ["", "nonsense", "5xx,a,b,http,.*", "[,1,2,http,.*"])
def test_annotations_that_say_nothing(text: str) -> None:
    assert tolerances({"health.kiali.io/rate": text}) is DEFAULT


def test_health_of_a_node() -> None:
    found = shop(http(SHOP, called("cart"), CART, {"200": 9.0, "500": 1.0}))
    health = found.node("wl", NS, "cart-v1")["healthData"]
    assert health == {
        "status": "Failure",
        "workloadStatus": {
            "name": "cart-v1",
            "desiredReplicas": 1,
            "currentReplicas": 1,
            "availableReplicas": 1,
            "syncedProxies": -1,
        },
        "requests": {
            "inbound": {"http": {"200": 9.0, "500": 1.0}},
            "outbound": {},
            "healthAnnotations": {},
        },
    }
    found.put(workload("cart-v1", "cart", annotations=NOTE))
    assert found.node("wl", NS, "cart-v1")["healthData"]["status"] == "Healthy"
    assert found.edge("s:cart", "w:cart-v1")["healthStatus"] == "Healthy"
    assert found.edge("w:front-v1", "s:cart")["healthStatus"] == "Failure"
    found.put(workload("cart-v1", "cart", annotations=NOTE, wanted=2))
    assert found.node("wl", NS, "cart-v1")["healthData"]["status"] == "Degraded"
