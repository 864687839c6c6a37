"""Reports of proxies as Prometheus gives them; Istio's labels are spelled out where they matter."""

from __future__ import annotations

from datetime import datetime, timezone

from services.chassis.prometheus import MetricsError, PrometheusApi, Sample
from services.topology.telemetry import queries
from services.topology.telemetry.queries import Amount
from services.topology.telemetry.traffic import Called, Peer

AT = datetime(2026, 9, 1, 12, tzinfo=timezone.utc)
HOST = "reviews.shop.svc.cluster.local"
SHOP = {
    "source_cluster": "Kubernetes",
    "source_workload_namespace": "shop",
    "source_workload": "page-v1",
    "source_canonical_service": "page",
    "source_canonical_revision": "v1",
    "destination_cluster": "Kubernetes",
    "destination_workload_namespace": "shop",
    "destination_workload": "reviews-v2",
    "destination_canonical_service": "reviews",
    "destination_canonical_revision": "v2",
    "destination_service_namespace": "shop",
    "destination_service_name": "reviews",
    "destination_service": HOST,
}
PAGE = Peer("Kubernetes", "shop", "page-v1", "page", "v1")
REVIEWS = Peer("Kubernetes", "shop", "reviews-v2", "reviews", "v2")
SERVICE = Called("Kubernetes", "shop", "reviews", HOST)
NO_SOURCE = {name: "unknown" for name in SHOP if name.startswith("source_")}
NO_DESTINATION = {
    name: "unknown"
    for name in SHOP
    if name.startswith(("destination_workload", "destination_canonical"))
}


def text(**changed: str) -> str:
    """An edge of the shop, as one text."""
    return queries.joined({**SHOP, **changed}, queries.ENDS)


def request(
    rate: float,
    reporter: str = "destination",
    *,
    protocol: str = "http",
    code: str = "200",
    grpc: str = "",
    flags: str = "-",
    **changed: str,
) -> Sample:
    details = "|".join((reporter, protocol, code, grpc, flags))
    return Sample({"edge": text(**changed), "details": details}, rate)


def amount(rate: float, reporter: str = "destination", *, app: str = "", **changed: str) -> Sample:
    return Sample({"edge": text(**changed), "details": f"{reporter}|{app}"}, rate)


def duration(
    bound: str, value: float, reporter: str = "source", *, protocol: str = "http", **changed: str
) -> Sample:
    labels = {"edge": text(**changed), "details": f"{reporter}|{protocol}", "le": bound}
    return Sample(labels, value)


def secured(
    rate: float, policy: str, source: str = "", destination: str = "", *, protocol: str = "http"
) -> Sample:
    details = "|".join((protocol, policy, source, destination))
    return Sample({"edge": text(), "details": details}, rate)


class Told(PrometheusApi):
    """A Prometheus that answers by what the query is about."""

    def __init__(self, **answers: list[Sample]) -> None:
        super().__init__("http://127.0.0.1:1")
        self.answers = answers
        self.failing: dict[str, str] = {}
        self.asked: list[str] = []

    async def query(self, text: str, *, at: datetime) -> list[Sample]:
        self.asked.append(text)
        about = _about(text)
        if about in self.failing:
            raise MetricsError(self.failing[about])
        return self.answers.get(about, [])


def _about(query: str) -> str:
    if "by (__name__)" in query:
        return "known"
    if query.startswith("group by (le)"):
        return "bounds"
    if queries.DURATIONS in query:
        return "durations"
    if 'reporter!="source"' in query:
        return "security" if queries.REQUESTS in query else "tcp_security"
    if queries.REQUESTS in query:
        return "requests"
    return next((amount.name.lower() for amount in Amount if amount in query), "other")
