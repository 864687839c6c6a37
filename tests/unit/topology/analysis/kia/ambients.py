"""Cases of workloads, and of ambient."""

from __future__ import annotations

from tests.unit.topology.analysis.kia.cases import (
    AMBIENT,
    ENROLLED,
    NETWORKING,
    SECURITY,
    SIDECARS,
    WAYPOINT,
    WITH_PROXY,
    Case,
    deployment,
    one,
    pod,
    service,
    space,
)

EXTENSIONS = "apiVersion: extensions.istio.io/v1alpha1"
TELEMETRY = "apiVersion: telemetry.istio.io/v1"
REFS = "targetRefs: [{group: '', kind: Service, name: a}]"
TO_WAYPOINT = "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: wp}]"
OF_REQUESTS = "rules: [{to: [{operation: {methods: [GET]}}]}]"
OF_CONNECTIONS = "rules: [{to: [{operation: {ports: ['80']}}]}]"
TRACING = "tracing: [{randomSamplingPercentage: 10}]"
CAPTURED = "{ambient.istio.io/redirection: enabled}"


def policy(fields: str) -> str:
    return one(SECURITY, "AuthorizationPolicy", "ap", f"{{{fields}}}")


def authentication(fields: str = "") -> str:
    return one(SECURITY, "RequestAuthentication", "ra", f"{{{fields}}}")


def plugin(fields: str = "") -> str:
    return one(EXTENSIONS, "WasmPlugin", "wp", f"{{{fields}}}")


def telemetry(fields: str) -> str:
    return one(TELEMETRY, "Telemetry", "t", f"{{{fields}}}")


def breaker(**metadata: str) -> str:
    spec = "{host: a.default.svc.cluster.local, trafficPolicy: {outlierDetection: {interval: 1s}}}"
    return one(NETWORKING, "DestinationRule", "dr", spec, **metadata)


def route(**metadata: str) -> str:
    spec = (
        "{hosts: [a.default.svc.cluster.local],"
        " http: [{route: [{destination: {host: a.default.svc.cluster.local}}]}]}"
    )
    return one(NETWORKING, "VirtualService", "vs", spec, **metadata)


OPTED_OUT = service("a", labels="{istio.io/use-waypoint: none}")
OPTED_IN = service("a", labels="{istio.io/use-waypoint: wp}")

CASES = (
    Case(
        code="KIA1301",
        wrong=SIDECARS + deployment("a"),
        right=SIDECARS
        + deployment("a")
        + deployment("out", namespace="outside")
        + policy("selector: {matchLabels: {app: a}}"),
        on="Deployment default/a",
    ),
    Case(
        code="KIA1301",
        wrong=SIDECARS + pod("a", "{app: a}") + policy("selector: {matchLabels: {app: b}}"),
        right=SIDECARS
        + pod("a", "{app: a}")
        + one(SECURITY, "AuthorizationPolicy", "ap", "{}", namespace="istio-system"),
        on="Pod default/a",
    ),
    # --- policies ------------------------------------------------------------------------------
    Case(
        code="KIA0109",
        wrong=AMBIENT + policy(OF_REQUESTS),
        right=ENROLLED + WAYPOINT + policy(OF_REQUESTS) + telemetry("metrics: []"),
        on="AuthorizationPolicy default/ap",
    ),
    # Sidecars read it where the namespace asks for those as well: their labels go first.
    Case(
        code="KIA0109",
        wrong=AMBIENT + policy(OF_REQUESTS),
        right=space("default", "{istio-injection: enabled, istio.io/dataplane-mode: ambient}")
        + policy(OF_REQUESTS),
        on="AuthorizationPolicy default/ap",
    ),
    Case(
        code="KIA0109",
        wrong=AMBIENT + service("a") + policy(f"{OF_REQUESTS}, {REFS}"),
        right=AMBIENT + WAYPOINT + OPTED_IN + policy(f"{OF_REQUESTS}, {REFS}"),
        on="AuthorizationPolicy default/ap",
    ),
    Case(
        code="KIA0110",
        wrong=ENROLLED + policy(OF_REQUESTS),
        right=ENROLLED + policy(OF_CONNECTIONS),
        on="AuthorizationPolicy default/ap",
        path="spec",
    ),
    Case(
        code="KIA0110",
        wrong=ENROLLED + policy(f"{OF_REQUESTS}, selector: {{matchLabels: {{app: a}}}}"),
        right=ENROLLED
        + pod("gw", "{app: a}", containers=WITH_PROXY)
        + policy(f"{OF_REQUESTS}, selector: {{matchLabels: {{app: a}}}}"),
        on="AuthorizationPolicy default/ap",
        path="spec",
    ),
    Case(
        code="KIA1110",
        wrong=AMBIENT + authentication(),
        right=AMBIENT + authentication(TO_WAYPOINT),
        on="RequestAuthentication default/ra",
    ),
    Case(
        code="KIA1115",
        wrong=ENROLLED + authentication(),
        right=ENROLLED + authentication(REFS),
        on="RequestAuthentication default/ra",
        path="spec",
    ),
    Case(
        code="KIA1111",
        wrong=AMBIENT + plugin(),
        right=ENROLLED + plugin(),
        on="WasmPlugin default/wp",
    ),
    Case(
        code="KIA1116",
        wrong=ENROLLED + plugin(),
        right=ENROLLED + plugin(TO_WAYPOINT) + one(EXTENSIONS, "WasmPlugin", "x", namespace="x"),
        on="WasmPlugin default/wp",
        path="spec",
    ),
    Case(
        code="KIA1112",
        wrong=AMBIENT + telemetry(TRACING),
        right=AMBIENT + telemetry("metrics: [{providers: [{name: prometheus}]}]"),
        on="Telemetry default/t",
    ),
    Case(
        code="KIA1117",
        wrong=ENROLLED + telemetry(TRACING),
        right=ENROLLED + telemetry(f"{TRACING}, {REFS}"),
        on="Telemetry default/t",
        path="spec",
    ),
    # --- rules and routes ----------------------------------------------------------------------
    Case(
        code="KIA0210",
        wrong=AMBIENT + service("a") + breaker(),
        right=AMBIENT + OPTED_IN + breaker(),
        on="DestinationRule default/dr",
        path="spec.host",
    ),
    Case(
        code="KIA0211",
        wrong=ENROLLED + OPTED_OUT + breaker(),
        right=ENROLLED + service("a") + breaker(),
        on="DestinationRule default/dr",
        path="spec.host",
    ),
    Case(
        code="KIA0212",
        wrong=ENROLLED + service("a") + breaker(namespace="other"),
        right=SIDECARS + service("a") + breaker(namespace="other"),
        on="DestinationRule other/dr",
        path="spec.host",
    ),
    Case(
        code="KIA1109",
        wrong=AMBIENT + service("a") + route(),
        right=ENROLLED + service("a") + route(),
        on="VirtualService default/vs",
        path="spec.hosts[0]",
    ),
    Case(
        code="KIA1113",
        wrong=AMBIENT + WAYPOINT + service("a") + route(),
        right=AMBIENT + WAYPOINT + OPTED_IN + route(),
        on="VirtualService default/vs",
        path="spec.hosts[0]",
    ),
    Case(
        code="KIA1114",
        wrong=ENROLLED + service("a") + route(namespace="other"),
        right=ENROLLED + service("a") + route(),
        on="VirtualService other/vs",
        path="spec.hosts[0]",
    ),
    # --- workloads -----------------------------------------------------------------------------
    Case(
        code="KIA1311",
        wrong=space("default", "{istio-injection: enabled, istio.io/dataplane-mode: ambient}")
        + deployment("a"),
        right=SIDECARS
        + AMBIENT.replace("default", "other")
        + deployment("a")
        + deployment("b", namespace="other"),
        on="Deployment default/a",
    ),
    Case(
        code="KIA1312",
        wrong=space("default", "{istio.io/use-waypoint: wp}") + WAYPOINT + pod("a", "{app: a}"),
        right=ENROLLED
        + WAYPOINT
        + pod("a", "{app: a}")
        + pod("b", "{istio.io/dataplane-mode: none}"),
        on="Pod default/a",
    ),
    Case(
        code="KIA1313",
        wrong=ENROLLED + pod("a", "{app: a}"),
        right=ENROLLED
        + WAYPOINT
        + pod("a", "{app: a}")
        + pod("b", "{istio.io/dataplane-mode: none}"),
        on="Pod default/a",
    ),
    Case(
        code="KIA1314",
        wrong=SIDECARS + pod("a", "{app: a}", annotations=CAPTURED),
        right=AMBIENT + pod("a", "{app: a}", annotations=CAPTURED),
        on="Pod default/a",
    ),
    Case(
        code="KIA1315",
        wrong=space("default")
        + pod("a", "{istio.io/dataplane-mode: ambient}", containers=WITH_PROXY),
        right=space("default") + pod("a", "{istio.io/dataplane-mode: ambient}"),
        on="Pod default/a",
    ),
    Case(
        code="KIA1316",
        wrong=AMBIENT + pod("a", "{app: a}", containers=WITH_PROXY),
        right=AMBIENT + pod("a", "{istio.io/dataplane-mode: none}", containers=WITH_PROXY),
        on="Pod default/a",
    ),
    Case(
        code="KIA1317",
        wrong=AMBIENT + deployment("a") + policy(OF_REQUESTS),
        right=AMBIENT
        + WAYPOINT
        + OPTED_IN
        + deployment("a")
        + deployment("b")
        + policy(f"{OF_REQUESTS}, selector: {{matchLabels: {{app: a}}}}"),
        on="Deployment default/a",
    ),
)
