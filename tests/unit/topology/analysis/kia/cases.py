"""Cases of the catalogue's codes: a cluster in which a code is found, and the same put right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import yaml

from services.topology.analysis.engine import Analysis
from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.rules import RULES
from services.topology.cluster.objects import Change, Object
from services.topology.cluster.reading import Reader
from services.topology.cluster.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`wrong` has exactly one finding of the code, or those of `also` too; `right` has none."""

    code: str
    wrong: str
    right: str
    on: str
    """The object as `Kind namespace/name`."""
    path: str = ""
    level: Level | None = None
    """Where it is not the code's own."""
    also: tuple[tuple[str, str], ...] = ()
    codes: tuple[str, ...] = ()
    """All codes that the findings carry, where they are not those of `BOTH`."""


def objects_of(text: str) -> list[Object]:
    """The records of the objects in a YAML text."""
    reader = Reader()
    found = []
    for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
        if document:
            group = document["apiVersion"].rpartition("/")[0]
            found.append(reader.read(f"{group}/{document['kind']}", document))
    return found


def state_of(text: str) -> tuple[State, list[Change]]:
    state = State("c1", "one")
    changes = [change for obj in objects_of(text) if (change := state.put(obj)) is not None]
    return state, changes


def analysis_of(text: str) -> Analysis:
    """All rules of the catalogue on a cluster, evaluated."""
    state, changes = state_of(text)
    analysis = Analysis(state, RULES)
    analysis.touch(changes)
    settle(analysis)
    return analysis


def settle(analysis: Analysis) -> None:
    while analysis.is_due:
        analysis.evaluate()


def of_code(findings: Iterable[Finding], code: str) -> list[Finding]:
    return sorted(finding for finding in findings if code in finding.codes)


def place(finding: Finding) -> tuple[str, str]:
    return str(finding.object), finding.path


# --- pieces of clusters --------------------------------------------------------------------------

CORE = "apiVersion: v1"
NETWORKING = "apiVersion: networking.istio.io/v1"
SECURITY = "apiVersion: security.istio.io/v1"
GATEWAY_API = "apiVersion: gateway.networking.k8s.io/v1"


def one(version: str, kind: str, name: str, spec: str = "{}", **metadata: str) -> str:
    """A document; `spec` and the metadata are YAML, mostly of one line. `default` is the
    namespace of those that name none."""
    cluster_wide = kind in ("Namespace", "GatewayClass")
    space = metadata.pop("namespace", "" if cluster_wide else "default")
    fields = [f"name: {name}", *([f"namespace: {space}"] if space else [])]
    fields += [f"{field}: {value}" for field, value in metadata.items()]
    body = spec if spec.startswith("\n") else f"\nspec: {spec}"
    return f"---\n{version}\nkind: {kind}\nmetadata: {{{', '.join(fields)}}}{body}\n"


def space(name: str, labels: str = "{}") -> str:
    return one(CORE, "Namespace", name, labels=labels)


def service(
    name: str,
    ports: str = "[{name: http, port: 80, targetPort: 8080}]",
    selector: str | None = None,
    **metadata: str,
) -> str:
    chosen = selector if selector is not None else f"{{app: {name}}}"
    return one(CORE, "Service", name, f"{{selector: {chosen}, ports: {ports}}}", **metadata)


def pod(
    name: str,
    labels: str,
    *,
    containers: str = "[{name: app, ports: [{name: web, containerPort: 8080}]}]",
    account: str = "default",
    **metadata: str,
) -> str:
    spec = f"{{serviceAccountName: {account}, containers: {containers}}}"
    return one(CORE, "Pod", name, spec, labels=labels, **metadata)


WITH_PROXY = "[{name: app, ports: [{containerPort: 8080}]}, {name: istio-proxy, image: 'p:1.31.0'}]"


def deployment(name: str, labels: str = "", *, account: str = "default", **metadata: str) -> str:
    chosen = labels or f"{{app: {name}}}"
    template = (
        f"{{metadata: {{labels: {chosen}}}, spec: {{serviceAccountName: {account}, "
        "containers: [{name: app, ports: [{name: web, containerPort: 8080}]}]}}"
    )
    spec = f"{{selector: {{matchLabels: {chosen}}}, template: {template}}}"
    return one("apiVersion: apps/v1", "Deployment", name, spec, **metadata)


def mesh_config(text: str) -> str:
    """The mesh's settings, on one line of YAML."""
    data = f'\ndata: {{mesh: "{text}"}}'
    return one(CORE, "ConfigMap", "istio", data, namespace="istio-system")


MANUAL = mesh_config("{enableAutoMtls: false}")
SIDECARS = space("default", "{istio-injection: enabled}")
AMBIENT = space("default", "{istio.io/dataplane-mode: ambient}")
ENROLLED = space("default", "{istio.io/dataplane-mode: ambient, istio.io/use-waypoint: wp}")
WAYPOINT = one(GATEWAY_API, "Gateway", "wp", "{gatewayClassName: istio-waypoint}") + one(
    GATEWAY_API, "GatewayClass", "istio-waypoint"
)
