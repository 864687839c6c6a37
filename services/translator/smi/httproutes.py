"""A TrafficSplit as an HTTPRoute of the Gateway API with the root Service as its parent.

Each port has a route of its own: the API takes a Service only once as the parent of one route.
The route for what does not match is a regular expression too: istiod tries prefixes, also "/",
before regular expressions, so the usual default would win over the matches.
Weight 0 is allowed here and stays. Limits are those of the definitions in Gateway API 1.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.kube.objects import Ref
from services.translator.istio.versions import by_priority
from services.translator.reports import Report
from services.translator.smi.models import ROOT, Backend, HttpMatch, Surroundings
from services.translator.smi.naming import derived_name, made, origin_of
from services.translator.smi.patterns import Wild, anchored, path_globs, value_match
from services.translator.smi.splitting import WITHOUT_RECEIVER, Portion, Protocol, SplitPlan
from services.translator.smi.weights import fitted

_GROUP = "gateway.networking.k8s.io"
_LARGEST_WEIGHT = 1_000_000
_BACKENDS_LIMIT = 16
_MATCHES_PER_RULE = 64
_MATCHES_LIMIT = 127
"""128 in all rules of a route, one of them for what does not match."""
_HEADERS_LIMIT = 16
_EVERYTHING_LAST = {"path": {"type": "RegularExpression", "value": ".*"}}


@dataclass(frozen=True, slots=True)
class HttpRoutes:
    """Writes one plan."""

    plan: SplitPlan
    around: Surroundings
    report: Report

    def write(self) -> None:
        """Adds a route for each port that the Gateway API has one for."""
        if self.plan.split.gateways:
            self.report.left_out(
                "gateways",
                "a route with a Service as its parent is for the mesh only",
                path=ROOT,
                rule="unsupported",
            )
        for portion in self.plan.portions:
            if portion.port is None:
                self._report_without_ports()
            elif len(portion.backends) > _BACKENDS_LIMIT:
                self._refuse(f"more than {_BACKENDS_LIMIT} backends")
            elif portion.protocol.carries_http:
                self._add_http(portion, portion.port)
            elif portion.protocol is Protocol.TCP:
                self._add_tcp(portion, portion.port)
            else:
                self._leave(portion, "TLS ports are only translated into a VirtualService")

    def _add_http(self, portion: Portion, port: int) -> None:
        shared = self._shared(portion, port)
        rules: list[dict[str, Any]] = [{"backendRefs": shared}]
        if self.plan.matches is not None:
            matches = self._conditions()
            default = self._references([Backend(self.plan.split.root, 1)], port)
            rules = [
                *({"matches": some, "backendRefs": shared} for some in _parts(matches)),
                {"matches": [_EVERYTHING_LAST], "backendRefs": default},
            ]
        if portion.protocol is Protocol.DETECTED:
            self.report.note(
                f"port {port}", "its protocol is found out at run time; only HTTP is split"
            )
        self._add("HTTPRoute", f"{_GROUP}/v1", port, rules)

    def _conditions(self) -> list[dict[str, Any]]:
        matches = self.plan.matches or ()
        if any(len(match.headers) > _HEADERS_LIMIT for match in matches):
            self._refuse(f"a match with more than {_HEADERS_LIMIT} headers")
        conditions: list[dict[str, Any]] = []
        for match in matches:
            conditions += [one for one in http_route_matches(match) if one not in conditions]
        if len(conditions) > _MATCHES_LIMIT:
            self._refuse(f"more than {_MATCHES_LIMIT} matches, each method counted")
        return conditions

    def _add_tcp(self, portion: Portion, port: int) -> None:
        versions = self.around.facts.served.get(f"{_GROUP}/TCPRoute", [])
        if self.plan.matches is not None:
            root = self.plan.split.root
            self.report.note(
                f"port {port}", f"matches are about HTTP; connections keep going to {root}"
            )
        elif not versions:
            self._leave(portion, "the cluster does not serve TCPRoute of the Gateway API")
        else:
            rules = [{"backendRefs": self._shared(portion, port)}]
            self._add("TCPRoute", f"{_GROUP}/{by_priority(versions)[0]}", port, rules)

    def _add(self, kind: str, api_version: str, port: int, rules: list[dict[str, Any]]) -> None:
        split = self.plan.split
        name = derived_name(split.ref.name, f"split-{port}")
        parent = {"group": "", "kind": "Service", "name": split.root, "port": port}
        ref = Ref(api_version, kind, split.ref.namespace, name)
        spec = {"parentRefs": [parent], "rules": rules}
        self.report.objects.append(made(ref, origin=origin_of(split.ref), spec=spec))

    def _shared(self, portion: Portion, port: int) -> list[dict[str, Any]]:
        if not self.plan.keeps_going(portion):
            return self._references(portion.backends, port)
        root = self.plan.split.root
        self.report.note(f"port {port}", f"{WITHOUT_RECEIVER}; it keeps going to {root}")
        return self._references([Backend(root, 1)], port)

    def _references(self, backends: Sequence[Backend], port: int) -> list[dict[str, Any]]:
        shares = fitted([one.weight for one in backends], largest=_LARGEST_WEIGHT)
        return [
            {"group": "", "kind": "Service", "name": one.service, "port": port, "weight": share}
            for one, share in zip(backends, shares, strict=True)
        ]

    def _report_without_ports(self) -> None:
        root = f"{self.plan.split.ref.namespace}/{self.plan.split.root}"
        self.report.left_out(
            "all ports",
            f"a route of the Gateway API names its port, and those of the Service {root} are "
            "not known",
            path=ROOT,
            rule="reference",
        )

    def _leave(self, portion: Portion, note: str) -> None:
        self.report.left_out(
            f"port {portion.port}",
            f"{note}; its connections keep going to {self.plan.split.root}",
            path=ROOT,
            rule="unsupported",
        )

    def _refuse(self, what: str) -> None:
        self.report.error(
            ("spec",),
            f"has {what}; an HTTPRoute takes no more",
            rule="unsupported",
            remedy="set form: istio in the TranslationOptions",
        )


def _parts(matches: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    size = _MATCHES_PER_RULE
    return [matches[start : start + size] for start in range(0, len(matches), size)]


def http_route_matches(match: HttpMatch) -> list[dict[str, Any]]:
    """The conditions of an HTTPRoute's rule, of which one has to fit: a method has one each."""
    condition: dict[str, Any] = {}
    path = _path_match(match.path_regex)
    if path:
        condition["path"] = path
    if match.headers:
        condition["headers"] = [_header_match(*header) for header in match.headers]
    if not match.methods:
        return [condition]
    return [{**condition, "method": method} for method in match.methods]


def _path_match(path_regex: str | None) -> dict[str, str]:
    """A PathPrefix goes by whole elements of the path, so only `/x(/.*)?$` and its kin are one."""
    if path_regex is None:
        return {}
    globs = path_globs(path_regex) or ()
    match globs:
        case ((Wild.ANY,),):
            return {}
        case ((str(text),),) if _is_plain_path(text):
            return {"type": "Exact", "value": text}
    if len(globs) == 2:
        exact, deeper = sorted(globs, key=len)
        match exact, deeper:
            case ((str(text),), (str(prefix), Wild.ANY)) if prefix == f"{text}/":
                if _is_plain_path(text) and not text.endswith("/"):
                    return {"type": "PathPrefix", "value": text}
    return {"type": "RegularExpression", "value": anchored(path_regex)}


def _is_plain_path(text: str) -> bool:
    """Whether the Gateway API takes it for an Exact or PathPrefix path; it is strict about them."""
    elements = text.split("/")
    return (
        text.startswith("/")
        and text.isascii()
        and "//" not in text
        and not {".", ".."} & set(elements)
        and all(letter.isalnum() or letter in "-/._~!$&'()*+,;=:@" for letter in text)
    )


def _header_match(name: str, pattern: str) -> dict[str, str]:
    value = value_match(pattern)
    kind = "Exact" if "exact" in value else "RegularExpression"
    return {"type": kind, "name": name, "value": next(iter(value.values()))}
