"""Deprecated and removed forms: what becomes of each, and what is only told."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from services.chassis.errors import OptionsMalformed
from services.chassis.kube.objects import KubeObject
from services.translator.deprecations.kinds import PROMOTIONS
from services.translator.deprecations.modernizing import modernized
from services.translator.reports import Level
from tests.unit.translator.objects import (
    deployment,
    destination_rule,
    networking,
    obj,
    telemetry,
    virtual_service,
)

INJECT = "sidecar.istio.io/inject"
GATEWAY_API = "gateway.networking.k8s.io"
# Each with the fields of a spec before and after, the level of the one finding, and its path.
ROUTES: dict[str, tuple[dict[str, Any], dict[str, Any], Level, str]] = {
    "mirror percent": (
        {"mirror": {"host": "b"}, "mirrorPercent": 50},
        {"mirror": {"host": "b"}, "mirrorPercentage": {"value": 50}},
        Level.INFO,
        "mirrorPercent",
    ),
    "mirror percent of zero": (
        {"mirrorPercent": 0},
        {"mirrorPercentage": {"value": 0}},
        Level.INFO,
        "mirrorPercent",
    ),
    "mirror percent by its other name": (
        {"mirror_percent": 50},
        {"mirrorPercentage": {"value": 50}},
        Level.INFO,
        "mirror_percent",
    ),
    "mirror percent beside its successor": (
        {"mirrorPercent": 50, "mirrorPercentage": {"value": 1.5}},
        {"mirrorPercentage": {"value": 1.5}},
        Level.INFO,
        "mirrorPercent",
    ),
    "mirror percent of a root that is merged": (
        {"delegate": {"name": "b"}, "mirrorPercent": 50},
        {"delegate": {"name": "b"}, "mirrorPercent": 50},
        Level.WARNING,
        "mirrorPercent",
    ),
    "delay percent": (
        {"fault": {"delay": {"percent": 10, "fixedDelay": "1s"}}},
        {"fault": {"delay": {"percentage": {"value": 10}, "fixedDelay": "1s"}}},
        Level.INFO,
        "fault.delay.percent",
    ),
    "delay percent beside its successor": (
        {"fault": {"delay": {"percent": 10, "percentage": {"value": 1}}}},
        {"fault": {"delay": {"percentage": {"value": 1}}}},
        Level.INFO,
        "fault.delay.percent",
    ),
    "abort percent, which was removed": (
        {"fault": {"abort": {"percent": 10, "httpStatus": 500}}},
        {"fault": {"abort": {"percentage": {"value": 10}, "httpStatus": 500}}},
        Level.WARNING,
        "fault.abort.percent",
    ),
    "allowed origins": (
        {"corsPolicy": {"allowOrigin": ["https://a", "*"]}},
        {"corsPolicy": {"allowOrigins": [{"exact": "https://a"}, {"exact": "*"}]}},
        Level.INFO,
        "corsPolicy.allowOrigin",
    ),
    "allowed origins beside their successor": (
        {"corsPolicy": {"allowOrigin": ["b"], "allowOrigins": [{"prefix": "a"}]}},
        {"corsPolicy": {"allowOrigins": [{"prefix": "a"}]}},
        Level.INFO,
        "corsPolicy.allowOrigin",
    ),
    "websocket upgrade": ({"websocketUpgrade": True}, {}, Level.INFO, "websocketUpgrade"),
    "appended headers": (
        {"appendHeaders": {"x": "1"}},
        {"headers": {"request": {"add": {"x": "1"}}}},
        Level.WARNING,
        "appendHeaders",
    ),
    "removed headers, together with others": (
        {"removeResponseHeaders": ["x"], "headers": {"response": {"remove": ["y"]}}},
        {"headers": {"response": {"remove": ["y", "x"]}}},
        Level.WARNING,
        "removeResponseHeaders",
    ),
    "appended headers that disagree": (
        {"appendHeaders": {"x": "1"}, "headers": {"request": {"add": {"x": "2"}}}},
        {"appendHeaders": {"x": "1"}, "headers": {"request": {"add": {"x": "2"}}}},
        Level.WARNING,
        "appendHeaders",
    ),
    "headers of a destination": (
        {"route": [{"destination": {"host": "b"}, "appendResponseHeaders": {"x": "1"}}]},
        {"route": [{"destination": {"host": "b"}, "headers": {"response": {"add": {"x": "1"}}}}]},
        Level.WARNING,
        "route[0].appendResponseHeaders",
    ),
}
POLICIES: dict[str, tuple[dict[str, Any], dict[str, Any], Level, str]] = {
    "least connections": (
        {"loadBalancer": {"simple": "LEAST_CONN"}},
        {"loadBalancer": {"simple": "LEAST_REQUEST"}},
        Level.INFO,
        "loadBalancer.simple",
    ),
    "ring size": (
        {"loadBalancer": {"consistentHash": {"useSourceIp": True, "minimumRingSize": 9}}},
        {
            "loadBalancer": {
                "consistentHash": {"useSourceIp": True, "ringHash": {"minimumRingSize": 9}}
            }
        },
        Level.INFO,
        "loadBalancer.consistentHash.minimumRingSize",
    ),
    "ring size of zero": (
        {"loadBalancer": {"consistentHash": {"minimumRingSize": 0}}},
        {"loadBalancer": {"consistentHash": {}}},
        Level.INFO,
        "loadBalancer.consistentHash.minimumRingSize",
    ),
    "ring size beside maglev": (
        {"loadBalancer": {"consistentHash": {"minimumRingSize": 9, "maglev": {}}}},
        {"loadBalancer": {"consistentHash": {"minimumRingSize": 9, "maglev": {}}}},
        Level.WARNING,
        "loadBalancer.consistentHash.minimumRingSize",
    ),
    "warmup": (
        {"loadBalancer": {"warmupDurationSecs": "30s"}},
        {"loadBalancer": {"warmup": {"duration": "30s"}}},
        Level.INFO,
        "loadBalancer.warmupDurationSecs",
    ),
    "warmup beside its successor": (
        {"loadBalancer": {"warmupDurationSecs": "30s", "warmup": {"duration": "9s"}}},
        {"loadBalancer": {"warmup": {"duration": "9s"}}},
        Level.INFO,
        "loadBalancer.warmupDurationSecs",
    ),
    "consecutive errors, whose meaning changed": (
        {"outlierDetection": {"consecutiveErrors": 3}},
        {"outlierDetection": {"consecutiveErrors": 3}},
        Level.WARNING,
        "outlierDetection.consecutiveErrors",
    ),
    "consecutive errors beside a successor": (
        {"outlierDetection": {"consecutiveErrors": 3, "consecutiveGatewayErrors": 1}},
        {"outlierDetection": {"consecutiveGatewayErrors": 1}},
        Level.INFO,
        "outlierDetection.consecutiveErrors",
    ),
}
REFERENCE = {"group": GATEWAY_API, "kind": "Gateway", "name": "a"}
OTHER = {**REFERENCE, "name": "b"}
OBJECTS: dict[str, tuple[KubeObject, KubeObject, Level, str]] = {
    "target of a WasmPlugin": (
        obj("extensions.istio.io/v1alpha1", "WasmPlugin", {"targetRef": REFERENCE}),
        obj("extensions.istio.io/v1alpha1", "WasmPlugin", {"targetRefs": [REFERENCE]}),
        Level.INFO,
        "spec.targetRef",
    ),
    "target of an AuthorizationPolicy": (
        obj("security.istio.io/v1", "AuthorizationPolicy", {"targetRef": REFERENCE}),
        obj("security.istio.io/v1", "AuthorizationPolicy", {"targetRefs": [REFERENCE]}),
        Level.INFO,
        "spec.targetRef",
    ),
    "target of a Telemetry beside others": (
        telemetry({"targetRef": REFERENCE, "targetRefs": [OTHER]}),
        telemetry({"targetRefs": [OTHER]}),
        Level.INFO,
        "spec.targetRef",
    ),
    "keys of a RequestAuthentication": (
        obj("security.istio.io/v1", "RequestAuthentication", {"jwtRules": [{"jwks_uri": "u"}]}),
        obj("security.istio.io/v1", "RequestAuthentication", {"jwtRules": [{"jwksUri": "u"}]}),
        Level.INFO,
        "spec.jwtRules[0].jwks_uri",
    ),
    "target port of a Gateway": (
        networking("Gateway", {"servers": [{"port": {"number": 80, "targetPort": 8080}}]}),
        networking("Gateway", {"servers": [{"port": {"number": 80}}]}),
        Level.INFO,
        "spec.servers[0].port.targetPort",
    ),
    "target port of a Sidecar": (
        networking("Sidecar", {"ingress": [{"port": {"number": 80, "targetPort": 8080}}]}),
        networking("Sidecar", {"ingress": [{"port": {"number": 80}}]}),
        Level.INFO,
        "spec.ingress[0].port.targetPort",
    ),
    "egress proxy of a Sidecar": (
        networking("Sidecar", {"outboundTrafficPolicy": {"egressProxy": {"host": "a"}}}),
        networking("Sidecar", {"outboundTrafficPolicy": {"egressProxy": {"host": "a"}}}),
        Level.WARNING,
        "spec.outboundTrafficPolicy.egressProxy",
    ),
    "annotation against injection": (
        deployment(annotations={INJECT: "false"}),
        deployment(annotations={}, labels={INJECT: "false"}),
        Level.INFO,
        f'spec.template.metadata.annotations["{INJECT}"]',
    ),
    "annotation for injection, which is weaker than the label": (
        deployment(annotations={INJECT: "true"}),
        deployment(annotations={INJECT: "true"}),
        Level.WARNING,
        f'spec.template.metadata.annotations["{INJECT}"]',
    ),
    "annotation for injection beside the label": (
        deployment(annotations={INJECT: "true"}, labels={INJECT: "false"}),
        deployment(annotations={}, labels={INJECT: "false"}),
        Level.INFO,
        f'spec.template.metadata.annotations["{INJECT}"]',
    ),
    "annotation of a pod that was removed": (
        obj("v1", "Pod", {}, annotations={"sidecar.istio.io/statsCompression": "gzip"}),
        obj("v1", "Pod", {}, annotations={"sidecar.istio.io/statsCompression": "gzip"}),
        Level.WARNING,
        'metadata.annotations["sidecar.istio.io/statsCompression"]',
    ),
    "TLSRoute without hostnames, which v1 needs": (
        obj(f"{GATEWAY_API}/v1alpha2", "TLSRoute", {"rules": []}),
        obj(f"{GATEWAY_API}/v1alpha2", "TLSRoute", {"rules": []}),
        Level.WARNING,
        "spec.hostnames",
    ),
}


def one_finding(given: KubeObject) -> tuple[KubeObject, Level, str]:
    before = copy.deepcopy(given)
    result = modernized(given)
    assert given == before
    assert result.obj is not given
    [finding] = result.findings
    return result.obj, finding.level, finding.place


@pytest.mark.parametrize("case", ROUTES)
def test_forms_of_routes(case: str) -> None:
    before, after, level, place = ROUTES[case]
    expected = (virtual_service(after), level, f"spec.http[0].{place}")
    assert one_finding(virtual_service(before)) == expected


@pytest.mark.parametrize("case", POLICIES)
def test_forms_of_traffic_policies(case: str) -> None:
    before, after, level, place = POLICIES[case]
    expected = (destination_rule(after), level, f"spec.trafficPolicy.{place}")
    assert one_finding(destination_rule(before)) == expected


@pytest.mark.parametrize("case", OBJECTS)
def test_forms_of_other_kinds(case: str) -> None:
    before, after, level, place = OBJECTS[case]
    assert one_finding(before) == (after, level, place)


def test_policies_of_subsets_and_ports_are_rewritten_too() -> None:
    former = {"loadBalancer": {"simple": "LEAST_CONN"}}
    today = {"loadBalancer": {"simple": "LEAST_REQUEST"}}
    given = destination_rule(
        {"portLevelSettings": [former]}, subsets=[{"name": "a", "trafficPolicy": former}]
    )
    result = modernized(given)
    assert result.obj == destination_rule(
        {"portLevelSettings": [today]}, subsets=[{"name": "a", "trafficPolicy": today}]
    )
    assert [finding.place for finding in result.findings] == [
        "spec.trafficPolicy.portLevelSettings[0].loadBalancer.simple",
        "spec.subsets[0].trafficPolicy.loadBalancer.simple",
    ]


def test_a_delegate_keeps_its_mirror_percent() -> None:
    given = networking("VirtualService", {"http": [{"mirrorPercent": 5}]})
    assert one_finding(given) == (given, Level.WARNING, "spec.http[0].mirrorPercent")


@pytest.mark.parametrize(
    ("group", "kind", "former"),
    [(*key, former) for key, known in PROMOTIONS.items() for former in known.former],
)
def test_former_versions_are_written_as_the_current_one(group: str, kind: str, former: str) -> None:
    known = PROMOTIONS[group, kind]
    given = obj(f"{group}/{former}", kind, {"hostnames": ["a"]})
    result, level, place = one_finding(given)
    assert (result["apiVersion"], level, place) == (
        f"{group}/{known.current}",
        Level.INFO,
        "apiVersion",
    )
    assert {**result, "apiVersion": given["apiVersion"]} == given
    older = f"{known.since[0]}.{known.since[1] - 1}.0"
    newer = f"{known.since[0]}.{known.since[1]}.0"
    assert modernized(given, target=older).obj == given
    assert modernized(given, target=newer).obj == result


@pytest.mark.parametrize(
    "given",
    [
        networking("VirtualService", {"hosts": ["a"]}, version="v9"),
        networking("EnvoyFilter", {}, version="v1alpha3"),
        obj("extensions.istio.io/v1alpha1", "WasmPlugin", {}),
        obj(f"{GATEWAY_API}/v1beta1", "ReferenceGrant", {}),
        obj("split.smi-spec.io/v1alpha4", "TrafficSplit", {}),
        obj("v1", "Service", {"targetRef": {}}),
        virtual_service({"mirrorPercentage": {"value": 5}, "fault": {"delay": {"percentage": {}}}}),
        virtual_service({"mirrorPercent": True}),
        virtual_service({"mirrorPercent": 101}),
        {},
        {"apiVersion": 3, "kind": []},
    ],
    ids=repr,
)
def test_what_is_not_a_former_form_stays(given: KubeObject) -> None:
    result = modernized(given)
    assert (result.obj, result.findings) == (given, ())


def test_forms_that_the_target_lacks_are_not_written() -> None:
    plugin = obj("extensions.istio.io/v1alpha1", "WasmPlugin", {"targetRef": REFERENCE})
    warm = destination_rule({"loadBalancer": {"warmupDurationSecs": "1s"}})
    assert modernized(plugin, target="1.21.0").obj == plugin
    assert modernized(plugin, target="1.22.0").obj != plugin
    assert modernized(warm, target="1.23.5").obj == warm
    assert modernized(warm, target="1.24.0").obj != warm


def test_a_target_that_is_no_version_is_refused() -> None:
    with pytest.raises(OptionsMalformed, match="is not a version of Istio"):
        modernized({}, target="latest")


# --- kinds that are gone --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "successor"),
    [
        (obj("rbac.istio.io/v1alpha1", "ServiceRole", {}), "AuthorizationPolicy"),
        (obj("rbac.istio.io/v1alpha1", "ClusterRbacConfig", {}), "AuthorizationPolicy"),
        (obj("config.istio.io/v1alpha2", "handler", {}), "Telemetry"),
        (obj("install.istio.io/v1alpha1", "IstioOperator", {}), "the operation `istio`"),
        (obj("inference.networking.x-k8s.io/v1alpha2", "InferencePool", {}), "InferencePool of"),
        (obj("authentication.istio.io/v1alpha1", "Policy", {}, name="a"), "PeerAuthentication"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_a_kind_that_is_gone_is_an_error_with_its_successor(
    given: KubeObject, successor: str
) -> None:
    result = modernized(given)
    [finding] = result.findings
    assert result.obj == given
    assert (finding.level, finding.rule, finding.place) == (Level.ERROR, "gone", "kind")
    assert successor in finding.remedy


def policy(spec: dict[str, Any], *, kind: str = "Policy", **more: Any) -> KubeObject:
    return obj("authentication.istio.io/v1alpha1", kind, spec, **{"name": "default", **more})


@pytest.mark.parametrize(
    ("peer", "mode"),
    [
        ({"mtls": {}}, "STRICT"),
        ({"mtls": None}, "STRICT"),
        ({"mtls": {"mode": "STRICT"}}, "STRICT"),
        ({"mtls": {"mode": "PERMISSIVE"}}, "PERMISSIVE"),
    ],
)
def test_a_policy_that_only_sets_mutual_tls_is_rewritten(peer: dict[str, Any], mode: str) -> None:
    today = {"mtls": {"mode": mode}}
    of_namespace, level, _ = one_finding(policy({"peers": [peer]}))
    assert level is Level.WARNING
    assert of_namespace == obj(
        "security.istio.io/v1", "PeerAuthentication", today, name="default", namespace="shop"
    )
    of_mesh = modernized(
        policy({"peers": [peer]}, kind="MeshPolicy", namespace=""), root_namespace="mesh"
    )
    assert of_mesh.obj == obj(
        "security.istio.io/v1", "PeerAuthentication", today, name="default", namespace="mesh"
    )


def test_a_policy_is_written_as_the_target_knows_it() -> None:
    result = modernized(policy({"peers": [{"mtls": {}}]}), target="1.21.0")
    assert result.obj["apiVersion"] == "security.istio.io/v1beta1"


@pytest.mark.parametrize(
    "given",
    [
        policy({"peers": [{"mtls": {}}]}, name="other"),
        policy({"peers": [{"mtls": {}}], "targets": [{"name": "a"}]}),
        policy({"peers": [{"mtls": {}}], "origins": [{"jwt": {}}]}),
        policy({"peers": [{"mtls": {}}], "peerIsOptional": True}),
        policy({"peers": [{"mtls": {"allowTls": True}}]}),
        policy({"peers": [{"mtls": {"mode": "OTHER"}}]}),
        policy({"peers": [{"jwt": {}}]}),
        policy({"peers": []}),
        policy({}),
    ],
    ids=lambda given: str(given["spec"]),
)
def test_a_policy_that_says_more_is_not_rewritten(given: KubeObject) -> None:
    result, level, _ = one_finding(given)
    assert (result, level) == (given, Level.ERROR)


def test_a_reference_policy_is_a_reference_grant() -> None:
    result = modernized(obj(f"{GATEWAY_API}/v1alpha2", "ReferencePolicy", {"from": []}))
    assert result.obj == obj(f"{GATEWAY_API}/v1beta1", "ReferenceGrant", {"from": []})
