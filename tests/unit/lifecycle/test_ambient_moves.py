"""The report of a move from sidecars to ambient, and what of it a waypoint takes over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chassis.errors import OptionsMalformed
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import Verb
from services.lifecycle.ambient.attaching import attachments, copy_of, widening
from services.lifecycle.ambient.changes import Sight
from services.lifecycle.ambient.options import AmbientRequest, parse_ambient
from services.lifecycle.ambient.reports import Effect, Row, Scene, report
from services.lifecycle.rollouts.deciding import Seen, decide
from services.lifecycle.rollouts.moving import former_labels
from services.lifecycle.rollouts.options import RolloutOptions
from services.lifecycle.rollouts.records import PartRecord, RolloutPart, RolloutRecord, RolloutStep

SECURITY, NETWORKING = "security.istio.io/v1", "networking.istio.io/v1"
TLS_MODE = "security.istio.io/tlsMode"
PATHS = {"rules": [{"to": [{"operation": {"paths": ["/pay"]}}]}]}
CALLERS = {"rules": [{"from": [{"source": {"namespaces": ["pay"]}}]}]}
OF_WEB = {"selector": {"matchLabels": {"app": "web"}}}


def asked(**spec: Any) -> AmbientRequest:
    document = {
        "apiVersion": "meshbus.io/v1",
        "kind": "AmbientOptions",
        "spec": {"action": "move", "namespaces": ["shop"], **spec},
    }
    return parse_ambient(json.dumps(document))


def workload(
    name: str, labels: dict[str, str] | None = None, *, spec: dict[str, Any] | None = None
) -> KubeObject:
    template = {"metadata": {"labels": {"app": name, **(labels or {})}}, "spec": spec or {}}
    return {"metadata": {"name": name, "uid": name}, "spec": {"template": template}}


def scene(*objects: tuple[str, str, dict[str, Any]], **sight: Any) -> Scene:
    """Objects of namespace shop, or of `namespace/name`, with workload and Service `web`."""
    found = {}
    for api_version, kind, spec in objects:
        place, _, name = str(spec.pop("name", "one")).rpartition("/")
        ref = Ref(api_version, kind, place or "shop", name)
        found[ref] = {"kind": kind, "metadata": {"name": name, "uid": name}, "spec": spec}
    seen: dict[str, Any] = {
        "services": {
            Ref("v1", "Service", "shop", "web"): {
                "metadata": {},
                "spec": {"selector": {"app": "web"}},
            }
        },
        "workloads": {Ref("apps/v1", "Deployment", "shop", "web"): workload("web")},
        **sight,
    }
    return Scene(Sight({"shop": {"metadata": {"name": "shop"}}}, **seen), found)


def told(request: AmbientRequest, seen: Scene) -> list[tuple[str, str]]:
    return [(row.ref.kind, row.effect.value) for row in report(request, seen)]


@pytest.mark.parametrize(
    ("api_version", "kind", "spec", "alone", "with_waypoint"),
    [
        (SECURITY, "AuthorizationPolicy", PATHS, "lost", "lost"),
        (SECURITY, "AuthorizationPolicy", {**PATHS, "targetRefs": [{"name": "web"}]}, "", ""),
        (SECURITY, "AuthorizationPolicy", {"action": "CUSTOM"}, "lost", "lost"),
        # Behind a waypoint the caller is the waypoint.
        (SECURITY, "AuthorizationPolicy", CALLERS, "", "lost"),
        (SECURITY, "AuthorizationPolicy", {}, "", ""),
        (SECURITY, "RequestAuthentication", OF_WEB, "lost", "lost"),
        (SECURITY, "PeerAuthentication", {"mtls": {"mode": "STRICT"}}, "", ""),
        (SECURITY, "PeerAuthentication", {"mtls": {"mode": "DISABLE"}}, "changed", "changed"),
        (
            SECURITY,
            "PeerAuthentication",
            {"portLevelMtls": {"80": {"mode": "DISABLE"}}},
            "changed",
            "changed",
        ),
        (NETWORKING, "VirtualService", {"http": [{}]}, "lost", ""),
        (NETWORKING, "VirtualService", {"http": [{}], "gateways": ["edge"]}, "", ""),
        (NETWORKING, "VirtualService", {"tcp": [{}]}, "", ""),
        (NETWORKING, "DestinationRule", {"subsets": [{"name": "v1"}]}, "lost", ""),
        (
            NETWORKING,
            "DestinationRule",
            {"trafficPolicy": {"tls": {"mode": "DISABLE"}}},
            "changed",
            "changed",
        ),
        (NETWORKING, "DestinationRule", {}, "", ""),
        (NETWORKING, "EnvoyFilter", {}, "lost", "lost"),
        (NETWORKING, "Sidecar", {}, "changed", "changed"),
        (NETWORKING, "ProxyConfig", {}, "changed", "changed"),
        ("telemetry.istio.io/v1", "Telemetry", {"tracing": [{}]}, "changed", "changed"),
        ("extensions.istio.io/v1alpha1", "WasmPlugin", OF_WEB, "lost", "lost"),
        (
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            {"parentRefs": [{"kind": "Service", "name": "web"}]},
            "lost",
            "",
        ),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", {"parentRefs": [{"name": "edge"}]}, "", ""),
    ],
)
def test_a_report_knows_what_a_ztunnel_does_not_read(
    api_version: str, kind: str, spec: dict[str, Any], alone: str, with_waypoint: str
) -> None:
    for request, effect in ((asked(), alone), (asked(waypoint={}), with_waypoint)):
        expected = [(kind, effect)] if effect else []
        assert told(request, scene((api_version, kind, dict(spec)))) == expected


def test_only_what_is_about_all_counts_in_the_meshs_namespace() -> None:
    routes: tuple[str, str, dict[str, Any]]
    routes = (NETWORKING, "VirtualService", {"name": "istio-system/one", "http": [{}]})
    policy = (SECURITY, "AuthorizationPolicy", {"name": "istio-system/one", **PATHS})
    assert told(asked(), scene(routes, policy)) == [("AuthorizationPolicy", "lost")]


@pytest.mark.parametrize(
    ("template", "effect"),
    [
        (workload("web"), None),
        (workload("web", {"sidecar.istio.io/inject": "true"}), "lost"),
        (workload("web", {"istio.io/dataplane-mode": "none"}), "lost"),
        (workload("web", spec={"hostNetwork": True}), "changed"),
        (workload("web", {"traffic.sidecar.istio.io/excludeInboundPorts": "1"}), "changed"),
    ],
)
def test_a_report_looks_at_templates(template: KubeObject, effect: str | None) -> None:
    ref = Ref("apps/v1", "Deployment", "shop", "web")
    rows = report(asked(), scene(workloads={ref: template}))
    assert [row.effect.value for row in rows] == ([effect] if effect else [])


def test_headless_services_go_past_a_waypoint() -> None:
    headless = {"metadata": {}, "spec": {"clusterIP": "None", "selector": {"app": "web"}}}
    seen = scene(services={Ref("v1", "Service", "shop", "web"): headless})
    assert told(asked(), seen) == []
    assert told(asked(waypoint={}), seen) == [("Service", "changed")]


# --- attaching ------------------------------------------------------------------------------------


def _attached(seen: Scene) -> tuple[list[Any], list[Row]]:
    request = asked(waypoint={"name": "w"}, policies="attach")
    assert request.options.waypoint is not None
    return attachments(report(request, seen), seen, request.options.waypoint)


def test_a_policy_by_labels_is_attached_to_the_services_that_it_meant() -> None:
    seen = scene((SECURITY, "AuthorizationPolicy", {"action": "ALLOW", **PATHS, **OF_WEB}))
    [made], left = _attached(seen)
    assert left == []
    assert made.copy["spec"] == {
        "action": "ALLOW",
        **PATHS,
        "targetRefs": [{"group": "", "kind": "Service", "name": "web"}],
    }
    assert copy_of(made.copy) == "one"
    assert made.narrowing.patch == {"spec": {"selector": {"matchLabels": {TLS_MODE: "istio"}}}}
    # The way back takes away what narrowed it, and nothing else.
    live = {
        "metadata": {"uid": "one"},
        "spec": {"selector": {"matchLabels": {"app": "web", TLS_MODE: "istio"}}},
    }
    widened = widening(made.ref, live)
    assert widened is not None
    assert widened.patch == {"spec": {"selector": {"matchLabels": {TLS_MODE: None}}}}
    assert widening(made.ref, seen.objects[made.ref]) is None


def test_a_policy_for_the_namespace_is_attached_to_the_waypoint() -> None:
    [made], _ = _attached(scene((SECURITY, "AuthorizationPolicy", dict(PATHS))))
    [target] = made.copy["spec"]["targetRefs"]
    assert (target["kind"], target["name"]) == ("Gateway", "w")


@pytest.mark.parametrize("also", ["a service of others too", "a workload behind none"])
def test_a_policy_that_services_cannot_say_is_left_to_people(also: str) -> None:
    objects = (SECURITY, "AuthorizationPolicy", {**PATHS, **OF_WEB})
    web, other = (Ref("apps/v1", "Deployment", "shop", name) for name in ("web", "other"))
    if also == "a service of others too":
        of_all = {"metadata": {}, "spec": {"selector": {"tier": "1"}}}
        seen = scene(
            objects,
            services={Ref("v1", "Service", "shop", "all"): of_all},
            workloads={
                web: workload("web", {"tier": "1"}),
                other: workload("other", {"tier": "1"}),
            },
        )
        # It means the other workload as well, which the policy does not.
        assert len(seen.sight.behind(Ref("v1", "Service", "shop", "all"))) == 2
    else:
        seen = scene(objects, services={})
    made, left = _attached(seen)
    assert made == []
    assert [row.effect for row in left] == [Effect.LOST]


def test_a_copy_takes_nobodys_place() -> None:
    seen = scene(
        (SECURITY, "AuthorizationPolicy", {**PATHS, **OF_WEB}),
        (SECURITY, "AuthorizationPolicy", {"name": "one-waypoint", "targetRefs": [{}]}),
    )
    made, left = _attached(seen)
    assert (made, len(left)) == ([], 1)


def test_what_asks_an_authorizer_and_filters_stay_lost() -> None:
    seen = scene(
        (SECURITY, "AuthorizationPolicy", {"action": "CUSTOM", **OF_WEB}),
        (NETWORKING, "EnvoyFilter", {}),
    )
    made, left = _attached(seen)
    assert (made, len(left)) == ([], 2)


# --- the request ----------------------------------------------------------------------------------


def test_a_move_is_about_namespaces() -> None:
    for wrong in (
        {"services": [{"namespace": "shop", "name": "web"}]},
        {"policies": "attach"},
        {"action": "enrol", "dryRun": True},
    ):
        with pytest.raises(OptionsMalformed):
            asked(**wrong)
    document = {
        "apiVersion": "meshbus.io/v1",
        "kind": "AmbientOptions",
        "spec": {"action": "move", "namespaces": ["shop"], "dryRun": True},
    }
    back = parse_ambient(json.dumps(document), verb=Verb.DELETE)
    assert (back.options.action, back.options.dry_run) == ("back", False)


def test_a_report_ends_after_its_first_step() -> None:
    record = asked(dryRun=True).record(
        RolloutRecord(rollout="one", title="t", parts={"a": RolloutPart(cluster="a")})
    )
    options = RolloutOptions.model_validate(record.options)
    part = PartRecord(rollout="one", cluster="a", expires=record.begun)
    record = record.model_copy(update={"expires": None})
    decided = decide(record, options, Seen(now=record.begun, parts={"a": part}))
    assert decided.parts["a"].step is RolloutStep.PRECHECK
    answer = part.model_copy(update={"number": decided.parts["a"].number})
    decided = decide(
        decided.model_copy(update={"expires": None}),
        options,
        Seen(now=record.begun, parts={"a": answer}),
    )
    assert decided.parts["a"].step is RolloutStep.END
    assert not decided.parts["a"].is_changed


def test_a_note_brings_all_labels_back_that_it_has() -> None:
    note = {"istio-injection": "enabled", "istio.io/dataplane-mode": None, "rollout": "r"}
    namespace = {"metadata": {"name": "shop", "annotations": {"note": json.dumps(note)}}}
    assert former_labels(namespace, note="note") == {
        "istio-injection": "enabled",
        "istio.io/dataplane-mode": None,
    }
