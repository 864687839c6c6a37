"""A TrafficSplit as a VirtualService.

* Hosts are written out in full: a short name would mean another Service in another namespace.
* Each port has its own route, so that a backend without it can be left out; Istio would otherwise
  silently send requests to the only port that the backend has.
* One receiver stands without a weight. Istio refuses a route whose weights are all zero, so a
  split that gives all its backends weight 0 answers 503 on HTTP ports. TCP has no such answer:
  those ports keep going to the root, and a warning says so.
* A TLS port is routed by the name that the client asks for. Once a VirtualService has rules for
  it, the sidecar closes connections that ask for another name, hence the service's other names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.kube.objects import Ref
from services.translator.reports import Report
from services.translator.smi.models import HOST, ROOT, Backend, HttpMatch
from services.translator.smi.naming import derived_name, made, origin_of
from services.translator.smi.patterns import Wild, anchored, path_globs, value_match
from services.translator.smi.splitting import WITHOUT_RECEIVER, Portion, Protocol, SplitPlan
from services.translator.smi.weights import fitted

_API_VERSION = "networking.istio.io/v1"
_MESH = "mesh"
_NO_RECEIVER = 503


@dataclass(frozen=True, slots=True)
class VirtualServices:
    """Writes one plan."""

    plan: SplitPlan
    cluster_domain: str
    report: Report

    def write(self) -> None:
        """Adds the VirtualService, unless no port is left that could be split."""
        split = self.plan.split
        http = [route for portion in self.plan.portions for route in self._http(portion)]
        tcp = [route for portion in self.plan.portions for route in self._tcp(portion)]
        tls = [route for portion in self.plan.portions for route in self._tls(portion)]
        routes = {"http": http, "tcp": tcp, "tls": tls}
        if not any(routes.values()):
            return
        name = derived_name(split.ref.name, "split")
        ref = Ref(_API_VERSION, "VirtualService", split.ref.namespace, name)
        hosts = [self._host(split.root), *(self._other_names() if tls else ())]
        spec: dict[str, Any] = {"hosts": hosts, "gateways": [_MESH, *split.gateways]}
        spec |= {kind: found for kind, found in routes.items() if found}
        self.report.objects.append(made(ref, origin=origin_of(split.ref), spec=spec))

    # ---- HTTP ------------------------------------------------------------------------------------

    def _http(self, portion: Portion) -> Iterable[dict[str, Any]]:
        if not portion.protocol.carries_http:
            return
        places = self._places(portion)
        matches = self.plan.matches
        if matches is None:
            yield _with_match(places if places != [{}] else [], self._shared(portion))
            return
        conditions = [virtual_service_match(match) for match in matches]
        wanted: list[dict[str, Any]] = []
        for one in ({**place, **condition} for place in places for condition in conditions):
            wanted += [one] if one not in wanted else []
        if {} in wanted:
            wanted = [{}]
        root = self._to_root(portion)
        if wanted:
            # A rule without a match fits every request; an empty one is refused.
            yield _with_match(wanted if wanted != [{}] else [], self._shared(portion))
        if wanted != [{}]:
            yield _with_match(places if places != [{}] else [], root)

    def _places(self, portion: Portion) -> list[dict[str, Any]]:
        """The matches of the route's place: the port in the mesh, and any port of the gateways.

        A gateway has ports of its own, so the root's port says nothing there. Its requests go to
        the root's first HTTP port.
        """
        gateways = self.plan.split.gateways
        port = {} if portion.port is None else {"port": portion.port}
        if not gateways or not port:
            return [port]
        first = next(one.port for one in self.plan.portions if one.protocol.carries_http)
        in_mesh: dict[str, Any] = {**port, "gateways": [_MESH]}
        return [in_mesh, {"gateways": list(gateways)}] if portion.port == first else [in_mesh]

    def _shared(self, portion: Portion) -> dict[str, Any]:
        receivers = portion.receivers
        if self.plan.keeps_going(portion):
            root = self.plan.split.root
            self.report.note(
                _port_text(portion), f"{WITHOUT_RECEIVER}; requests keep going to {root}"
            )
            return self._to_root(portion)
        if not receivers:
            self.report.note(
                _port_text(portion), f"all weights are 0, so requests are answered {_NO_RECEIVER}"
            )
            return {"directResponse": {"status": _NO_RECEIVER}}
        return {"route": self._destinations(receivers, portion.port)}

    def _to_root(self, portion: Portion) -> dict[str, Any]:
        return {"route": [{"destination": self._destination(self.plan.split.root, portion.port)}]}

    # ---- TCP and TLS -----------------------------------------------------------------------------

    def _tcp(self, portion: Portion) -> Iterable[dict[str, Any]]:
        if not portion.protocol.carries_tcp or not self._is_splittable(portion):
            return
        yield {
            "match": [{"port": portion.port, **self._in_mesh()}],
            "route": self._destinations(portion.receivers, portion.port),
        }

    def _tls(self, portion: Portion) -> Iterable[dict[str, Any]]:
        if portion.protocol is not Protocol.TLS or not self._is_splittable(portion):
            return
        root = self.plan.split.root
        names = [self._host(root), *self._other_names()]
        self.report.left_out(
            _port_text(portion),
            f"it is routed by the name that clients ask for: one of {', '.join(names)}; "
            f"connections that ask for {root} alone are closed",
            path=ROOT,
            rule="tls",
        )
        yield {
            "match": [{"port": portion.port, "sniHosts": names, **self._in_mesh()}],
            "route": self._destinations(portion.receivers, portion.port),
        }

    def _is_splittable(self, portion: Portion) -> bool:
        """Whether connections can be split, which carry nothing that a match could look at."""
        root = self.plan.split.root
        if self.plan.matches is not None:
            what = "connections other than HTTP" if portion.protocol.carries_http else "connections"
            self.report.note(
                _port_text(portion), f"matches are about HTTP; {what} keep going to {root}"
            )
            return False
        if self.plan.keeps_going(portion):
            self.report.note(
                _port_text(portion), f"{WITHOUT_RECEIVER}; connections keep going to {root}"
            )
            return False
        if not portion.receivers:
            self.report.left_out(
                _port_text(portion),
                "all weights are 0, but Istio has no rule that refuses connections; "
                f"they keep going to {root}",
                path=ROOT,
                rule="weights",
            )
            return False
        return True

    def _in_mesh(self) -> dict[str, Any]:
        return {"gateways": [_MESH]} if self.plan.split.gateways else {}

    # ---- Names -----------------------------------------------------------------------------------

    def _destinations(self, receivers: Sequence[Backend], port: int | None) -> list[dict[str, Any]]:
        destinations = [self._destination(one.service, port) for one in receivers]
        if len(destinations) == 1:
            return [{"destination": destinations[0]}]
        shares = fitted([one.weight for one in receivers])
        return [
            {"destination": destination, "weight": share}
            for destination, share in zip(destinations, shares, strict=True)
        ]

    def _destination(self, service: str, port: int | None) -> dict[str, Any]:
        destination: dict[str, Any] = {"host": self._host(service)}
        if port is not None:
            destination["port"] = {"number": port}
        return destination

    def _host(self, service: str) -> str:
        return f"{service}.{self.plan.split.ref.namespace}.svc.{self.cluster_domain}"

    def _other_names(self) -> tuple[str, ...]:
        # Not the bare name: Istio would write it out and find the same host twice.
        short = f"{self.plan.split.root}.{self.plan.split.ref.namespace}"
        return (short, f"{short}.svc")


def _with_match(match: list[dict[str, Any]], rule: dict[str, Any]) -> dict[str, Any]:
    return {"match": match, **rule} if match else rule


def _port_text(portion: Portion) -> str:
    return f"port {portion.port}" if portion.port is not None else "ports"


def virtual_service_match(match: HttpMatch) -> dict[str, Any]:
    """The condition of a VirtualService's HTTP route; {} fits every request."""
    condition: dict[str, Any] = {}
    uri = _path_match(match.path_regex)
    if uri:
        condition["uri"] = uri
    if match.methods:
        regex = "|".join(match.methods)
        kind = "exact" if len(match.methods) == 1 else "regex"
        condition["method"] = {kind: regex}
    headers = {name: value_match(pattern) for name, pattern in match.headers}
    authority = headers.pop(HOST, None)
    if authority:
        condition["authority"] = authority
    if headers:
        condition["headers"] = headers
    return condition


def _path_match(path_regex: str | None) -> dict[str, str]:
    """A path that is plain text as a prefix or an exact path, which is cheaper to match."""
    globs = path_globs(path_regex) if path_regex is not None else ((Wild.ANY,),)
    match globs:
        case ((Wild.ANY,),):
            return {}
        case ((str(text),),):
            return {"exact": text}
        case ((str(text), Wild.ANY),):
            return {"prefix": text}
    return {"regex": anchored(path_regex or "")}
