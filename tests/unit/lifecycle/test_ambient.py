"""The body of `istio-ambient`, and the labels that it changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chassis.errors import KindUnknown, MeshbusError, OptionsMalformed, PrecheckRefused
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.kube.readiness import is_ready
from services.chassis.messages import Verb
from services.lifecycle.ambient.changes import OF_TEMPLATE, Change, Sight, changes
from services.lifecycle.ambient.options import AmbientRequest, parse_ambient
from services.lifecycle.ambient.prerequisites import (
    Plane,
    against_waypoint,
    require,
    warnings,
)
from services.lifecycle.ambient.waypoints import gateway, ref_of, used_by
from services.lifecycle.rollouts.deciding import Seen, decide
from services.lifecycle.rollouts.options import RolloutOptions, parse_rollout
from services.lifecycle.rollouts.records import RolloutPart, RolloutRecord, Stage
from services.lifecycle.rollouts.undoing import Standing, reverse, standing

MODE = "istio.io/dataplane-mode"
USE = "istio.io/use-waypoint"
USE_NAMESPACE = f"{USE}-namespace"
READY = {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberAvailable": 1}


def asked(**spec: Any) -> AmbientRequest:
    document = {"apiVersion": "meshbus.io/v1", "kind": "AmbientOptions", "spec": spec}
    return parse_ambient(json.dumps(document))


def space(name: str, **labels: str) -> KubeObject:
    named = {key.replace("__", "-"): value for key, value in labels.items()}
    return {"metadata": {"name": name, "uid": f"of-{name}", "labels": named}}


def workload(
    name: str, labels: dict[str, str] | None = None, *, spec: dict[str, Any] | None = None
) -> KubeObject:
    template = {"metadata": {"labels": {"app": name, **(labels or {})}}, "spec": spec or {}}
    return {"metadata": {"name": name, "uid": name}, "spec": {"template": template}}


def deployment(namespace: str, name: str) -> Ref:
    return Ref("apps/v1", "Deployment", namespace, name)


def service(namespace: str, name: str) -> Ref:
    return Ref("v1", "Service", namespace, name)


def sight(*spaces: KubeObject, **fields: Any) -> Sight:
    return Sight({one["metadata"]["name"]: one for one in spaces}, **fields)


def labelled(request: AmbientRequest, seen: Sight) -> dict[str, dict[str, str | None]]:
    """New labels by what has them."""
    return {f"{one.ref.kind} {one.ref.name}": dict(one.labels) for one in changes(request, seen)}


PLANE = Plane(
    "1.31.0",
    "istio-system",
    {
        name: {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": name, "namespace": "istio-system", "generation": 1},
            "status": {**READY, "updatedNumberScheduled": 1},
        }
        for name in ("istio-cni", "ztunnel")
    },
    has_gateways=True,
)


# --- bodies ---------------------------------------------------------------------------------------


def test_a_body_names_what_it_is_about() -> None:
    with pytest.raises(OptionsMalformed, match="holds no AmbientOptions"):
        parse_ambient("")
    for wrong in (
        {},
        {"namespaces": ["Shop"]},
        {"namespaces": ["shop"], "action": "remove"},
        {"namespaces": ["shop"], "waypoint": {"for": "pods"}},
        {"workloads": [{"namespace": "shop", "name": "web", "kind": "Job"}]},
        {"namespaces": ["shop"], "action": "replace", "waypoint": {"name": "new"}},
        {"namespaces": ["shop"], "waypoint": {"name": "new", "replaces": "old"}},
        {
            "namespaces": ["shop"],
            "action": "replace",
            "waypoint": {"name": "old", "replaces": "old"},
        },
    ):
        with pytest.raises(OptionsMalformed):
            asked(**wrong)


def test_a_deletion_withdraws() -> None:
    document = {
        "apiVersion": "meshbus.io/v1",
        "kind": "AmbientOptions",
        "spec": {"namespaces": ["shop"]},
    }
    request = parse_ambient(json.dumps(document), verb=Verb.DELETE)
    assert not request.enrols
    assert request.title == "shop taken out of ambient"


def test_a_place_that_was_taken_is_not_deleted() -> None:
    spec = {"action": "replace", "namespaces": ["shop"], "waypoint": {"replaces": "old"}}
    document = {"apiVersion": "meshbus.io/v1", "kind": "AmbientOptions", "spec": spec}
    with pytest.raises(OptionsMalformed, match="not deleted"):
        parse_ambient(json.dumps(document), verb=Verb.DELETE)


def test_nobody_asks_the_machine_for_it_as_a_rollout() -> None:
    document = {
        "apiVersion": "meshbus.io/v1",
        "kind": "RolloutOptions",
        "spec": {"what": "ambient"},
    }
    with pytest.raises(OptionsMalformed, match="no rollout") as raised:
        parse_rollout(json.dumps(document))
    assert "istio-ambient" in raised.value.remedy


def test_the_record_goes_through_the_stages_of_ambient() -> None:
    record = asked(namespaces=["shop"], backTimeoutSeconds=60).record(
        RolloutRecord(rollout="one", title="shop", parts={"a": RolloutPart(cluster="a")})
    )
    assert (record.kind, record.is_rollout) == ("istio-ambient", False)
    options = RolloutOptions.model_validate(record.options)
    assert options.back_timeout_s == 60
    decided = decide(record, options, Seen(now=record.begun))
    assert decided.stage is Stage.GATHERING


# --- labels ---------------------------------------------------------------------------------------


def test_a_namespace_is_labelled_itself() -> None:
    request = asked(namespaces=["shop"], waypoint={})
    assert labelled(request, sight(space("shop"))) == {
        "Namespace shop": {MODE: "ambient", USE: "waypoint"}
    }
    there = space("shop", **{MODE: "ambient", USE: "waypoint"})
    assert labelled(request, sight(there)) == {}


def test_a_shared_waypoint_is_named_with_its_namespace() -> None:
    request = asked(namespaces=["shop", "edge"], waypoint={"namespace": "edge"})
    assert request.homes() == ["edge"]
    found = labelled(request, sight(space("shop"), space("edge")))
    assert found["Namespace shop"] == {MODE: "ambient", USE: "waypoint", USE_NAMESPACE: "edge"}
    assert found["Namespace edge"] == {MODE: "ambient", USE: "waypoint"}
    assert request.options.waypoint is not None
    [listener] = gateway(request, request.options.waypoint, "edge")["spec"]["listeners"]
    assert listener["allowedRoutes"] == {"namespaces": {"from": "All"}}


def test_a_service_means_the_workloads_behind_it() -> None:
    seen = sight(
        space("shop"),
        services={service("shop", "web"): {"metadata": {}, "spec": {"selector": {"app": "web"}}}},
        workloads={
            deployment("shop", "web"): workload("web"),
            deployment("shop", "other"): workload("other"),
        },
    )
    request = asked(services=[{"namespace": "shop", "name": "web"}], waypoint={"name": "w"})
    assert labelled(request, seen) == {
        "Service web": {USE: "w"},
        "Deployment web": {MODE: "ambient"},
    }
    # All Services of a namespace, where they are bound one by one.
    request = asked(namespaces=["shop"], waypoint={"bind": "services"})
    assert labelled(request, seen) == {
        "Namespace shop": {MODE: "ambient"},
        "Service web": {USE: "waypoint"},
    }


@pytest.mark.parametrize(
    ("action", "of_space", "own", "wanted"),
    [
        ("enrol", {}, {}, {MODE: "ambient"}),
        ("enrol", {MODE: "ambient"}, {}, None),
        ("enrol", {MODE: "ambient"}, {MODE: "none"}, {MODE: None}),
        ("withdraw", {}, {MODE: "ambient"}, {MODE: None}),
        ("withdraw", {}, {}, None),
        ("withdraw", {MODE: "ambient"}, {}, {MODE: "none"}),
    ],
)
def test_a_workloads_own_label_goes_before_its_namespaces(
    action: str, of_space: dict[str, str], own: dict[str, str], wanted: dict[str, str] | None
) -> None:
    seen = sight(
        space("shop", **of_space), workloads={deployment("shop", "web"): workload("web", own)}
    )
    request = asked(action=action, workloads=[{"namespace": "shop", "name": "web"}])
    assert labelled(request, seen) == ({"Deployment web": wanted} if wanted else {})


def test_what_is_withdrawn_lets_go_of_that_waypoint_alone() -> None:
    seen = sight(
        space("shop", **{MODE: "ambient", USE: "w"}),
        services={
            service("shop", "web"): {"metadata": {"labels": {USE: "w"}}, "spec": {}},
            service("shop", "api"): {"metadata": {"labels": {USE: "another"}}, "spec": {}},
        },
    )
    request = asked(action="withdraw", namespaces=["shop"], waypoint={"name": "w"})
    assert labelled(request, seen) == {
        "Namespace shop": {MODE: None, USE: None},
        "Service web": {USE: None},
    }


def test_a_target_that_is_not_there_is_told() -> None:
    with pytest.raises(MeshbusError, match="is not there"):
        changes(asked(workloads=[{"namespace": "shop", "name": "web"}]), sight(space("shop")))


def test_a_change_is_undone_where_nobody_has_changed_it_since() -> None:
    change = Change(Ref("v1", "Namespace", "", "shop"), {MODE: "ambient"}, {MODE: None}, "1")
    assert Change.of(change.document()) == change
    live = {"metadata": {"labels": {MODE: "ambient", "team": "a"}}}
    assert standing(live, change.former, change.patch) is Standing.CHANGED
    assert reverse(change.former, change.patch) == {"metadata": {"labels": {MODE: None}}}
    live["metadata"]["labels"][MODE] = "none"
    assert standing(live, change.former, change.patch) is Standing.EDITED
    of_template = Change(
        deployment("shop", "web"), {MODE: "ambient"}, {MODE: "none"}, path=OF_TEMPLATE
    )
    assert of_template.patch == {"spec": {"template": {"metadata": {"labels": {MODE: "ambient"}}}}}


# --- prechecks ------------------------------------------------------------------------------------


def test_what_cannot_be_enrolled_is_refused() -> None:
    request = asked(namespaces=["shop"], waypoint={})
    require(PLANE, request, sight(space("shop")))
    for labels in ({"istio-injection": "enabled"}, {"istio.io/rev": "stable"}):
        with pytest.raises(PrecheckRefused, match="asks for sidecars"):
            require(PLANE, request, sight(space("shop", **labels)))
    with pytest.raises(PrecheckRefused, match="left out"):
        require(PLANE, asked(namespaces=["istio-system"]), sight(space("istio-system")))
    without = Plane(PLANE.version, PLANE.namespace, PLANE.agents, has_gateways=False)
    with pytest.raises(KindUnknown):
        require(without, request, sight(space("shop")))
    require(without, asked(namespaces=["shop"]), sight(space("shop")))
    # What goes out of ambient needs none of it.
    nothing = Plane("", "istio-system", {"ztunnel": None}, has_gateways=False)
    require(nothing, asked(action="withdraw", namespaces=["shop"]), sight(space("shop")))


def test_a_data_plane_says_what_it_lacks() -> None:
    assert PLANE.missing() == []
    late = {**PLANE.agents["ztunnel"], "status": {**READY, "numberAvailable": 0}}  # type: ignore[dict-item]
    lacking = Plane("1.23.0", "istio-system", {"istio-cni": None, "ztunnel": late}, False)
    assert [text.split(":")[0] for text in lacking.missing()] == [
        "istio-cni is not there",
        "ztunnel is not ready",
        "Istio 1.23.0 is older than 1.24.0",
    ]


def test_a_gateway_that_is_another_one_is_left_alone() -> None:
    request = asked(namespaces=["shop"], waypoint={"for": "all"})
    assert request.options.waypoint is not None
    own = gateway(request, request.options.waypoint, "shop")
    ref = ref_of("shop", "waypoint")
    against_waypoint(request, {})
    against_waypoint(request, {ref: own})
    for other in (
        {**own, "spec": {"gatewayClassName": "istio"}},
        {**own, "metadata": {"labels": {}}},
    ):
        with pytest.raises(PrecheckRefused, match="is there and is"):
            against_waypoint(request, {ref: other})


def test_a_waypoint_that_admits_no_others_is_not_shared() -> None:
    alone = asked(namespaces=["edge"], waypoint={"namespace": "edge"})
    shared = asked(namespaces=["shop"], waypoint={"namespace": "edge"})
    assert alone.options.waypoint is not None
    ref = ref_of("edge", "waypoint")
    own = gateway(alone, alone.options.waypoint, "edge")
    with pytest.raises(PrecheckRefused, match="its own namespace alone"):
        against_waypoint(shared, {ref: own})
    against_waypoint(shared, {ref: gateway(shared, alone.options.waypoint, "edge")})


def test_what_will_not_be_captured_is_told() -> None:
    seen = sight(
        space("shop"),
        workloads={
            deployment("shop", "agent"): workload("agent", spec={"hostNetwork": True}),
            deployment("shop", "old"): workload("old", {"sidecar.istio.io/inject": "true"}),
            deployment("shop", "out"): workload("out", {MODE: "none"}),
            deployment("shop", "web"): workload("web"),
        },
    )
    request = asked(namespaces=["shop"])
    told = list(warnings(request, seen, changes(request, seen)))
    assert [text.split()[1] for text in told] == ["shop/agent", "shop/old", "shop/out"]


# --- waypoints ------------------------------------------------------------------------------------


def test_labels_say_which_waypoint_is_used() -> None:
    assert used_by({USE: "w"}, "shop") == ref_of("shop", "w")
    assert used_by({USE: "w", USE_NAMESPACE: "edge"}, "shop") == ref_of("edge", "w")
    assert used_by({USE: "none"}, "shop") is None


def test_a_gateway_is_ready_when_it_is_programmed_as_it_is_now() -> None:
    obj = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "w", "namespace": "shop", "generation": 2},
        "status": {"conditions": []},
    }
    assert not is_ready(obj)
    condition = {"type": "Programmed", "status": "True", "observedGeneration": 1}
    obj["status"] = {"conditions": [condition]}
    assert not is_ready(obj)
    condition["observedGeneration"] = 2
    assert is_ready(obj)
