"""What each minor does differently: for every change an object that it touches and one that not."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from services.chassis.kube.objects import KubeObject
from services.translator.istio.objects import subject_of
from services.translator.reports import dotted
from services.translator.upgrades.behaviours import BEHAVIOURS, Behaviour, behaviours_between
from services.translator.upgrades.meshes import Mesh
from services.translator.upgrades.upgrading import Change, upgrade_report
from tests.unit.translator.objects import (
    ambient_namespace,
    deployment,
    destination_rule,
    envoy_filter,
    istiod,
    mesh_config,
    networking,
    obj,
    patch,
    telemetry,
    virtual_service,
)

GATEWAY_API = "gateway.networking.k8s.io"
EXCLUDED_PORTS = "traffic.sidecar.istio.io/excludeOutboundPorts"
EXCLUDED_RANGES = "traffic.sidecar.istio.io/excludeOutboundIPRanges"
FORMER = "istio.io/gateway-name"
LABEL = "gateway.networking.k8s.io/gateway-name"
ZIPKIN = obj("v1", "Service", {}, name="zipkin", namespace="istio-system")
WAYPOINT = obj(f"{GATEWAY_API}/v1", "Gateway", {"gatewayClassName": "istio-waypoint"})
GENERATED = obj(f"{GATEWAY_API}/v1", "Gateway", {"gatewayClassName": "istio"}, name="entry")
NOTHING: tuple[KubeObject, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The first object of `touched` is told, with these places; none of `spared` is.

    A change of the mesh as a whole has no places, and is or is not told for all of the objects.
    """

    touched: Sequence[KubeObject]
    places: tuple[str, ...] = ()
    spared: Sequence[KubeObject]
    rewritten: KubeObject | None = None
    minor: int = 34
    """Kubernetes minor of the mesh that is touched."""
    spared_minor: int = 34


def host(namespace: str, *hosts: str) -> KubeObject:
    return networking("ServiceEntry", {"hosts": list(hosts)}, namespace=namespace)


def routes(name: str, *hosts: str, **spec: Any) -> KubeObject:
    return networking("VirtualService", {"hosts": list(hosts), **spec}, name=name)


def tls(**settings: Any) -> KubeObject:
    return destination_rule({"tls": {"mode": "SIMPLE", **settings}})


def entry(**port: int) -> KubeObject:
    return networking("ServiceEntry", {"hosts": ["a"], "ports": [port], "resolution": "NONE"})


def selecting(label: str, kind: str = "Gateway", namespace: str = "shop") -> KubeObject:
    return networking(kind, {"selector": {label: "entry"}}, namespace=namespace)


def provider(sort: str, name: str = "old") -> KubeObject:
    return mesh_config({"extensionProviders": [{"name": name, sort: {"service": "a"}}]})


def tracing(name: str) -> KubeObject:
    return telemetry({"tracing": [{"providers": [{"name": name}]}]})


def logged(expression: str) -> KubeObject:
    return telemetry({"accessLogging": [{"filter": {"expression": expression}}]})


def plain(kind: str, api_version: str, **spec: Any) -> KubeObject:
    return obj(api_version, kind, spec)


CASES: dict[str, tuple[Case, ...]] = {
    "upgrade/1.20/filter-order": (
        Case(
            touched=[envoy_filter(patch("MERGE"), patch("INSERT_BEFORE"))],
            places=("spec.configPatches[1]",),
            spared=[
                envoy_filter(patch("INSERT_FIRST")),
                envoy_filter(patch("INSERT_BEFORE", apply_to="HTTP_ROUTE")),
            ],
        ),
    ),
    "upgrade/1.21/tls-verified": (
        Case(
            touched=[tls(sni="a")],
            places=("spec.trafficPolicy.tls",),
            rewritten=tls(sni="a", insecureSkipVerify=True),
            spared=[
                tls(caCertificates="/a.pem"),
                tls(credentialName="a"),
                tls(insecureSkipVerify=True),
                tls(insecureSkipVerify=False),
                tls(mode="ISTIO_MUTUAL"),
                tls(mode="DISABLE"),
            ],
        ),
        Case(
            touched=[
                destination_rule({}, subsets=[{"trafficPolicy": {"tls": {"mode": "MUTUAL"}}}])
            ],
            places=("spec.subsets[0].trafficPolicy.tls",),
            rewritten=destination_rule(
                {},
                subsets=[
                    {"trafficPolicy": {"tls": {"mode": "MUTUAL", "insecureSkipVerify": True}}}
                ],
            ),
            spared=[destination_rule({})],
        ),
    ),
    "upgrade/1.21/auto-sni": (
        Case(
            touched=[tls()],
            places=("spec.trafficPolicy.tls",),
            spared=[tls(sni="a"), tls(mode="ISTIO_MUTUAL")],
        ),
    ),
    "upgrade/1.21/external-name": (
        Case(
            touched=[plain("Service", "v1", type="ExternalName")],
            places=("spec.type",),
            spared=[plain("Service", "v1", type="ClusterIP")],
        ),
    ),
    "upgrade/1.21/wildcard-hosts": (
        Case(
            touched=[routes("a", "x.org", "*.example.com"), routes("b", "shop.example.com")],
            places=("spec.hosts[1]",),
            spared=[routes("a", "*.example.com"), routes("b", "example.com", "a.example.org")],
        ),
        Case(
            touched=[routes("a", "*.example.com"), routes("b", "*.shop.example.com")],
            places=("spec.hosts[0]",),
            spared=[routes("a", "*.example.com", "shop.example.com")],
        ),
        Case(
            touched=[routes("a", "*", gateways=["g"]), routes("b", "a.b", gateways=["shop/g"])],
            places=("spec.hosts[0]",),
            spared=[routes("a", "*", gateways=["g"]), routes("b", "a.b", gateways=["other/g"])],
        ),
    ),
    "upgrade/1.21/gateway-name-label": (
        Case(
            touched=[selecting(FORMER)],
            places=(f'spec.selector["{FORMER}"]',),
            rewritten=selecting(LABEL),
            spared=[selecting(LABEL), plain("Service", "v1", selector={FORMER: "a"})],
        ),
    ),
    "upgrade/1.22/default-tracing": (
        Case(
            touched=[ZIPKIN],
            places=("metadata.name",),
            spared=[{**ZIPKIN, "metadata": {"name": "zipkin", "namespace": "shop"}}],
        ),
        Case(
            touched=[ZIPKIN, mesh_config({"enableTracing": True})],
            places=("metadata.name",),
            spared=[ZIPKIN, mesh_config({"defaultConfig": {"tracing": {"zipkin": {}}}})],
        ),
    ),
    "upgrade/1.22/resource-scoping": (
        Case(
            touched=[mesh_config({"discoverySelectors": [{"matchLabels": {"mesh": "in"}}]})],
            places=("data.mesh.discoverySelectors",),
            spared=[mesh_config({"discoverySelectors": []}), mesh_config({})],
        ),
    ),
    "upgrade/1.22/target-port": (
        Case(
            touched=[entry(number=80, targetPort=443)],
            places=("spec.ports[0].targetPort",),
            rewritten=entry(number=80),
            spared=[
                entry(number=80),
                entry(number=80, targetPort=80),
                networking(
                    "ServiceEntry",
                    {"resolution": "DNS", "ports": [{"number": 80, "targetPort": 443}]},
                ),
            ],
        ),
    ),
    "upgrade/1.22/waypoint-attachment": (
        Case(touched=[WAYPOINT], places=("spec.gatewayClassName",), spared=[GENERATED]),
    ),
    "upgrade/1.23/dns-exclusions": (
        Case(
            touched=[
                deployment(
                    annotations={
                        EXCLUDED_PORTS: "443, 53",
                        EXCLUDED_RANGES: "10.0.0.0/8",
                    }
                )
            ],
            places=(
                f'spec.template.metadata.annotations["{EXCLUDED_RANGES}"]',
                f'spec.template.metadata.annotations["{EXCLUDED_PORTS}"]',
            ),
            spared=[
                deployment(annotations={EXCLUDED_PORTS: "5353"}),
                deployment(),
            ],
        ),
    ),
    "upgrade/1.24/gateway-name-label": (
        Case(
            touched=[
                obj(
                    "security.istio.io/v1",
                    "AuthorizationPolicy",
                    {"selector": {"matchLabels": {FORMER: "a"}}},
                )
            ],
            places=(f'spec.selector.matchLabels["{FORMER}"]',),
            rewritten=obj(
                "security.istio.io/v1",
                "AuthorizationPolicy",
                {"selector": {"matchLabels": {LABEL: "a"}}},
            ),
            spared=[selecting(LABEL)],
        ),
    ),
    "upgrade/1.24/operator": (
        Case(
            touched=[plain("IstioOperator", "install.istio.io/v1alpha1")],
            places=("",),
            spared=[plain("Other", "install.istio.io/v1alpha1")],
        ),
    ),
    "upgrade/1.24/sidecar-scope": (
        Case(touched=[networking("Sidecar", {})], places=("",), spared=[networking("Gateway", {})]),
    ),
    "upgrade/1.24/peer-metadata": (
        Case(
            touched=[logged('filter_state["wasm.downstream_peer"].namespace == "a"')],
            places=("spec.accessLogging[0].filter.expression",),
            spared=[
                logged('filter_state.downstream_peer.namespace == "a"'),
                logged("xds.node.id == 'a' && response.code >= 400"),
                logged('filter_state["wasm.istio_responseClass"] == "5xx"'),
            ],
        ),
        Case(
            touched=[
                telemetry(
                    {
                        "metrics": [
                            {
                                "overrides": [
                                    {"tagOverrides": {"a": {"value": "upstream_peer.labels['a']"}}}
                                ]
                            }
                        ]
                    }
                )
            ],
            places=("spec.metrics[0].overrides[0].tagOverrides.a.value",),
            spared=[
                telemetry({"metrics": [{"overrides": [{"tagOverrides": {"a": {"value": "'n'"}}}]}]})
            ],
        ),
    ),
    "upgrade/1.24/istiod-settings": (
        Case(
            touched=[istiod("OTHER", "VERIFY_CERTIFICATE_AT_CLIENT")],
            places=("spec.template.spec.containers[0].env[1]",),
            spared=[
                istiod("OTHER"),
                deployment({"env": [{"name": "VERIFY_CERTIFICATE_AT_CLIENT"}]}),
            ],
        ),
    ),
    "upgrade/1.25/ambient-dns": (
        Case(touched=[ambient_namespace()], spared=[obj("v1", "Namespace", namespace="")]),
        Case(touched=[WAYPOINT], spared=[GENERATED]),
    ),
    "upgrade/1.25/opencensus": (
        Case(
            touched=[provider("opencensus")],
            places=("data.mesh.extensionProviders[0].opencensus",),
            spared=[provider("opentelemetry"), mesh_config("not: [readable")],
        ),
        Case(
            touched=[mesh_config({"defaultConfig": {"tracing": {"openCensusAgent": {}}}})],
            places=("data.mesh.defaultConfig.tracing.openCensusAgent",),
            spared=[mesh_config({"defaultConfig": {"tracing": {"zipkin": {}}}})],
        ),
        Case(
            touched=[tracing("old"), provider("opencensus")],
            places=("spec.tracing[0].providers[0].name",),
            spared=[tracing("old"), provider("opentelemetry")],
        ),
    ),
    "upgrade/1.26/lightstep": (
        Case(
            touched=[provider("lightstep")],
            places=("data.mesh.extensionProviders[0].lightstep",),
            spared=[provider("zipkin")],
        ),
    ),
    "upgrade/1.27/lightstep": (
        Case(
            touched=[tracing("old"), provider("lightstep")],
            places=("spec.tracing[0].providers[0].name",),
            spared=[tracing("other"), provider("zipkin", "other")],
        ),
    ),
    "upgrade/1.27/native-sidecars": (
        Case(touched=NOTHING, spared=NOTHING, spared_minor=32),
        Case(touched=NOTHING, minor=0, spared=NOTHING, spared_minor=32),
    ),
    "upgrade/1.28/inference-pool": (
        Case(
            touched=[plain("InferencePool", "inference.networking.x-k8s.io/v1alpha2")],
            places=("",),
            spared=[plain("InferencePool", "inference.networking.k8s.io/v1")],
        ),
    ),
    "upgrade/1.28/backend-tls-policy": (
        Case(
            touched=[plain("BackendTLSPolicy", f"{GATEWAY_API}/v1alpha3")],
            places=("",),
            spared=[plain("HTTPRoute", f"{GATEWAY_API}/v1")],
        ),
    ),
    "upgrade/1.28/metric-rotation": (
        Case(
            touched=[istiod("METRIC_ROTATION_INTERVAL")],
            places=("spec.template.spec.containers[0].env[0]",),
            spared=[istiod("METRIC_OTHER")],
        ),
    ),
    "upgrade/1.28/mirrored-host": (
        Case(
            touched=[virtual_service({"mirror": {"host": "b"}}, {"mirrors": []})],
            places=("spec.http[0].mirror", "spec.http[1].mirrors"),
            spared=[virtual_service({"route": []})],
        ),
    ),
    "upgrade/1.28/passthrough-services": (
        Case(
            touched=[entry(number=80), ambient_namespace()],
            places=("spec.resolution",),
            spared=[entry(number=80)],
        ),
    ),
    "upgrade/1.29/circuit-breaker-gauges": (
        Case(
            touched=[destination_rule({"connectionPool": {"tcp": {}}})],
            places=("spec.trafficPolicy.connectionPool",),
            spared=[destination_rule({"outlierDetection": {}})],
        ),
    ),
    "upgrade/1.29/ambient-iptables": (Case(touched=[ambient_namespace()], spared=NOTHING),),
    "upgrade/1.30/service-namespace": (
        Case(
            touched=[host("shop", "a", "b"), host("other", "b")],
            places=("spec.hosts[1]",),
            spared=[host("shop", "a", "b"), host("shop", "b"), host("other", "c")],
        ),
    ),
    "upgrade/1.31/image-hubs": (
        Case(
            touched=[
                deployment(
                    {"image": "gcr.io/istio-release/proxyv2:1.30.0"},
                    {"image": "registry.istio.io/release/pilot@sha256:0"},
                    {"image": "registry.istio.io/testing/pilot:1"},
                    {"image": "docker.io/istio/pilot:1.30.0"},
                )
            ],
            places=(
                "spec.template.spec.containers[0].image",
                "spec.template.spec.containers[1].image",
                "spec.template.spec.containers[2].image",
            ),
            rewritten=deployment(
                {"image": "docker.io/istio/proxyv2:1.30.0"},
                {"image": "docker.io/istio/pilot@sha256:0"},
                {"image": "registry.istio.io/testing/pilot:1"},
                {"image": "docker.io/istio/pilot:1.30.0"},
            ),
            spared=[deployment({"image": "gcr.io/istio-release-fork/pilot:1"})],
        ),
        Case(
            touched=[{**mesh_config({}), "data": {"values": '{"hub": "gcr.io/istio-release"}'}}],
            places=("data.values",),
            spared=[mesh_config({"hub": "docker.io/istio"})],
        ),
        Case(
            touched=[
                plain(
                    "WasmPlugin", "extensions.istio.io/v1alpha1", url="oci://registry.istio.io/a:1"
                )
            ],
            places=("spec.url",),
            spared=[plain("WasmPlugin", "extensions.istio.io/v1alpha1", url="oci://r/a:1")],
        ),
    ),
    "upgrade/1.31/gateway-merging": (
        Case(
            touched=[
                selecting(LABEL),
                {**GENERATED, "metadata": {"name": "entry", "namespace": "edge"}},
            ],
            places=("spec.selector",),
            spared=[selecting(LABEL), GENERATED],
        ),
        Case(
            touched=[
                selecting(FORMER),
                {**GENERATED, "metadata": {"name": "entry", "namespace": "edge"}},
            ],
            places=("spec.selector",),
            spared=[
                selecting(LABEL),
                obj(
                    f"{GATEWAY_API}/v1",
                    "Gateway",
                    {"addresses": [{"value": "entry.edge"}]},
                    name="entry",
                    namespace="edge",
                ),
            ],
        ),
    ),
    "upgrade/1.31/unhealthy-endpoints": (
        Case(
            touched=[destination_rule({"outlierDetection": {}})],
            places=("spec.trafficPolicy.outlierDetection",),
            spared=[
                destination_rule({"outlierDetection": {"minHealthPercent": 50}}),
                destination_rule({"tls": {}}),
            ],
        ),
    ),
    "upgrade/1.31/subset-tls": (
        Case(
            touched=[
                destination_rule({"tls": {}}, subsets=[{"trafficPolicy": {"connectionPool": {}}}])
            ],
            places=("spec.subsets[0].trafficPolicy",),
            spared=[
                destination_rule({"tls": {}}, subsets=[{"trafficPolicy": {"tls": {}}}, {}]),
                destination_rule({}, subsets=[{"trafficPolicy": {"connectionPool": {}}}]),
            ],
        ),
    ),
    "upgrade/1.31/upstream-spans": (
        Case(
            touched=[istiod("PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY")],
            places=("spec.template.spec.containers[0].env[0]",),
            spared=[istiod("PILOT_OTHER")],
        ),
    ),
    "upgrade/1.31/registered-workloads": (
        Case(
            touched=[
                networking(
                    "WorkloadEntry", {}, annotations={"istio.io/autoRegistrationGroup": "a"}
                ),
                ambient_namespace(),
            ],
            places=("metadata.labels",),
            spared=[
                networking("WorkloadEntry", {}),
                networking(
                    "WorkloadEntry",
                    {},
                    annotations={"istio.io/autoRegistrationGroup": "a"},
                    labels={"networking.istio.io/tunnel": "http"},
                ),
                ambient_namespace(),
            ],
        ),
        Case(
            touched=[
                networking(
                    "WorkloadEntry", {}, annotations={"istio.io/autoRegistrationGroup": "a"}
                ),
                ambient_namespace(),
            ],
            places=("metadata.labels",),
            spared=[
                networking("WorkloadEntry", {}, annotations={"istio.io/autoRegistrationGroup": "a"})
            ],
        ),
    ),
}
# Told for every mesh: there is nothing that they would spare.
GENERAL = {
    "upgrade/1.20/startup-probe",
    "upgrade/1.22/delta-xds",
    "upgrade/1.25/internal-addresses",
    "upgrade/1.29/debug-endpoints",
    "upgrade/1.29/metrics-compression",
    "upgrade/1.30/xds-debug",
    "upgrade/1.30/cni-file-mode",
    "upgrade/1.31/api-generator",
}
BY_RULE = {behaviour.rule: behaviour for behaviour in BEHAVIOURS}
EACH = [(rule, case) for rule, cases in CASES.items() for case in cases]


def around(behaviour: Behaviour) -> tuple[str, str]:
    """The versions between which only this minor lies."""
    major, minor = behaviour.minor
    return f"{major}.{minor - 1}.9", f"{major}.{minor}.0"


def told(rule: str, objects: Sequence[KubeObject], *, kubernetes_minor: int) -> list[Change]:
    current, target = around(BY_RULE[rule])
    report = upgrade_report(
        objects,
        current=current,
        target=target,
        current_schemas=None,
        target_schemas=None,
        kubernetes_minor=kubernetes_minor,
    )
    return [change for change in report.changes if change.finding.rule == rule]


def test_every_change_has_a_case() -> None:
    assert set(CASES) | GENERAL == set(BY_RULE)
    assert not set(CASES) & GENERAL
    assert len(BY_RULE) == len(BEHAVIOURS)


@pytest.mark.parametrize(("rule", "case"), EACH, ids=[rule for rule, _ in EACH])
def test_a_change_tells_what_it_touches(rule: str, case: Case) -> None:
    before = copy.deepcopy(list(case.touched))
    changes = told(rule, case.touched, kubernetes_minor=case.minor)
    assert list(case.touched) == before
    if BY_RULE[rule].concerns is not None:
        [change] = changes
        assert str(change.finding.subject) == "Mesh istio-system"
        return
    first = subject_of(case.touched[0])
    here = [change for change in changes if change.finding.subject == first]
    assert {dotted(change.finding.path) for change in here} == set(case.places)
    assert all(change.rewritten == case.rewritten for change in here)


@pytest.mark.parametrize(("rule", "case"), EACH, ids=[rule for rule, _ in EACH])
def test_a_change_spares_the_rest(rule: str, case: Case) -> None:
    assert told(rule, case.spared, kubernetes_minor=case.spared_minor) == []


@pytest.mark.parametrize("rule", sorted(GENERAL))
def test_a_change_of_every_mesh_is_told_once(rule: str) -> None:
    assert len(told(rule, [tls(), routes("a", "b")], kubernetes_minor=34)) == 1


@pytest.mark.parametrize(
    ("rule", "case"),
    [(rule, case) for rule, case in EACH if case.rewritten is not None],
    ids=[rule for rule, case in EACH if case.rewritten is not None],
)
def test_what_was_rewritten_is_rewritten_no_further(rule: str, case: Case) -> None:
    assert case.rewritten is not None
    behaviour = BY_RULE[rule]
    assert behaviour.rewrite is not None
    assert behaviour.places is not None
    places = list(behaviour.places(case.rewritten, Mesh.of([case.rewritten])))
    assert behaviour.rewritten(case.rewritten, places) is None


def test_changes_lie_after_the_current_minor_up_to_the_target() -> None:
    minors = {behaviour.minor for behaviour in behaviours_between((1, 29), (1, 31))}
    assert minors == {(1, 30), (1, 31)}
    assert behaviours_between((1, 31), (1, 31)) == ()
    assert behaviours_between((1, 31), (1, 30)) == ()
    assert behaviours_between((1, 19), (1, 31)) == BEHAVIOURS


def test_all_minors_but_none_before_1_20_are_there() -> None:
    assert {b.minor for b in BEHAVIOURS} == {(1, minor) for minor in range(20, 32)}
    assert list(BEHAVIOURS) == sorted(BEHAVIOURS, key=lambda behaviour: behaviour.minor)


def test_a_change_is_about_objects_or_about_the_mesh() -> None:
    some = BEHAVIOURS[0]
    with pytest.raises(ValueError, match="must be about"):
        Behaviour(minor=(1, 99), key="a", title=some.title, level=some.level, reason=some.reason)


def test_the_index_of_hosts_keeps_two_names_of_each_part() -> None:
    many = [routes(f"v{number}", f"h{number}.example.com") for number in range(2000)]
    mesh = Mesh.of([*many, routes("all", "*.example.com")])
    assert max(len(names) for names in mesh.suffixes.values()) == 2
