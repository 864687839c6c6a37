"""Adds reports of proxies up to flows, each request once.

Two proxies report most requests. Prometheus has chosen between reports with equal labels already;
here it is done once more for edges that turned out to be the same, because Istio had told one of
them wrong. What counts is the report of the first in `REPORTERS`, for each code, flags and host on
its own: a request that only its source knows (the connection failed) is nobody's double.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from services.chassis.prometheus import Sample
from services.topology.telemetry.edges import PROTOCOLS, Edge, Edges, known
from services.topology.telemetry.quantiles import Bounds, quantiles
from services.topology.telemetry.queries import (
    BOUND,
    DETAILS,
    EDGE,
    REPORTERS,
    REPORTERS_OF_DURATIONS,
    SEPARATOR,
    Amount,
)
from services.topology.telemetry.traffic import Answers, Flow, FlowKey, Flows, Peer, Protocol

Name = TypeVar("Name")

_NONE = "-"
_ZTUNNEL = "ztunnel"
_MUTUAL_TLS = "mutual_tls"
_HTTP, _GRPC, _TCP = (PROTOCOLS.index(p) for p in (Protocol.HTTP, Protocol.GRPC, Protocol.TCP))
_LAST = 99


@dataclass(slots=True)
class Tally:
    """The reports of one flow; amounts with the rank of their reporter."""

    key: FlowKey
    waypoint: str
    answers: dict[tuple[str, str, str], tuple[int, float]] = field(default_factory=dict)
    amounts: dict[bool, tuple[int, float]] = field(default_factory=dict)
    """Sent (true) and received."""
    durations: dict[str, float] = field(default_factory=dict)
    durations_rank: int = _LAST
    policies: dict[str, float] = field(default_factory=dict)
    principals: tuple[float, str, str] = (0.0, "", "")
    """With how much came under these names, the most."""

    def flow(self, bounds: Bounds) -> Flow:
        return Flow(
            answers=tuple([Answers(*name, rate) for name, (_, rate) in self.answers.items()]),
            sent=self.amounts[True][1] if True in self.amounts else 0.0,
            received=self.amounts[False][1] if False in self.amounts else 0.0,
            response_ms=quantiles(self.durations, bounds) if self.durations else {},
            mtls_share=self._mtls_share(),
            source_principal=self.principals[1],
            destination_principal=self.principals[2],
            waypoint=self.waypoint,
        )

    def _mtls_share(self) -> float | None:
        if not self.policies:
            return None
        return self.policies.get(_MUTUAL_TLS, 0.0) / sum(self.policies.values())


@dataclass(frozen=True, slots=True)
class _RequestDetails:
    """The labels of requests, apart from their edge."""

    rank: int
    protocol: int
    code: str
    flags: str
    is_waypoint: bool


@dataclass(slots=True)
class Tallies:
    """All flows of one moment. Requests come first, for they decide about ztunnels' bytes."""

    edges: Edges
    seen_bounds: set[str] = field(default_factory=set)
    """Of the buckets that came."""
    _tallies: dict[int, Tally] = field(default_factory=dict)
    _requests: dict[str, _RequestDetails] = field(default_factory=dict)
    _by_waypoints: set[tuple[Peer, Peer]] = field(default_factory=set)
    """Pairs whose requests a waypoint reports."""

    def requests(self, samples: Iterable[Sample]) -> None:
        details_of, edge_of = self._requests, self.edges.of
        for labels, value in samples:
            edge = edge_of[labels[EDGE]]
            if edge is None:
                continue
            text = labels[DETAILS]
            details = details_of.get(text)
            if details is None:
                details = details_of[text] = _request_details(text)
            tally = self._tally(edge, details.protocol)
            _count(tally.answers, (details.code, details.flags, edge.host), details.rank, value)
            if details.is_waypoint:
                self._by_waypoints.add(edge.pair)

    def amounts(self, amount: Amount, samples: Iterable[Sample]) -> None:
        """Bytes of TCP, messages of gRPC."""
        protocol = _TCP if amount.is_tcp else _GRPC
        is_sent = amount in (Amount.TCP_SENT, Amount.GRPC_SENT)
        for labels, value in samples:
            edge = self.edges.of[labels[EDGE]]
            if edge is None:
                continue
            reporter, _, app = labels[DETAILS].partition(SEPARATOR)
            if app == _ZTUNNEL and edge.pair in self._by_waypoints:
                continue
            tally = self._tally(edge, protocol)
            _count(tally.amounts, is_sent, _rank(reporter, REPORTERS), value)

    def durations(self, samples: Iterable[Sample]) -> None:
        edge_of, tallies, seen = self.edges.of, self._tallies, self.seen_bounds
        places: dict[str, tuple[int, int]] = {}
        for labels, value in samples:
            edge = edge_of[labels[EDGE]]
            if edge is None:
                continue
            details = labels[DETAILS]
            if details not in places:
                reporter, _, protocol = details.partition(SEPARATOR)
                places[details] = (_protocol(protocol), _rank(reporter, REPORTERS_OF_DURATIONS))
            protocol_place, rank = places[details]
            tally = tallies.get(edge.number * len(PROTOCOLS) + protocol_place)
            if tally is None or rank > tally.durations_rank:
                continue
            if rank < tally.durations_rank:
                tally.durations, tally.durations_rank = {}, rank
            bound, durations = labels[BOUND], tally.durations
            seen.add(bound)
            durations[bound] = durations[bound] + value if bound in durations else value

    def security(self, samples: Iterable[Sample], *, is_tcp: bool) -> None:
        """Mutual TLS and principals of connections, as the serving proxies report them."""
        for labels, value in samples:
            edge = self.edges.of[labels[EDGE]]
            if edge is None:
                continue
            protocol, policy, *principals = labels[DETAILS].split(SEPARATOR)
            place = edge.number * len(PROTOCOLS) + (_TCP if is_tcp else _protocol(protocol))
            tally = self._tallies.get(place)
            if tally is None or len(principals) != len(("source", "destination")):
                continue
            if known(policy):
                tally.policies[policy] = tally.policies.get(policy, 0.0) + value
            source, destination = map(known, principals)
            if (source or destination) and value > tally.principals[0]:
                tally.principals = (value, source, destination)

    def flows(self, bounds: Bounds) -> Flows:
        return {tally.key: tally.flow(bounds) for tally in self._tallies.values()}

    def _tally(self, edge: Edge, protocol: int) -> Tally:
        place = edge.number * len(PROTOCOLS) + protocol
        tally = self._tallies.get(place)
        if tally is None:
            tally = self._tallies[place] = Tally(edge.keys[protocol], edge.waypoint)
        return tally


def code_of(*, protocol: str, http: str, grpc: str) -> str:
    """Istio's 0 is no answer at all; gRPC's own status counts unless HTTP failed."""
    if http in ("0", ""):
        return _NONE
    if protocol != Protocol.GRPC or not grpc or http[0] in "45":
        return http
    return grpc


def _request_details(text: str) -> _RequestDetails:
    # Response flags are last, and of their own kind: nothing in them can be a separator.
    reporter, protocol, http, grpc, flags = text.split(SEPARATOR, 4)
    return _RequestDetails(
        rank=_rank(reporter, REPORTERS),
        protocol=_protocol(protocol),
        code=code_of(protocol=protocol, http=http, grpc=grpc),
        flags=flags or _NONE,
        is_waypoint=reporter == "waypoint",
    )


def _protocol(text: str) -> int:
    return _GRPC if text == Protocol.GRPC else _HTTP


def _rank(reporter: str, order: Sequence[str]) -> int:
    return order.index(reporter) if reporter in order else len(order)


def _count(counts: dict[Name, tuple[int, float]], name: Name, rank: int, value: float) -> None:
    """Adds to amounts of the same kind of reporter, and replaces those of a lesser one."""
    found = counts.get(name)
    if found is None or rank < found[0]:
        counts[name] = (rank, value)
    elif rank == found[0]:
        counts[name] = (rank, found[1] + value)
