"""The judgement on means, the histograms below it, and the words that people read."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from services.chassis.prometheus import Sample
from services.perf.telemetry.promql import Distribution, distributions_of, merged
from services.perf.telemetry.shares import At, Point, Split, split
from services.perf.telemetry.verdicts import (
    Confidence,
    Edge,
    Evidence,
    Place,
    ReporterLatency,
    Saturated,
    Share,
    Verdict,
)


def judged(
    *means: tuple[At, float], counts: dict[At, float] | None = None, scrapes: float | None = 10
) -> Split:
    points = [Point(at, (counts or {}).get(at, 1000), ms) for at, ms in means]
    return split(points, scrapes=scrapes)


WAYS = [
    ([(At.GENERATOR, 90), (At.SOURCE, 5), (At.DESTINATION, 2)], Place.CLIENT, Confidence.HIGH),
    (
        [(At.GENERATOR, 90), (At.SOURCE, 89), (At.DESTINATION, 2)],
        Place.SOURCE_PROXY,
        Confidence.MEDIUM,
    ),
    (
        [(At.GENERATOR, 90), (At.SOURCE, 89), (At.SOURCE_UPSTREAM, 2)],
        Place.SOURCE_PROXY,
        Confidence.HIGH,
    ),
    (
        [(At.GENERATOR, 90), (At.SOURCE, 89), (At.WAYPOINT, 80), (At.DESTINATION, 2)],
        Place.DESTINATION_PROXY,
        Confidence.MEDIUM,
    ),
    (
        [(At.GENERATOR, 90), (At.WAYPOINT, 80), (At.WAYPOINT_UPSTREAM, 2)],
        Place.DESTINATION_PROXY,
        Confidence.HIGH,
    ),
    (
        [(At.GENERATOR, 90), (At.DESTINATION, 80), (At.DESTINATION_UPSTREAM, 2)],
        Place.DESTINATION_PROXY,
        Confidence.HIGH,
    ),
    ([(At.GENERATOR, 90), (At.DESTINATION, 80)], Place.APPLICATION, Confidence.MEDIUM),
    (
        [(At.GENERATOR, 90), (At.DESTINATION, 80), (At.DESTINATION_UPSTREAM, 78)],
        Place.APPLICATION,
        Confidence.HIGH,
    ),
    # One proxy alone cannot say what of its time is its own.
    ([(At.GENERATOR, 90), (At.SOURCE, 80)], Place.UNKNOWN, Confidence.LOW),
    ([(At.GENERATOR, 90), (At.WAYPOINT, 80)], Place.UNKNOWN, Confidence.LOW),
    ([(At.GENERATOR, 90), (At.SOURCE, 5)], Place.CLIENT, Confidence.HIGH),
    ([(At.GENERATOR, 90), (At.SOURCE_UPSTREAM, 5)], Place.UNKNOWN, Confidence.LOW),
]


@pytest.mark.parametrize(("means", "place", "confidence"), WAYS)
def test_the_largest_share_is_the_place(
    means: list[tuple[At, float]], place: Place, confidence: Confidence
) -> None:
    result = judged(*means)
    assert (result.place, result.confidence) == (place, confidence), result.reason
    assert sum(share.ms for share in result.shares) == pytest.approx(means[0][1])


def test_no_point_but_the_generator_is_no_place() -> None:
    result = judged((At.GENERATOR, 90))
    assert (result.place, result.confidence, result.shares) == (Place.UNKNOWN, Confidence.LOW, [])
    assert "no proxy" in result.reason
    assert "too short: 1 scrapes" in judged((At.GENERATOR, 90), scrapes=1).reason


def test_less_than_proxies_can_count_is_no_place() -> None:
    result = judged((At.GENERATOR, 0.9), (At.DESTINATION, 0.2))
    assert result.place is Place.UNKNOWN
    assert "one millisecond" in result.reason


def test_shares_too_near_each_other_are_doubted() -> None:
    result = judged((At.GENERATOR, 20), (At.DESTINATION, 10.2))
    assert (result.place, result.confidence) == (Place.APPLICATION, Confidence.LOW)
    assert "less than a millisecond apart" in result.reason


def test_a_place_with_less_than_half_is_doubted() -> None:
    result = judged((At.GENERATOR, 100), (At.SOURCE, 60), (At.DESTINATION, 30))
    assert (result.place, result.confidence) == (Place.CLIENT, Confidence.MEDIUM)
    assert "no place has more than half" in result.reason


def test_a_point_slower_than_the_one_before_is_doubted() -> None:
    result = judged((At.GENERATOR, 50), (At.SOURCE, 80), (At.SOURCE_UPSTREAM, 2))
    assert result.confidence is Confidence.LOW
    assert "longer times than the point before" in result.reason
    assert result.shares[0].ms == -30


@pytest.mark.parametrize(
    ("counted", "confidence"),
    [
        (1050, Confidence.HIGH),
        (800, Confidence.MEDIUM),
        (1900, Confidence.MEDIUM),
        (400, Confidence.LOW),
        (2100, Confidence.LOW),
    ],
)
def test_other_counts_than_the_generators_are_doubted(
    counted: float, confidence: Confidence
) -> None:
    result = judged((At.GENERATOR, 90), (At.SOURCE, 5), counts={At.SOURCE: counted})
    assert result.confidence is confidence
    assert ("source counted" in result.reason) is (confidence is not Confidence.HIGH)


@pytest.mark.parametrize(
    ("scrapes", "confidence"),
    [
        (4, Confidence.HIGH),
        (3, Confidence.MEDIUM),
        (2, Confidence.MEDIUM),
        (1, Confidence.LOW),
        (0, Confidence.LOW),
        (None, Confidence.MEDIUM),
    ],
)
def test_few_scrapes_are_doubted(scrapes: float | None, confidence: Confidence) -> None:
    assert judged((At.GENERATOR, 90), (At.SOURCE, 5), scrapes=scrapes).confidence is confidence


def of(**bounds: float) -> Distribution:
    """From keyword arguments like `le5=10`, and `total`."""
    total = bounds.pop("total", 0.0)
    return Distribution({float(k[2:].replace("_", ".")): v for k, v in bounds.items()}, total)


def test_quantiles_are_linear_within_their_bucket() -> None:
    one = of(le10=0, le20=50, le40=100, leinf=100, total=2000)
    assert (one.count, one.mean) == (100, 20)
    assert one.quantile(0.25) == 15
    assert one.quantile(0.5) == 20
    assert one.quantile(0.75) == 30
    # Beyond the last bound nothing is known but that bound.
    assert of(le10=50, leinf=100).quantile(0.99) == 10
    assert Distribution().quantile(0.5) == 0
    assert Distribution().mean == 0


def test_a_bucket_that_decreases_does_not_mislead_the_next() -> None:
    assert of(le10=50, le20=40, le30=100, leinf=100).quantile(0.75) == 25


def test_samples_become_distributions_by_key() -> None:
    def sample(name: str, le: str, value: float) -> Sample:
        return Sample({"name": name, "le": le}, value)

    samples = [
        sample("a", "5", 3),
        sample("a", "+Inf", 4),
        sample("a", "sum", 20),
        sample("a", "junk", 9),
        sample("a", "10", float("nan")),
        sample("b", "5", 0),
    ]
    found = distributions_of(samples, lambda labels: labels["name"])
    assert list(found) == ["a"]
    assert (found["a"].count, found["a"].mean) == (4, 5)
    both = merged([found["a"], found["a"]])
    assert (both.count, both.total, both.buckets[5.0]) == (8, 40, 6)


def test_people_read_plain_lines() -> None:
    at = datetime(2026, 9, 1, tzinfo=timezone.utc)
    latency = ReporterLatency(reporter="source", requests=90, mean_ms=12, p50_ms=10, p99_ms=48.26)
    edge = Edge(
        source="web.shop",
        destination="cart.shop",
        service="cart.shop.svc.cluster.local",
        requests=90,
        errors=3,
        flags={"UO": 3},
        latencies=[latency],
    )
    verdict = Verdict(
        start=at,
        end=at,
        place=Place.APPLICATION,
        confidence=Confidence.MEDIUM,
        reason="why",
        shares=[Share(place=Place.CLIENT, ms=1.25, covers="this and that")],
        saturated=[Saturated(what="UO", where="cart", value=3, text="3 refused", query="q")],
        evidence=[Evidence(text="it was 7", query="q", value=7)],
        missing=["cpu: nothing"],
        edges=[edge] * 12,
    )
    lines = verdict.text().splitlines()
    assert lines[:4] == [
        "Latency: application (confidence medium: why)",
        "  1.2 ms client: this and that",
        "Saturated: 3 refused",
        "Seen: it was 7",
    ]
    assert lines[4] == (
        "Edge: web.shop to cart.shop (cart.shop.svc.cluster.local): 90 requests, 3 errors, UO 3, "
        "source mean 12.0, p50 10.0, p99 48.3 ms"
    )
    assert lines[-2:] == ["Edges: 2 more", "Not found: cpu: nothing"]
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
