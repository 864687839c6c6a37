"""What is asked, and what happens when some of it is not answered."""

from __future__ import annotations

import pytest

from services.chassis.errors import TelemetryUnavailable
from services.chassis.prometheus import Sample
from services.topology.telemetry.prometheus import PrometheusTelemetry
from services.topology.telemetry.traffic import FlowKey, Protocol, Telemetry
from tests.unit.topology.telemetry.told import (
    AT,
    PAGE,
    REVIEWS,
    SERVICE,
    Told,
    amount,
    duration,
    request,
    secured,
)

HTTP = FlowKey(PAGE, SERVICE, REVIEWS, Protocol.HTTP)
TCP = FlowKey(PAGE, SERVICE, REVIEWS, Protocol.TCP)


def everything() -> Told:
    return Told(
        requests=[request(2)],
        tcp_sent=[amount(10)],
        tcp_received=[amount(20)],
        durations=[duration("count", 1.0), duration("sum", 7.0)],
        bounds=[Sample({"le": "6"}, 1), Sample({"le": "8"}, 1)],
        security=[secured(1, "mutual_tls")],
        tcp_security=[secured(1, "none", protocol="")],
    )


async def test_all_answers_come_together() -> None:
    told = everything()
    telemetry: Telemetry = PrometheusTelemetry(told)
    flows = await telemetry.flows(at=AT, window_s=60)
    assert flows[HTTP].response_ms["50"] == 7
    assert flows[HTTP].mtls_share == 1
    assert (flows[TCP].sent, flows[TCP].received, flows[TCP].mtls_share) == (10, 20, 0)
    assert len(told.asked) == 9


async def test_a_mesh_without_traffic_has_no_flows() -> None:
    assert await PrometheusTelemetry(Told()).flows(at=AT, window_s=60) == {}


async def test_without_requests_nothing_can_be_told() -> None:
    told = everything()
    told.failing["requests"] = "Prometheus refused the query: too many samples"
    with pytest.raises(TelemetryUnavailable) as refused:
        await PrometheusTelemetry(told).flows(at=AT, window_s=60)
    assert "too many samples" in refused.value.cause


@pytest.mark.parametrize(
    ("failing", "what"),
    [
        ("durations", "response times"),
        ("grpc_sent", "gRPC messages sent"),
        ("tcp_received", "TCP bytes received"),
        ("security", "security of requests"),
    ],
)
async def test_what_fails_otherwise_is_missing_and_told(failing: str, what: str) -> None:
    told = everything()
    telemetry = PrometheusTelemetry(told)
    told.failing[failing] = "Prometheus did not answer within 10 s"
    flows = await telemetry.flows(at=AT, window_s=60)
    assert flows[HTTP].answers
    assert telemetry.missing == (f"{what}: Prometheus did not answer within 10 s",)
    told.failing.clear()
    await telemetry.flows(at=AT, window_s=60)
    assert not telemetry.missing
