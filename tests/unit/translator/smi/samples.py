"""SMI objects and facts about a cluster, short to write down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.chassis.kube.objects import KubeObject
from services.chassis.messages.facts import (
    ClusterFacts,
    MeshFact,
    ServiceFact,
    ServicePort,
    WorkloadFact,
)
from services.translator.options import Options
from services.translator.reports import Level, Report
from services.translator.smi import translate

NAMESPACE = "shop"
DOMAIN = "cluster.local"


def obj(
    kind: str, version: str, name: str, *, namespace: str = NAMESPACE, **body: Any
) -> KubeObject:
    group = {"TrafficSplit": "split", "TrafficTarget": "access"}.get(kind, "specs")
    return {
        "apiVersion": f"{group}.smi-spec.io/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        **body,
    }


def split(
    name: str = "canary",
    *,
    root: str = "web",
    backends: Sequence[tuple[str, Any]] = (("web-v1", 90), ("web-v2", 10)),
    version: str = "v1alpha4",
    matches: Sequence[str] = (),
    gateways: str = "",
) -> KubeObject:
    spec: dict[str, Any] = {
        "service": root,
        "backends": [{"service": service, "weight": weight} for service, weight in backends],
    }
    if matches:
        spec["matches"] = [{"kind": "HTTPRouteGroup", "name": group} for group in matches]
    made = obj("TrafficSplit", version, name, spec=spec)
    if gateways:
        made["metadata"]["annotations"] = {"meshbus.io/gateways": gateways}
    return made


def account(name: str, namespace: str | None = NAMESPACE) -> dict[str, Any]:
    made = {"kind": "ServiceAccount", "name": name}
    return made if namespace is None else {**made, "namespace": namespace}


def rule(kind: str, name: str, *matches: str) -> dict[str, Any]:
    made: dict[str, Any] = {"kind": kind, "name": name}
    return {**made, "matches": list(matches)} if matches else made


def target(
    name: str = "reach-api",
    *,
    rules: Sequence[dict[str, Any]] = ({"kind": "HTTPRouteGroup", "name": "routes"},),
    sources: Sequence[dict[str, Any]] = ({"kind": "ServiceAccount", "name": "web"},),
    destination: dict[str, Any] | None = None,
    version: str = "v1alpha3",
) -> KubeObject:
    named = destination or account("api")
    body: dict[str, Any] = {"destination": named, "sources": list(sources)}
    if version == "v1alpha1":
        return obj("TrafficTarget", version, name, specs=list(rules), **body)
    return obj("TrafficTarget", version, name, spec={**body, "rules": list(rules)})


def match(name: str, path: str | None = None, *methods: str, **headers: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name}
    if path is not None:
        made["pathRegex"] = path
    if methods:
        made["methods"] = list(methods)
    if headers:
        made["headers"] = {key.replace("_", "-"): value for key, value in headers.items()}
    return made


def group(*matches: dict[str, Any], name: str = "routes", version: str = "v1alpha4") -> KubeObject:
    if version in ("v1alpha1", "v1alpha2"):
        return obj("HTTPRouteGroup", version, name, matches=list(matches))
    return obj("HTTPRouteGroup", version, name, spec={"matches": list(matches)})


def tcp_route(*ports: int, name: str = "ports") -> KubeObject:
    return obj("TCPRoute", "v1alpha4", name, spec={"matches": {"ports": list(ports)}})


def udp_route(*ports: int, name: str = "datagrams") -> KubeObject:
    return obj("UDPRoute", "v1alpha4", name, spec={"matches": {"ports": list(ports)}})


# ---- Facts ---------------------------------------------------------------------------------------


def service(name: str, *ports: ServicePort) -> ServiceFact:
    return ServiceFact(namespace=NAMESPACE, name=name, ports=list(ports))


def port(number: int, name: str = "http", **fields: Any) -> ServicePort:
    return ServicePort(port=number, name=name, **fields)


def services(*ports: ServicePort) -> list[ServiceFact]:
    """A root and two backends, all with the same ports."""
    return [service(name, *ports) for name in ("web", "web-v1", "web-v2")]


def workload(
    name: str, *, runs_as: str | None = None, kind: str = "Deployment", **labels: str
) -> WorkloadFact:
    labels = labels or {"app": name}
    return WorkloadFact(
        namespace=NAMESPACE,
        kind=kind,
        name=name,
        service_account=runs_as if runs_as is not None else name,
        labels={**labels, "pod-template-hash": "abc"},
        selector={} if kind == "Pod" else labels,
    )


def facts(
    *,
    services: Sequence[ServiceFact] = (),
    workloads: Sequence[WorkloadFact] = (),
    served: dict[str, list[str]] | None = None,
    known: Sequence[str] = (NAMESPACE,),
    meshes: Sequence[MeshFact] = (),
) -> ClusterFacts:
    return ClusterFacts(
        services=list(services),
        workloads=list(workloads),
        served=served or {},
        read_namespaces=list(known),
        meshes=list(meshes),
    )


WEB = facts(services=services(port(80)))
API = facts(workloads=[workload("api"), workload("web")])


def translated(
    *given: KubeObject,
    known: Sequence[KubeObject] = (),
    about: ClusterFacts | None = None,
    trust_domain: str = DOMAIN,
    **options: Any,
) -> Report:
    return translate(
        given,
        known=known,
        facts=about if about is not None else WEB,
        options=Options(**options),
        trust_domain=trust_domain,
    )


def spec_of(translation: Report, index: int = 0) -> dict[str, Any]:
    assert errors_of(translation) == []
    spec: dict[str, Any] = translation.objects[index]["spec"]
    return spec


def errors_of(translation: Report) -> list[tuple[str, str]]:
    """Place and rule of each error."""
    return [(one.place, one.rule) for one in translation.findings if one.level is Level.ERROR]


def warnings_of(translation: Report) -> list[tuple[str, str]]:
    return [(one.place, one.rule) for one in translation.findings if one.level is Level.WARNING]


def told(translation: Report) -> str:
    return "\n".join(str(line) for line in translation.lines)
