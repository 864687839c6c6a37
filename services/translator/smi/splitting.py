"""A TrafficSplit: which of its backends get which share of which port of the root service.

The two forms that it can be written in (`virtualservices.py`, `httproutes.py`) start from here.

Decisions where the specification leaves room:
* The root Service may come later: SMI's own workflow names Services before they exist. Without its
  ports nothing is known about protocols, so there is one HTTP route for every port.
* A backend that is not there, or lacks the port, is left out and reported, as the specification
  recommends: weights are relative, so the others share what is left. While nobody with a weight is
  left, requests keep going to the root, which is what they did before the split and what a client
  without a mesh would see. Only weights that are all zero by the split's own word answer nobody.
* Splits of one root do not merge: each is refused, because which one Istio follows would depend on
  their age.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from services.chassis.messages.facts import ServiceFact, ServicePort
from services.translator.reports import Report
from services.translator.smi.models import (
    ROOT,
    Backend,
    HttpMatch,
    Key,
    Kind,
    RouteGroup,
    Split,
    Surroundings,
)

WITHOUT_RECEIVER = "none of the backends that would get a share is there yet"


@dataclass(frozen=True, slots=True)
class Portion:
    """One port of the root and who shares it; port None stands for every port."""

    port: int | None
    protocol: Protocol
    backends: tuple[Backend, ...]

    @property
    def receivers(self) -> tuple[Backend, ...]:
        """Backends that get anything."""
        return tuple(backend for backend in self.backends if backend.weight)


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """A split, ready to be written."""

    split: Split
    portions: tuple[Portion, ...]
    matches: tuple[HttpMatch, ...] | None
    """Only these requests are split, all others go to the root; None when all are split."""

    def keeps_going(self, portion: Portion) -> bool:
        """Whether a portion's traffic goes on to the root as before, since nobody who would get a
        share is there yet."""
        return not portion.receivers and any(one.weight for one in self.split.backends)


def planned(split: Split, around: Surroundings, report: Report) -> SplitPlan:
    """The split's portions and matches; what is wrong goes into `report`."""
    _check_other_splits(split, around, report)
    backends = _existing(split, around, report)
    matches = _matches(split, around, report)
    root = around.service(split.ref.namespace, split.root)
    if root is None or not root.ports:
        _report_unknown_root(split, around, report)
        portions = [Portion(None, Protocol.HTTP, backends)]
    else:
        portions = _portions(root, backends, around, report)
    return SplitPlan(split, tuple(portions), matches)


def _check_other_splits(split: Split, around: Surroundings, report: Report) -> None:
    namespace = split.ref.namespace
    rivals = around.splits[namespace, split.root]
    if len(rivals) > 1:
        # One of them is enough to say why: a finding for each pair would be endless.
        rival = next(one for one in rivals if one.ref != split.ref)
        more = f" and {len(rivals) - 2} more" if len(rivals) > 2 else ""
        report.error(
            ("spec", "service"),
            f"{rival.ref}{more} {'split' if more else 'splits'} the Service {split.root} too",
            rule="conflict",
            remedy="keep one of them: splits of one root do not merge",
        )
    for backend in split.backends:
        others = around.splits.get((namespace, backend.service))
        if others:
            report.warning(
                backend.path,
                f"{others[-1].ref} splits {backend.service} for its own clients only; "
                "splits do not cascade",
                rule="hierarchy",
            )


def _existing(split: Split, around: Surroundings, report: Report) -> tuple[Backend, ...]:
    namespace = split.ref.namespace
    if not around.facts.knows(namespace):
        return split.backends
    found: list[Backend] = []
    for backend in split.backends:
        if around.service(namespace, backend.service) is not None:
            found.append(backend)
        elif backend.weight:
            report.left_out(
                f"backend {backend.service}",
                f"there is no Service {namespace}/{backend.service} yet, so it gets no share",
                path=backend.path,
                rule="reference",
            )
        else:
            # SMI's rollout names the next version with weight 0 before it exists.
            report.note(f"backend {backend.service}", "it has weight 0 and is not there yet")
    return tuple(found)


def _matches(split: Split, around: Surroundings, report: Report) -> tuple[HttpMatch, ...] | None:
    if not split.groups:
        return None
    matches: list[HttpMatch] = []
    for named in split.groups:
        key = Key(Kind.HTTP_ROUTES, split.ref.namespace, named.name)
        group = around.sound.get(key)
        if isinstance(group, RouteGroup):
            matches += group.matches
        else:
            around.report_missing(key, named.path, report)
    for match in matches:
        names = [name for name, _ in match.headers]
        for name in sorted({name for name in names if names.count(name) > 1}):
            report.error(
                ("spec", "matches"),
                f"the match {match.name} has two patterns for the header {name}; "
                "a route of Istio takes one",
                rule="unsupported",
                remedy="write one pattern for both",
            )
    return tuple(matches)


def _report_unknown_root(split: Split, around: Surroundings, report: Report) -> None:
    namespace = split.ref.namespace
    where = f"{namespace}/{split.root}"
    if around.facts.knows(namespace):
        report.left_out(
            "ports",
            f"there is no Service {where} with ports yet, so all its ports are taken for HTTP",
            path=ROOT,
            rule="reference",
        )
    else:
        report.note("ports", f"the Service {where} is not known, so all its ports count as HTTP")


def _portions(
    root: ServiceFact, backends: tuple[Backend, ...], around: Surroundings, report: Report
) -> list[Portion]:
    portions: list[Portion] = []
    for port in sorted(root.ports, key=lambda port: port.port):
        protocol = protocol_of(port)
        if protocol is Protocol.UNROUTABLE:
            report.note(f"port {port.port}", f"it is {port.protocol}, which Istio does not route")
            continue
        sharing = tuple(
            backend
            for backend in backends
            if _has_port(backend, port.port, root.namespace, around, report)
        )
        if sharing:
            portions.append(Portion(port.port, protocol, sharing))
        else:
            report.left_out(
                f"port {port.port}",
                f"no backend has it, so its requests keep going to {root.name}",
                path=ROOT,
                rule="ports",
            )
    return portions


def _has_port(
    backend: Backend, port: int, namespace: str, around: Surroundings, report: Report
) -> bool:
    service = around.service(namespace, backend.service)
    if service is None and not around.facts.knows(namespace):
        return True
    ports = service.ports if service is not None else []
    if any(one.port == port and protocol_of(one) is not Protocol.UNROUTABLE for one in ports):
        return True
    report.left_out(
        f"backend {backend.service}",
        f"it has no port {port}, so it gets no requests of that port",
        path=backend.path,
        rule="ports",
    )
    return False


# ---- Protocols of ports --------------------------------------------------------------------------

# Only HTTP ports have paths, methods and headers. The rules are those of istiod's protocol
# selection (`pkg/config/kube/conversion.go` of Istio): the application protocol wins over the
# port's name, a name counts up to its first hyphen, and a port that says nothing is looked into at
# run time unless its number is one of a few where the server speaks first.


class Protocol(Enum):
    """How a port can be routed."""

    HTTP = "HTTP"
    TLS = "TLS"
    TCP = "TCP"
    DETECTED = "a protocol that Istio finds out at run time"
    UNROUTABLE = "no protocol of the mesh"

    @property
    def carries_http(self) -> bool:
        return self in (Protocol.HTTP, Protocol.DETECTED)

    @property
    def carries_tcp(self) -> bool:
        return self in (Protocol.TCP, Protocol.DETECTED)


_BY_NAME = {
    **dict.fromkeys(("http", "http2", "http_proxy", "grpc"), Protocol.HTTP),
    **dict.fromkeys(("https", "tls"), Protocol.TLS),
    **dict.fromkeys(("tcp", "mongo", "redis", "mysql"), Protocol.TCP),
    # A name says nothing about the transport; Istio does not route what calls itself UDP.
    "udp": Protocol.UNROUTABLE,
}
_BY_APP_PROTOCOL = {
    "kubernetes.io/h2c": Protocol.HTTP,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.TLS,
}
_SERVER_SPEAKS_FIRST = (25, 53, 3306, 27017)


def protocol_of(port: ServicePort) -> Protocol:
    """The protocol that Istio selects for the port."""
    if port.protocol not in ("", "TCP"):
        return Protocol.UNROUTABLE
    if port.app_protocol in _BY_APP_PROTOCOL:
        return _BY_APP_PROTOCOL[port.app_protocol]
    name = (port.app_protocol or port.name).lower()
    if name.startswith("grpc-web"):
        return Protocol.HTTP
    known = _BY_NAME.get(name.partition("-")[0])
    if known is not None:
        return known
    return Protocol.TCP if port.port in _SERVER_SPEAKS_FIRST else Protocol.DETECTED
