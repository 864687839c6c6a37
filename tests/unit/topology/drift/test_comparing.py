"""What is drift, and what is not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from services.chassis.kube.defaults import added
from services.chassis.kube.objects import KubeObject
from services.topology.drift.comparing import DriftKind, Standing, compared
from tests.unit.topology.drift.worlds import (
    HTTP_GONE,
    ROUTE,
    ROUTE_FIELDS,
    T0,
    T1,
    edited,
    entry,
    intent,
    live,
    own,
    route,
)

Fields = dict[str, Any]
KEPT = intent(ROUTE, ROUTE_FIELDS)
HTTP: Fields = {"f:spec": {"f:http": {}}}
TEAM: Fields = {"f:metadata": {"f:labels": {"f:team": {}}}}
SPEC = {"f:spec": ROUTE_FIELDS["f:spec"]}


def told(obj: KubeObject, **changes: Any) -> list[tuple[str, Any, Any, str, str]]:
    verdict = compared(KEPT.model_copy(update=changes), obj)
    assert verdict.standing is Standing.DRIFTED, verdict
    return [
        (d.path, d.wanted, d.found, str(d.kind), str(d.owner.get("manager", "")))
        for d in verdict.differences
    ]


def test_an_edit_of_a_list_element() -> None:
    path = "spec.http[0].route[0].weight"
    assert told(edited(80)) == [(path, 90, 80, "changed", "kubectl-edit")]


def test_a_label_that_was_changed_and_one_that_was_removed() -> None:
    label = entry("kubectl-label", TEAM)
    assert told(live(route(team="b"), own(SPEC), label)) == [
        ("metadata.labels.team", "a", "b", "changed", "kubectl-label")
    ]
    other = entry("kubectl-annotate", {"f:metadata": {"f:annotations": {"f:x": {}}}})
    removed = live(route(team=None), own(SPEC), other)
    # Nobody holds what is gone; who wrote since is the one to ask.
    assert told(removed) == [("metadata.labels.team", "a", None, "removed", "kubectl-annotate")]


def test_a_takeover_by_an_apply_of_another_manager() -> None:
    taken = entry("flux", HTTP, operation="Apply")
    path = "spec.http[0].route[0].weight"
    found = compared(KEPT, live(route(weight=10), own(HTTP_GONE), taken))
    assert found.kind is DriftKind.TAKEOVER
    assert told(live(route(weight=10), own(HTTP_GONE), taken)) == [
        (path, 90, 10, "takeover", "flux")
    ]
    # With our value, too: it is the other one's to change now.
    assert [d.path for d in compared(KEPT, live(ROUTE, own(HTTP_GONE), taken)).differences] == [
        "spec.http"
    ]


def test_an_edit_that_was_taken_back_is_no_drift() -> None:
    assert compared(KEPT, edited(90)).standing is Standing.AS_APPLIED


def test_an_object_that_another_one_made_anew_is_compared_whole() -> None:
    made = entry("kubectl-create", ROUTE_FIELDS)
    found = told(live(route(weight=1, team=None), made, uid="u2", version="5"))
    assert {(path, kind) for path, _, _, kind, _ in found} == {
        ("metadata.labels.team", "removed"),
        ("spec.http[0].route[0].weight", "changed"),
    }
    assert compared(KEPT, live(ROUTE, made, uid="u2")).standing is Standing.AS_APPLIED


@pytest.mark.parametrize(
    ("obj", "standing"),
    [
        (live(ROUTE, own(ROUTE_FIELDS)), Standing.AS_APPLIED),
        # What others add is not ours.
        (
            live(ROUTE, own(ROUTE_FIELDS), entry("x", {"f:spec": {"f:exportTo": {}}})),
            Standing.AS_APPLIED,
        ),
        # Before the intent.
        (live(route(weight=1), own({}), version="9"), Standing.OUTDATED),
        # A later apply of ours, which left the label out.
        (live(route(team=None), own(SPEC, time=T1)), Standing.APPLIED_AGAIN),
        # Deleted and applied again by ourselves.
        (live(route(team=None), own(SPEC), uid="u2", version="5"), Standing.APPLIED_AGAIN),
        # Within one second nobody can tell by the time whose doing it was.
        (live(route(team=None), own(SPEC)), Standing.UNSURE),
        # Someone wrote since, but only one who always does.
        (
            live(route(team=None), own(SPEC), entry("pilot-discovery", {"f:x": {}})),
            Standing.UNSURE,
        ),
        # Someone wrote, but before us.
        (
            live(route(team=None), own(SPEC), entry("x", {"f:x": {}}, time="2026-11-24T09:59:59Z")),
            Standing.UNSURE,
        ),
        (
            live(route(team=None), own(SPEC), entry("x", {"f:x": {}}, time=T0)),
            Standing.DRIFTED,
        ),
        # Our own patch of labels.
        (live(route(team="b"), own(SPEC), entry("meshbus", TEAM)), Standing.AS_APPLIED),
    ],
)
def test_standing(obj: KubeObject, standing: Standing) -> None:
    assert compared(KEPT, obj).standing is standing


@pytest.mark.parametrize("empty", [{}, None])
def test_what_others_put_into_a_map_that_was_sent_empty_is_theirs(empty: Any) -> None:
    fields: Fields = {"f:metadata": {"f:annotations": {}}}
    obj = copy.deepcopy(ROUTE)
    obj["metadata"]["annotations"] = empty
    now = copy.deepcopy(ROUTE)
    now["metadata"]["annotations"] = {"revision": "1"}
    theirs = entry("controller", {"f:metadata": {"f:annotations": {"f:revision": {}}}})
    verdict = compared(intent(obj, fields), live(now, own({}), theirs))
    assert verdict.standing is Standing.AS_APPLIED


def test_ignored_paths_may_change() -> None:
    for ignored in (["spec.http"], ["spec.http[*].route[*].weight"], ["other", "spec"]):
        kept = KEPT.model_copy(update={"ignored": ignored})
        assert compared(kept, edited()).standing is Standing.AS_APPLIED
    assert told(edited(), ignored=["spec.http[1]"])


WEBHOOK = 'k:{"name":"a.istio.io"}'


def webhook(kind: str, **fields: Any) -> KubeObject:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "istio"},
        "webhooks": [{"name": "a.istio.io", **fields}],
    }


@pytest.mark.parametrize(
    ("manager", "subresource", "is_drift"),
    [
        ("kube-controller-manager", "scale", False),
        ("kube-controller-manager", "", True),
        ("kubectl", "scale", True),
    ],
)
def test_replicas_belong_to_an_autoscaler_only(
    manager: str, subresource: str, is_drift: bool
) -> None:
    fields: Fields = {"f:spec": {"f:replicas": {}}}
    obj = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "istiod", "namespace": "istio-system"},
        "spec": {"replicas": 1},
    }
    scaled = obj | {"spec": {"replicas": 3}}
    who = entry(manager, fields, subresource=subresource)
    verdict = compared(intent(obj, fields), live(scaled, own({}), who))
    assert (verdict.standing is Standing.DRIFTED) is is_drift


@pytest.mark.parametrize(
    ("kind", "field", "manager", "is_drift"),
    [
        ("ValidatingWebhookConfiguration", "failurePolicy", "pilot-discovery", False),
        ("ValidatingWebhookConfiguration", "failurePolicy", "kubectl-edit", True),
        ("MutatingWebhookConfiguration", "failurePolicy", "pilot-discovery", True),
        ("ValidatingWebhookConfiguration", "sideEffects", "pilot-discovery", True),
    ],
)
def test_istiod_may_close_its_validator(
    kind: str, field: str, manager: str, is_drift: bool
) -> None:
    fields: Fields = {"f:webhooks": {WEBHOOK: {f"f:{field}": {}}}}
    kept = intent(webhook(kind, **{field: "Ignore"}), fields)
    verdict = compared(
        kept, live(webhook(kind, **{field: "Fail"}), own({}), entry(manager, fields))
    )
    assert (verdict.standing is Standing.DRIFTED) is is_drift
    if is_drift:
        assert [d.path for d in verdict.differences] == [f"webhooks[name=a.istio.io].{field}"]
    else:
        # A repair leaves it out.
        assert verdict.exempt == (("f:webhooks", WEBHOOK, f"f:{field}"),)


@pytest.mark.parametrize("kind", ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"])
@pytest.mark.parametrize(("manager", "is_drift"), [("pilot-discovery", False), ("evil", True)])
def test_istiod_may_set_its_authority(kind: str, manager: str, is_drift: bool) -> None:
    fields: Fields = {"f:webhooks": {WEBHOOK: {"f:clientConfig": {"f:caBundle": {}}}}}
    kept = intent(webhook(kind, clientConfig={"caBundle": ""}), fields)
    now = live(webhook(kind, clientConfig={"caBundle": "QQ=="}), own({}), entry(manager, fields))
    assert (compared(kept, now).standing is Standing.DRIFTED) is is_drift


@pytest.mark.parametrize("aggregated", [True, False])
def test_rules_of_an_aggregated_role_are_filled_by_kubernetes(aggregated: bool) -> None:
    fields: Fields = {"f:rules": {}}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "r"},
        "rules": [],
    }
    if aggregated:
        role["aggregationRule"] = {}
    taken = entry("clusterrole-aggregation-controller", fields, operation="Apply")
    now = live(role | {"rules": [{"verbs": ["get"]}]}, own({}), taken)
    assert (compared(intent(role, fields), now).standing is Standing.AS_APPLIED) is aggregated


def test_something_whole_that_is_gone_is_told_once() -> None:
    container = 'k:{"name":"b"}'
    fields: Fields = {
        "f:spec": {"f:containers": {container: {".": {}, "f:name": {}, "f:image": {}}}}
    }
    pod: KubeObject = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": "a"}, {"name": "b", "image": "i"}]},
    }
    now = live(pod | {"spec": {"containers": [{"name": "a"}]}}, own({}), entry("x", {"f:y": {}}))
    verdict = compared(intent(pod, fields), now)
    assert [(d.path, d.kind) for d in verdict.differences] == [
        ("spec.containers[name=b]", DriftKind.REMOVED)
    ]


BACKENDS = {"backendRefs": [{"name": "cart", "port": 80}]}
HTTP_ROUTE: KubeObject = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "cart", "namespace": "shop"},
    "spec": {"rules": [BACKENDS]},
}
RULES: Fields = {"f:spec": {"f:rules": {}}}
DEFAULTED = {
    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
    "backendRefs": [{"name": "cart", "port": 80, "kind": "Service", "weight": 1, "group": ""}],
}


def test_a_default_that_somebody_wrote_last_is_no_drift() -> None:
    answer = {**HTTP_ROUTE, "spec": {"rules": [DEFAULTED]}}
    kept = intent(
        HTTP_ROUTE,
        RULES,
        kind="gateway.networking.k8s.io/HTTPRoute",
        name="cart",
        defaults=added("gateway.networking.k8s.io/HTTPRoute", HTTP_ROUTE, answer),
    )
    edit = entry("kubectl-edit", RULES)
    # Edited and edited back: all of the list is somebody else's now, and has what we want.
    assert compared(kept, live(answer, edit)).standing is Standing.AS_APPLIED
    weighed = copy.deepcopy(answer)
    weighed["spec"]["rules"][0]["backendRefs"][0]["weight"] = 5
    found = compared(kept, live(weighed, edit))
    assert [(d.path, d.wanted, d.found) for d in found.differences] == [
        ("spec.rules[0].backendRefs[0].weight", None, 5)
    ]


def test_what_the_server_made_of_a_value_or_a_list_is_no_drift() -> None:
    sent: KubeObject = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"tolerations": [{"key": "own"}], "amount": "1000m"},
    }
    fields: Fields = {"f:spec": {"f:tolerations": {}, "f:amount": {}}}
    made = copy.deepcopy(sent)
    made["spec"] = {"tolerations": [{"key": "own"}, {"key": "admitted"}], "amount": "1"}
    kept = intent(sent, fields, kind="/Pod", defaults=added("/Pod", sent, made))
    edit = entry("kubectl-edit", fields)
    assert compared(kept, live(made, edit)).standing is Standing.AS_APPLIED
    made["spec"] = {"tolerations": [*made["spec"]["tolerations"], {"key": "new"}], "amount": "2"}
    found = compared(kept, live(made, edit))
    assert [(d.path, d.wanted, d.found) for d in found.differences] == [
        ("spec.amount", "1000m", "2"),
        ("spec.tolerations[2]", None, '{"key":"new"}'),
    ]


def test_an_item_of_a_list_with_several_keys_is_found_by_all_of_them() -> None:
    ports = [
        {"name": "dns-tcp", "port": 53, "targetPort": 5353},
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
    ]
    keys = [f'k:{{"port":53,"protocol":"{protocol}"}}' for protocol in ("TCP", "UDP")]
    fields: Fields = {"f:spec": {"f:ports": {key: {"f:targetPort": {}} for key in keys}}}
    sent: KubeObject = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "dns", "namespace": "shop"},
        "spec": {"ports": ports},
    }
    kept = intent(sent, fields, kind="/Service", name="dns")
    other = copy.deepcopy(sent)
    other["spec"]["ports"][0]["protocol"] = "TCP"
    other["spec"]["ports"][1]["targetPort"] = 5353
    mine: Fields = {"f:spec": {"f:ports": {keys[0]: {"f:targetPort": {}}}}}
    theirs: Fields = {"f:spec": {"f:ports": {keys[1]: {"f:targetPort": {}}}}}
    found = compared(kept, live(other, own(mine), entry("kubectl-patch", theirs)))
    assert [(d.path, d.wanted, d.found) for d in found.differences] == [
        ("spec.ports[port=53,protocol=UDP].targetPort", 53, 5353)
    ]
