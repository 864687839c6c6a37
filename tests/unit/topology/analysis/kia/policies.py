"""Cases of selectors, authorization and mutual TLS."""

from __future__ import annotations

from services.topology.analysis.findings import Level
from tests.unit.topology.analysis.kia.cases import (
    MANUAL,
    NETWORKING,
    SECURITY,
    Case,
    deployment,
    mesh_config,
    one,
    pod,
    service,
    space,
)


def peers(name: str, spec: str = "{}", **metadata: str) -> str:
    return one(SECURITY, "PeerAuthentication", name, spec, **metadata)


def tokens(name: str, spec: str) -> str:
    return one(SECURITY, "RequestAuthentication", name, spec)


def policy(spec: str, name: str = "ap", **metadata: str) -> str:
    return one(SECURITY, "AuthorizationPolicy", name, spec, **metadata)


def source(fields: str) -> str:
    return policy(f"{{rules: [{{from: [{{source: {fields}}}]}}]}}")


def operation(fields: str) -> str:
    return policy(f"{{rules: [{{to: [{{operation: {fields}}}]}}]}}")


def rule(name: str, host: str, mode: str = "", **metadata: str) -> str:
    tls = f", trafficPolicy: {{tls: {{mode: {mode}}}}}" if mode else ""
    return one(NETWORKING, "DestinationRule", name, f"{{host: '{host}'{tls}}}", **metadata)


def ports(settings: str) -> str:
    """A rule for `a` with settings of port 80."""
    port = f"{{port: {{number: 80}}, {settings[1:-1]}}}"
    policy = f"{{trafficPolicy: {{portLevelSettings: [{port}]}}, host: a}}"
    return one(NETWORKING, "DestinationRule", "a", policy)


A = "{selector: {matchLabels: {app: a}}}"
SOURCE = "spec.rules[0].from[0].source"
OPERATION = "spec.rules[0].to[0].operation"
TLS = "spec.trafficPolicy.tls.mode"
REGISTRY_ONLY = mesh_config("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")
PEERS_OF_MESH = peers("mesh", "{mtls: {mode: STRICT}}", namespace="istio-system")
PLACES = space("default") + space("istio-system")
DEFAULT_HOSTS = "*.default.svc.cluster.local"
KEPT = one(
    NETWORKING,
    "DestinationRule",
    "all",
    "{host: '*.local', exportTo: [.], trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
    namespace="other",
)

CASES = (
    # --- selectors -----------------------------------------------------------------------------
    Case(
        code="KIA0002",
        wrong=peers("one") + peers("two"),
        # Istio combines RequestAuthentications, so several of them are no mistake.
        right=peers("one")
        + peers("two", namespace="other")
        + peers("three", A)
        + tokens("one", "{}")
        + tokens("two", "{}"),
        on="PeerAuthentication default/one",
        path="spec",
        also=(("PeerAuthentication default/two", "spec"),),
    ),
    Case(
        code="KIA0003",
        wrong=deployment("a", "{app: a, tier: web}")
        + peers("one", A)
        + peers("two", "{selector: {matchLabels: {tier: web}}}"),
        right=deployment("a", "{app: a}")
        + deployment("b", "{tier: web}")
        + peers("one", A)
        + peers("two", "{selector: {matchLabels: {tier: web}}}")
        + tokens("one", A)
        + tokens("two", A),
        on="PeerAuthentication default/one",
        path="spec.selector",
        also=(("PeerAuthentication default/two", "spec.selector"),),
    ),
    Case(
        code="KIA0004",
        wrong=deployment("b") + policy(A),
        right=deployment("a") + policy(A),
        on="AuthorizationPolicy default/ap",
        path="spec.selector",
        codes=("IST0127", "KIA0004"),
    ),
    Case(
        code="KIA0004",
        wrong=PLACES + deployment("a", namespace="nowhere") + policy(A, namespace="istio-system"),
        right=PLACES + deployment("a") + policy(A, namespace="istio-system"),
        on="AuthorizationPolicy istio-system/ap",
        path="spec.selector",
        codes=("IST0127", "KIA0004"),
    ),
    Case(
        code="KIA0004",
        wrong=one(NETWORKING, "Sidecar", "sc", "{workloadSelector: {labels: {app: a}}}")
        + pod("b", "{app: b}"),
        right=one(NETWORKING, "Sidecar", "sc", "{workloadSelector: {labels: {app: a}}}")
        + one(NETWORKING, "WorkloadEntry", "vm", "{address: 10.0.0.1, labels: {app: a}}"),
        on="Sidecar default/sc",
        path="spec.workloadSelector",
        codes=("IST0101", "KIA0004"),
    ),
    Case(
        code="KIA0005",
        wrong=one(NETWORKING, "ServiceEntry", "se", "{exportTo: [., gone], hosts: [a.com]}"),
        right=space("there")
        + one(NETWORKING, "ServiceEntry", "se", "{exportTo: [., there, '*'], hosts: [a.com]}"),
        on="ServiceEntry default/se",
        path="spec.exportTo[1]",
    ),
    # --- authorization -------------------------------------------------------------------------
    Case(
        code="KIA0101",
        wrong=space("prod") + source("{namespaces: [prod, gone]}"),
        right=space("prod") + source("{namespaces: [prod, 'pr*', '*']}"),
        on="AuthorizationPolicy default/ap",
        path=f"{SOURCE}.namespaces[1]",
    ),
    Case(
        code="KIA0102",
        wrong=operation("{methods: [GET, GOT]}"),
        right=operation("{methods: [GET, 'P*'], paths: [/shop.Cart/Add]}"),
        on="AuthorizationPolicy default/ap",
        path=f"{OPERATION}.methods[1]",
    ),
    Case(
        # Calls of gRPC are POST: a DENY written like this denies nothing.
        code="KIA0102",
        wrong=operation("{methods: [/shop.Cart/Add]}"),
        right=operation("{methods: [POST], paths: [/shop.Cart/Add]}"),
        on="AuthorizationPolicy default/ap",
        path=f"{OPERATION}.methods[0]",
    ),
    Case(
        code="KIA0104",
        wrong=service("a") + operation("{hosts: [a, 'a.default:80', gone.default.svc]}"),
        right=service("a")
        # Outside names and wildcards are compared with the Host header, whatever the mesh knows.
        + operation("{hosts: [a, a.default.svc.cluster.local, api.example.com, '*.x.com', '*']}"),
        on="AuthorizationPolicy default/ap",
        path=f"{OPERATION}.hosts[2]",
        level=Level.WARNING,
    ),
    Case(
        code="KIA0104",
        wrong=REGISTRY_ONLY + operation("{hosts: [gone]}"),
        right=service("gone") + operation("{hosts: [gone]}"),
        on="AuthorizationPolicy default/ap",
        path=f"{OPERATION}.hosts[0]",
    ),
    Case(
        code="KIA0105",
        wrong=MANUAL + source("{namespaces: [default]}"),
        right=MANUAL + source("{namespaces: [default]}") + rule("all", "*.local", "ISTIO_MUTUAL"),
        on="AuthorizationPolicy default/ap",
        path=f"{SOURCE}.namespaces",
    ),
    # --- automatic mutual TLS makes identities known, unless somebody turns it off
    *(
        Case(
            code="KIA0105",
            wrong=service("a") + off + source("{namespaces: [default]}"),
            right=service("a") + on + source("{namespaces: [default]}"),
            on="AuthorizationPolicy default/ap",
            path=f"{SOURCE}.namespaces",
        )
        for off, on in (
            (peers("ns", "{mtls: {mode: DISABLE}}"), peers("ns", "{mtls: {mode: STRICT}}")),
            (
                peers("mesh", "{mtls: {mode: DISABLE}}", namespace="istio-system"),
                peers("mesh", "{mtls: {mode: DISABLE}}", namespace="istio-system")
                + peers("ns", "{mtls: {mode: STRICT}}"),
            ),
            (
                peers("a", "{selector: {matchLabels: {app: a}}, mtls: {mode: DISABLE}}"),
                peers("a", "{selector: {matchLabels: {app: a}}}"),
            ),
            (
                peers(
                    "a",
                    "{selector: {matchLabels: {app: a}}, portLevelMtls: {8080: {mode: DISABLE}}}",
                ),
                peers("a", "{selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}}"),
            ),
            (rule("a", "a", "DISABLE"), rule("a", "a", "ISTIO_MUTUAL")),
        )
    ),
    Case(
        code="KIA0105",
        wrong=MANUAL
        + policy("{rules: [{when: [{key: source.principal, values: [cluster.local/ns/a/sa/b]}]}]}"),
        right=policy("{rules: [{when: [{key: source.principal, values: [a]}]}]}"),
        on="AuthorizationPolicy default/ap",
        path="spec.rules[0].when[0].key",
    ),
    Case(
        code="KIA0106",
        wrong=PLACES
        + deployment("a", account="buyer")
        + source("{principals: [cluster.local/ns/default/sa/seller]}"),
        right=PLACES
        + deployment("a", account="buyer")
        + pod("b", "{app: b}", account="seller")
        + source(
            "{principals: [cluster.local/ns/default/sa/buyer, cluster.local/ns/default/sa/seller,"
            " cluster.local/ns/default/sa/default, '*/sa/any']}"
        ),
        on="AuthorizationPolicy default/ap",
        path=f"{SOURCE}.principals[0]",
    ),
    Case(
        code="KIA0107",
        wrong=space("default")
        + space("istio-system", "{topology.istio.io/network: one}")
        + source("{principals: [cluster.local/ns/default/sa/seller]}"),
        right=PLACES + source("{principals: [cluster.local/ns/default/sa/seller]}"),
        on="AuthorizationPolicy default/ap",
        path=f"{SOURCE}.principals[0]",
    ),
    Case(
        code="KIA0108",
        wrong=mesh_config("{trustDomain: shop.com}")
        + space("default")
        + source("{principals: [old.com/ns/default/sa/default]}"),
        right=mesh_config("{trustDomain: shop.com, trustDomainAliases: [old.com]}")
        + space("default")
        + source(
            "{principals: [old.com/ns/default/sa/default, cluster.local/ns/default/sa/default]}"
        ),
        on="AuthorizationPolicy default/ap",
        path=f"{SOURCE}.principals[0]",
    ),
    # --- mutual TLS ----------------------------------------------------------------------------
    Case(
        code="KIA0204",
        wrong=MANUAL + rule("all", "*.local", "ISTIO_MUTUAL") + rule("a", "a"),
        right=MANUAL + rule("all", "*.local", "ISTIO_MUTUAL") + rule("a", "a", "ISTIO_MUTUAL"),
        on="DestinationRule default/a",
        path="spec.host",
    ),
    Case(
        # A rule that sets TLS for ports has said what it wants.
        code="KIA0204",
        wrong=MANUAL + rule("all", "*.local", "ISTIO_MUTUAL") + ports("{}"),
        right=MANUAL + rule("all", "*.local", "ISTIO_MUTUAL") + ports("{tls: {mode: SIMPLE}}"),
        on="DestinationRule default/a",
        path="spec.trafficPolicy",
    ),
    Case(
        # A namespace's rule takes the place of the mesh's.
        code="KIA0204",
        wrong=MANUAL + rule("all", "*.local", "ISTIO_MUTUAL") + rule("ns", DEFAULT_HOSTS),
        right=MANUAL
        + rule("all", "*.local", "ISTIO_MUTUAL")
        + rule("ns", DEFAULT_HOSTS, "ISTIO_MUTUAL"),
        on="DestinationRule default/ns",
        path="spec.host",
    ),
    Case(
        # A rule that another namespace keeps to itself takes nothing from this one's callers.
        code="KIA0204",
        wrong=MANUAL + rule("all", "*.local", "ISTIO_MUTUAL", namespace="other") + rule("a", "a"),
        right=MANUAL + KEPT + rule("a", "a"),
        on="DestinationRule default/a",
        path="spec.host",
    ),
    Case(
        code="KIA0205",
        wrong=MANUAL + rule("all", "*.local", "ISTIO_MUTUAL"),
        right=MANUAL + rule("all", "*.local", "ISTIO_MUTUAL") + PEERS_OF_MESH,
        on="DestinationRule default/all",
        path=TLS,
    ),
    Case(
        code="KIA0206",
        wrong=MANUAL + rule("all", DEFAULT_HOSTS, "ISTIO_MUTUAL"),
        right=MANUAL
        + rule("all", DEFAULT_HOSTS, "ISTIO_MUTUAL")
        + peers("ns", "{mtls: {mode: PERMISSIVE}}"),
        on="DestinationRule default/all",
        path=TLS,
    ),
    Case(
        code="KIA0207",
        wrong=service("a") + rule("a", "a", "DISABLE") + peers("ns", "{mtls: {mode: STRICT}}"),
        right=service("a") + rule("a", "a", "DISABLE") + peers("ns", "{mtls: {mode: PERMISSIVE}}"),
        on="DestinationRule default/a",
        path=TLS,
    ),
    Case(
        code="KIA0208",
        wrong=service("a") + rule("a", "a", "DISABLE") + PEERS_OF_MESH,
        right=service("a")
        + pod("a", "{app: a}")
        + rule("a", "a", "DISABLE")
        + PEERS_OF_MESH
        + peers("a", "{selector: {matchLabels: {app: a}}, mtls: {mode: PERMISSIVE}}"),
        on="DestinationRule default/a",
        path=TLS,
    ),
    Case(
        code="KIA0401",
        wrong=MANUAL + PEERS_OF_MESH,
        right=MANUAL + PEERS_OF_MESH + rule("all", "*.local", "ISTIO_MUTUAL"),
        on="PeerAuthentication istio-system/mesh",
        path="spec.mtls.mode",
    ),
    Case(
        code="KIA0501",
        wrong=MANUAL + peers("ns", "{mtls: {mode: STRICT}}"),
        right=MANUAL
        + peers("ns", "{mtls: {mode: STRICT}}")
        + rule("all", DEFAULT_HOSTS, "ISTIO_MUTUAL"),
        on="PeerAuthentication default/ns",
        path="spec.mtls.mode",
    ),
    Case(
        code="KIA0505",
        wrong=peers("ns", "{mtls: {mode: DISABLE}}") + rule("all", DEFAULT_HOSTS, "ISTIO_MUTUAL"),
        right=peers("ns", "{mtls: {mode: DISABLE}}") + rule("all", DEFAULT_HOSTS, "DISABLE"),
        on="PeerAuthentication default/ns",
        path="spec.mtls.mode",
    ),
    Case(
        code="KIA0506",
        wrong=peers("mesh", "{mtls: {mode: DISABLE}}", namespace="istio-system")
        + rule("all", "*.local", "ISTIO_MUTUAL"),
        right=peers("mesh", "{mtls: {mode: DISABLE}}", namespace="istio-system")
        + rule("all", DEFAULT_HOSTS, "ISTIO_MUTUAL"),
        on="PeerAuthentication istio-system/mesh",
        path="spec.mtls.mode",
    ),
    # --- automatic mutual TLS: each of these is wrong without it alone ---------------------------
    Case(
        code="KIA0204",
        wrong=MANUAL + rule("all", DEFAULT_HOSTS, "ISTIO_MUTUAL") + rule("a", "a"),
        right=rule("all", DEFAULT_HOSTS, "ISTIO_MUTUAL") + rule("a", "a"),
        on="DestinationRule default/a",
        path="spec.host",
    ),
    Case(
        code="KIA0205",
        wrong=MANUAL + rule("all", "*.local", "ISTIO_MUTUAL"),
        right=rule("all", "*.local", "ISTIO_MUTUAL"),
        on="DestinationRule default/all",
        path=TLS,
    ),
    Case(
        code="KIA0401",
        wrong=MANUAL + PEERS_OF_MESH,
        right=PEERS_OF_MESH,
        on="PeerAuthentication istio-system/mesh",
        path="spec.mtls.mode",
    ),
)
