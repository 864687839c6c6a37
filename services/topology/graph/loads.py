"""Sums of flows: Kiali's rates, percentages and response tables, as its strings.

Sums are exact (`fsum`), so that the order in which flows came never shows in an item.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import fsum
from typing import Any

from services.topology.telemetry.traffic import Flow, FlowKey, Protocol

NO_RESPONSE = ("-", "0", "")
_QUANTILE = "95"


class Load:
    """One flow with its sums, and where each view shows it."""

    __slots__ = (
        "called",
        "classes",
        "codes",
        "edges",
        "figures",
        "flow",
        "key",
        "protocol",
        "total",
    )

    def __init__(self, key: FlowKey, flow: Flow) -> None:
        self.key = key
        self.protocol = key.protocol.value
        self.called: Any = None
        """Node of the service that was called; None without one."""
        self.edges: dict[Any, tuple[Any, ...]] = {}
        self.update(flow)

    def update(self, flow: Flow) -> None:
        self.flow = flow
        self.classes: dict[str, float] = {}
        """Rates by class of answer, those of what is well left out."""
        self.codes: dict[str, float] = {}
        self.figures: Any = None
        """What an edge shows that has this flow alone."""
        protocol = self.key.protocol
        answers = flow.answers
        if protocol is Protocol.TCP or (protocol is Protocol.GRPC and not answers):
            self.total = flow.sent or flow.received
            return
        self.codes = _summed((code_of(protocol, answer.code), answer.rate) for answer in answers)
        self.classes = _summed(
            (kind, rate) for code, rate in self.codes.items() if (kind := class_of(protocol, code))
        )
        self.total = fsum(self.codes.values())
        self.codes = _rounded(self.codes)


def _summed(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Sums by key, in the order of the keys."""
    found: dict[str, list[float]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    if len(found) == 1:
        return {key: fsum(values) for key, values in found.items()}
    return {key: fsum(found[key]) for key in sorted(found)}


def code_of(protocol: Protocol, code: str) -> str:
    """The code of an answer, `-` for none: HTTP's 0 is no response, gRPC's 0 is OK."""
    return "-" if not code or (code == "0" and protocol is Protocol.HTTP) else code


def class_of(protocol: Protocol, code: str) -> str:
    """The rate's suffix in Kiali's names: `5xx`, `Err`, `NoResponse`; "" for a success."""
    if protocol is Protocol.GRPC:
        if code in ("-", ""):
            return "NoResponse"
        return "" if code == "0" or (code[0] in "23" and len(code) == 3) else "Err"
    if code in NO_RESPONSE:
        return "NoResponse"
    return f"{code[0]}xx" if code[0] in "345" else ""


def number(value: float, least: int) -> str:
    """A decimal with at least so many places, and up to five where fewer would show zero."""
    if value >= 0.1 or value <= 0:
        return f"{value:.{least}f}"
    needed, scaled = 1, value * 10
    while scaled < 1 and needed < 5:
        scaled *= 10
        needed += 1
    return f"{value:.{max(least, needed)}f}"


def percent(part: float, whole: float) -> str:
    return number(100 * part / whole, 1)


def rates(loads: Collection[Load], prefix: str) -> dict[str, str]:
    """`http`, `http5xx`, … of flows of one protocol; zeros are left out."""
    if len(loads) == 1:
        (load,) = loads
        total, classes = load.total, load.classes
    else:
        total = fsum([load.total for load in loads])
        classes = _summed(pair for load in loads for pair in load.classes.items())
    found = {prefix: number(total, 2)} if total > 0 else {}
    for name, rate in classes.items():
        if rate > 0:
            found[prefix + name] = number(rate, 2)
    return found


def node_traffic(ins: Collection[Load], outs: Collection[Load]) -> list[dict[str, Any]]:
    """`traffic` of a node: its rates in and out by protocol."""
    found = []
    sides: dict[str, tuple[list[Load], list[Load]]] = {}
    for side, loads in enumerate((ins, outs)):
        for load in loads:
            protocol = load.protocol
            known = sides.get(protocol)
            if known is None:
                known = sides[protocol] = ([], [])
            known[side].append(load)
    for protocol in sorted(sides):
        inward, outward = sides[protocol]
        sums = rates(inward, f"{protocol}In") if inward else {}
        if outward:
            sums[f"{protocol}Out"] = number(fsum([load.total for load in outward]), 2)
        found.append({"protocol": protocol, "rates": sums})
    return found


def edge_rates(loads: Collection[Load], protocol: str, total: float) -> dict[str, str]:
    """Rates of an edge, but for its share of its source's traffic."""
    found = rates(loads, protocol)
    if protocol == "tcp":
        return found
    errors = [x for load in loads for name, x in load.classes.items() if name != "3xx"]
    if errors and (sum_of_errors := fsum(errors)) > 0:
        found[f"{protocol}PercentErr"] = percent(sum_of_errors, total)
    return found


def responses(loads: Collection[Load], total: float) -> dict[str, Any]:
    """Shares of all answers by code and flags, and by code and host."""
    rates: dict[str, tuple[dict[str, list[float]], dict[str, list[float]]]] = {}
    for load in loads:
        protocol = load.key.protocol
        for answer in load.flow.answers:
            code = code_of(protocol, answer.code)
            known = rates.get(code)
            if known is None:
                known = rates[code] = ({}, {})
            known[0].setdefault(answer.flags or "-", []).append(answer.rate)
            if answer.host:
                known[1].setdefault(answer.host, []).append(answer.rate)
    return {
        code: {"flags": _shares(flags, total), "hosts": _shares(hosts, total)}
        for code, (flags, hosts) in sorted(rates.items())
    }


def _shares(rates: Mapping[str, list[float]], total: float) -> dict[str, str]:
    if len(rates) == 1:
        ((name, values),) = rates.items()
        return {name: percent(values[0] if len(values) == 1 else fsum(values), total)}
    return {name: percent(fsum(values), total) for name, values in sorted(rates.items())}


def edge_details(loads: Collection[Load]) -> dict[str, Any]:
    """Response time, mTLS and principals of an edge."""
    found: dict[str, Any] = {}
    times, shares = [], []
    principals: dict[str, set[str]] = {}
    waypoints = set()
    for load in loads:
        flow = load.flow
        if (ms := flow.response_ms.get(_QUANTILE)) is not None:
            times.append((load.total, ms))
        if flow.mtls_share is not None:
            shares.append((load.total, flow.mtls_share))
        if flow.source_principal:
            principals.setdefault("sourcePrincipal", set()).add(flow.source_principal)
        if flow.destination_principal:
            principals.setdefault("destPrincipal", set()).add(flow.destination_principal)
        if flow.waypoint:
            waypoints.add(flow.waypoint)
    if times:
        found["responseTime"] = f"{_mean(times):.0f}"
    if shares and (share := _mean(shares)) > 0:
        found["isMTLS"] = f"{100 * share:.0f}"
    for name in sorted(principals):
        found[name] = min(principals[name])
    if waypoints:
        found["waypoint"] = {"direction": min(waypoints)}
    return found


def _mean(weighted: list[tuple[float, float]]) -> float:
    return fsum(w * value for w, value in weighted) / fsum(w for w, _ in weighted)


def requests(loads: Collection[Load]) -> dict[str, dict[str, float]]:
    """Requests per second by protocol and code, as health looks at them."""
    if not loads:
        return {}
    if len(loads) == 1:
        (load,) = loads
        return {load.protocol: load.codes} if load.codes else {}
    parts: dict[str, list[tuple[str, float]]] = {}
    for load in loads:
        if load.codes:
            parts.setdefault(load.protocol, []).extend(load.codes.items())
    return {protocol: _rounded(_summed(parts[protocol])) for protocol in sorted(parts)}


def _rounded(rates: dict[str, float]) -> dict[str, float]:
    return {code: round(rate, 5) for code, rate in rates.items()}
