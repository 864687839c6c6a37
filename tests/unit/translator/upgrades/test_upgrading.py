"""The report of an upgrade: definitions compared, order, counts, JSON, and what is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chassis.errors import OptionsMalformed
from services.chassis.kube.objects import KubeObject
from services.translator.definitions.schemas import Schemas
from services.translator.reports import Level, dotted
from services.translator.upgrades.upgrading import UpgradeReport, upgrade_report
from tests.unit.translator.objects import (
    definition,
    deployment,
    destination_rule,
    envoy_filter,
    mesh_config,
    networking,
    obj,
    patch,
    virtual_service,
)

TEXT = {"type": "string"}
LIST: dict[str, Any] = {"type": "array", "x-kubernetes-preserve-unknown-fields": True}
ANY: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def items(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "object", "properties": fields}}


def balanced(*algorithms: str) -> dict[str, Any]:
    simple = {"type": "object", "properties": {"simple": {"type": "string", "enum": algorithms}}}
    policy = {"type": "object", "properties": {"loadBalancer": simple, "tls": ANY}}
    return {"host": TEXT, "trafficPolicy": policy}


ROUTE = {"mirrorPercentage": ANY, "route": {"type": "array", "items": ANY}}
SERVICES = {"hosts": {"type": "array", "items": TEXT}}
NOW = Schemas.read(
    [
        definition(
            "VirtualService",
            {
                version: {
                    **SERVICES,
                    "http": items({**ROUTE, "mirrorPercent": {"type": "integer"}}),
                }
                for version in ("v1", "v1beta1", "v1alpha3")
            },
        ),
        definition("DestinationRule", {"v1": balanced("LEAST_CONN", "LEAST_REQUEST")}),
        definition("Gone", {"v1": {}}),
        definition("TCPRoute", {"v1alpha2": {}}, group="gateway.networking.k8s.io"),
        definition(
            "Policy",
            {"v1alpha1": {"peers": {"type": "array", "items": ANY}}},
            group="authentication.istio.io",
        ),
    ]
)
THEN = Schemas.read(
    [
        definition(
            "VirtualService",
            {version: {**SERVICES, "http": items(ROUTE)} for version in ("v1", "v1beta1")},
        ),
        definition("DestinationRule", {"v1": balanced("LEAST_REQUEST")}),
        definition("TCPRoute", {"v1": {}}, group="gateway.networking.k8s.io"),
        definition("PeerAuthentication", {"v1": {"mtls": ANY}}, group="security.istio.io"),
    ]
)


def report(
    *objects: KubeObject,
    current: str = "1.30.0",
    target: str = "1.31.0",
    now: Schemas | None = NOW,
    then: Schemas | None = THEN,
) -> UpgradeReport:
    return upgrade_report(
        objects, current=current, target=target, current_schemas=now, target_schemas=then
    )


def compared(*objects: KubeObject, **more: Any) -> list[tuple[str, str, KubeObject | None]]:
    """What the definitions alone say: rule, place, and the rewritten object."""
    return [
        (change.finding.rule, dotted(change.finding.path), change.rewritten)
        for change in report(*objects, **more).changes
        if change.finding.rule in ("kind", "api-version", "schema", "version", "cel")
    ]


def test_a_field_that_is_gone_is_told_with_its_rewritten_form() -> None:
    former = virtual_service({"mirrorPercent": 5})
    today = virtual_service({"mirrorPercentage": {"value": 5}})
    assert compared(former) == [("schema", "spec.http[0].mirrorPercent", today)]
    assert compared(today) == []


def test_a_value_that_is_gone_is_told_with_its_rewritten_form() -> None:
    former = destination_rule({"loadBalancer": {"simple": "LEAST_CONN"}})
    today = destination_rule({"loadBalancer": {"simple": "LEAST_REQUEST"}})
    assert compared(former) == [("schema", "spec.trafficPolicy.loadBalancer.simple", today)]


def test_what_is_wrong_already_is_not_blamed_on_the_upgrade() -> None:
    wrong = destination_rule({"loadBalancer": {"simple": "OTHER"}}, unknown=1)
    assert compared(wrong) == []
    both = virtual_service({"mirrorPercent": 5, "unknown": 1})
    assert compared(both) == [("schema", "spec.http[0].mirrorPercent", None)]


def test_without_the_current_definitions_every_object_is_taken_to_be_valid() -> None:
    wrong = destination_rule({"loadBalancer": {"simple": "OTHER"}})
    assert compared(wrong, now=None) == [("schema", "spec.trafficPolicy.loadBalancer.simple", None)]


def test_without_the_target_definitions_nothing_is_compared() -> None:
    assert compared(virtual_service({"mirrorPercent": 5}), then=None) == []


def test_a_version_that_is_gone_is_told_with_its_rewritten_form() -> None:
    given = {"hosts": ["a"]}
    former = networking("VirtualService", given, version="v1alpha3")
    today = networking("VirtualService", given)
    assert compared(former) == [("api-version", "apiVersion", today)]
    assert compared(networking("VirtualService", given, version="v1beta1")) == []


def test_a_version_of_the_gateway_api_that_is_gone_is_told() -> None:
    former = obj("gateway.networking.k8s.io/v1alpha2", "TCPRoute", {})
    today = obj("gateway.networking.k8s.io/v1", "TCPRoute", {})
    assert compared(former) == [("api-version", "apiVersion", today)]


def test_a_kind_that_is_gone_is_told() -> None:
    assert compared(networking("Gone", {})) == [("kind", "kind", None)]


def test_a_kind_that_is_gone_is_rewritten_where_a_successor_says_the_same() -> None:
    group = "authentication.istio.io/v1alpha1"
    former = obj(group, "Policy", {"peers": [{"mtls": {}}]}, name="default")
    today = obj(
        "security.istio.io/v1", "PeerAuthentication", {"mtls": {"mode": "STRICT"}}, name="default"
    )
    assert compared(former) == [("kind", "kind", today)]
    more = obj(group, "Policy", {"peers": [{"jwt": {}}]}, name="default")
    [change] = [change for change in report(more).changes if change.finding.rule == "kind"]
    assert change.rewritten is None
    assert "PeerAuthentication" in change.finding.remedy


def test_a_kind_or_version_that_the_cluster_never_had_is_not_blamed() -> None:
    assert compared(networking("Other", {}), networking("VirtualService", {}, version="v9")) == []


def test_kinds_of_which_nothing_is_known_are_left_alone() -> None:
    unknown = obj("security.istio.io/v1", "AuthorizationPolicy", {"x": 1})
    assert compared(obj("split.smi-spec.io/v1alpha4", "TrafficSplit", {}), now=None) == []
    assert compared(unknown, now=NOW) == []


@pytest.mark.parametrize("target", ["1.30.5", "1.30.0", "1.29.9", "1.20.0"])
def test_within_a_minor_and_backwards_only_definitions_are_compared(target: str) -> None:
    changes = report(
        virtual_service({"mirrorPercent": 5}),
        envoy_filter(patch("INSERT_BEFORE", {})),
        destination_rule({"outlierDetection": {}, "tls": {"mode": "SIMPLE"}}),
        mesh_config("not: [readable"),
        target=target,
    ).changes
    assert {change.finding.rule for change in changes} == {"schema"}
    assert changes[0].since == ".".join(target.split(".")[:2])


def test_findings_about_filters_say_what_the_upgrade_changes() -> None:
    pinned = {"proxy": {"proxyVersion": r"^1\.30.*"}}
    former = {"proxy": {"proxyVersion": r"^1\.9.*"}}
    value = {"name": "a", "typed_config": {"@type": "type.googleapis.com/a.B"}}
    given = envoy_filter(
        patch("MERGE", value, match=pinned),
        patch("MERGE", value, match=former),
        patch("INSERT_AFTER", {**value, "name": "b"}),
    )
    told = [
        (change.finding.rule, change.since, dotted(change.finding.path))
        for change in report(given, now=None, then=None).changes
        if change.finding.subject.kind == "EnvoyFilter"
    ]
    assert told == [
        ("filter/version-match", "", "spec.configPatches[1].match.proxy.proxyVersion"),
        ("IST0151", "", "spec.configPatches[2].patch.operation"),
        ("filter/version-match", "1.31", "spec.configPatches[0].match.proxy.proxyVersion"),
    ]


def test_findings_about_plugins_are_told() -> None:
    given = obj(
        "extensions.istio.io/v1alpha1",
        "WasmPlugin",
        {"url": "https://a/b.wasm", "failStrategy": "FAIL_CLOSE"},
    )
    told = [
        (c.finding.rule, c.since)
        for c in report(given).changes
        if c.finding.subject.kind == "WasmPlugin"
    ]
    assert told == [("plugin/unpinned", "")]


def test_settings_that_cannot_be_read_are_told() -> None:
    for content in ("not: [readable", "a: 1\n---\nb: 2", "[]"):
        [change] = [
            c for c in report(mesh_config(content)).changes if c.finding.rule == "mesh-config"
        ]
        assert (change.finding.level, dotted(change.finding.path)) == (Level.WARNING, "data.mesh")


def test_other_objects_are_left_alone() -> None:
    gone = {"image": "gcr.io/istio-release/proxyv2:1"}
    foreign = obj("example.com/v1", "Deployment", {"template": {"spec": {"containers": [gone]}}})
    assert "image-hubs" not in str(report(foreign).as_json())
    assert "image-hubs" in str(report(deployment(gone)).as_json())


def test_the_order_is_that_of_gravity_and_does_not_depend_on_the_input() -> None:
    objects = [
        virtual_service({"mirrorPercent": 5}),
        networking("Gone", {}),
        destination_rule({"outlierDetection": {}, "tls": {"mode": "SIMPLE"}}),
        networking("VirtualService", {"hosts": ["b"]}, version="v1alpha3", name="b"),
        envoy_filter(patch("REMOVE")),
    ]
    one = report(*objects, current="1.20.0")
    assert one == report(*reversed(objects), current="1.20.0")
    levels = [change.finding.level for change in one.changes]
    assert levels == sorted(levels, key=[Level.ERROR, Level.WARNING, Level.INFO].index)
    assert one.counts == {level.value: levels.count(level) for level in Level}
    assert all(count > 0 for count in one.counts.values())


def test_the_report_is_told_as_json() -> None:
    given = virtual_service({"mirrorPercent": 5})
    told = report(given).as_json()
    assert json.loads(json.dumps(told)) == told
    assert (told["current"], told["target"]) == ("1.30.0", "1.31.0")
    assert told["counts"]["error"] == 1
    assert told["changes"][0] == {
        "level": "error",
        "rule": "schema",
        "since": "1.31",
        "object": "VirtualService shop/a",
        "path": "spec.http[0].mirrorPercent",
        "reason": told["changes"][0]["reason"],
        "remedy": "apply the rewritten object",
        "rewritten": virtual_service({"mirrorPercentage": {"value": 5}}),
    }
    assert told["changes"][0]["reason"]


@pytest.mark.parametrize(("current", "target"), [("", "1.31.0"), ("1.30.0", "newest")])
def test_what_is_no_version_is_refused(current: str, target: str) -> None:
    with pytest.raises(OptionsMalformed, match="is not a version of Istio"):
        report(current=current, target=target)
