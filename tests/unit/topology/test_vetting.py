"""The seven vetters: what each says where it has something to say, and where it has not."""

from __future__ import annotations

import json

import pytest

from services.topology.analysis.findings import Level
from services.topology.analysis.vetting import VETTERS, Note, notes, summary
from services.topology.cluster.state import State
from tests.unit.topology.analysis.kia.cases import (
    NETWORKING,
    WITH_PROXY,
    analysis_of,
    deployment,
    one,
    pod,
    service,
    space,
)

OWNED = "[{controller: true, apiVersion: apps/v1, kind: ReplicaSet, name: a-x}]"
HASHED = "{app: a, pod-template-hash: x}"
ISTIOD = pod(
    "istiod",
    "{app: istiod}",
    containers="[{name: discovery, image: 'registry:5000/pilot:1.31.0'}]",
    namespace="istio-system",
)
MESHED = pod("a-1", "{app: a}", containers=WITH_PROXY)


def notes_of(text: str) -> list[Note]:
    analysis = analysis_of(text)
    return notes(analysis.state, analysis.findings)


def said(text: str, vetter: str) -> list[Note]:
    return [note for note in notes_of(text) if note.vetter == vetter]


def test_pods_are_counted_by_whose_they_are() -> None:
    ended = MESHED.replace("a-1", "done") + "status: {phase: Succeeded}\n"
    ztunnel = pod("zt", "{app: ztunnel}", containers=WITH_PROXY)
    captured = pod("b", "{app: b}", annotations="{ambient.istio.io/redirection: enabled}")
    text = MESHED + captured + ended + ztunnel + ISTIOD + pod("x", "{}", namespace="kube-system")
    user, system = said(text, "podsinmesh")
    assert (user.type, user.text) == ("user-pod-count", "2 of 3 user pods are in the mesh")
    assert system.type == "system-pod-count"
    assert system.text.startswith("2 pods")
    assert {user.level, system.level} == {Level.INFO}


def test_a_proxy_of_another_version_than_any_control_plane_is_told_once_per_workload() -> None:
    old = "[{name: istio-proxy, image: 'p:1.30.1'}, {name: istio-init, image: 'p:1.30.0'}]"
    made = "".join(
        pod(name, HASHED, containers=old, ownerReferences=OWNED) for name in ("a-x-1", "a-x-2")
    )
    sidecar, init = said(ISTIOD + made, "meshversion")
    assert (sidecar.type, init.type) == ("sidecar-image-mismatch", "init-image-mismatch")
    assert str(sidecar.object) == "Deployment default/a"
    assert "1.30.1" in sidecar.text
    assert "1.31.0" in sidecar.text
    assert said(ISTIOD + MESHED, "meshversion") == []
    assert said(made, "meshversion") == []


def test_mesh_pods_without_an_app_label_are_told() -> None:
    nameless = pod("n", "{tier: web}", containers=WITH_PROXY)
    (found,) = said(nameless + MESHED + pod("out", "{}"), "applabel")
    assert (found.type, found.level) == ("missing-app-label", Level.WARNING)
    assert str(found.object) == "Pod default/n"


def test_ports_without_a_protocol_are_told_of_services_in_the_mesh() -> None:
    bad = service("a", "[{name: web, port: 80}, {port: 81}, {name: grpc-web, port: 82}]")
    outside = service("b", "[{name: web, port: 80}]") + pod("b", "{app: b}")
    found = said(MESHED + bad + outside, "serviceportprefix")
    assert [str(note.object) for note in found] == ["Service default/a"] * 2
    assert "port 80 (web)" in found[0].text
    assert "port 81 without a name" in found[1].text
    assert {note.type for note in found} == {"missing-service-port-prefix"}


@pytest.mark.parametrize(("name", "level"), [("tcp", Level.ERROR), ("http", Level.INFO)])
def test_two_services_on_a_pod_are_an_error_with_two_protocols_for_a_port(
    name: str, level: Level
) -> None:
    other = service("b", f"[{{name: {name}, port: 81, targetPort: 8080}}]", "{app: a}")
    (found,) = said(MESHED + service("a") + other, "serviceassociation")
    assert (found.type, found.level) == ("multiple-service-association", level)
    assert "a, b" in found.text
    assert ("8080" in found.text) == (level is Level.ERROR)
    assert said(MESHED + service("a"), "serviceassociation") == []


def test_routes_to_unknown_hosts_are_told_once_each() -> None:
    spec = (
        "{hosts: [a], http: [{route: [{destination: {host: gone}}, {destination: {host: a}}]},"
        " {route: [{destination: {host: gone}}]},"
        " {route: [{destination: {host: x.example.com}}]}]}"
    )
    known = service("a") + one(NETWORKING, "ServiceEntry", "se", "{hosts: ['*.example.com']}")
    (found,) = said(
        known + one(NETWORKING, "VirtualService", "vs", spec), "danglingroutedestinationhost"
    )
    assert (found.type, found.level) == ("dangling-route-destination", Level.ERROR)
    assert "gone" in found.text


def test_a_host_in_several_virtual_services_is_told_once() -> None:
    def route(name: str, spec: str, **metadata: str) -> str:
        return one(NETWORKING, "VirtualService", name, spec, **metadata)

    text = (
        route("one", "{hosts: [a], gateways: [mesh, gw]}")
        + route(
            "two",
            "{hosts: [a.default.svc.cluster.local], gateways: [mesh, default/gw]}",
            namespace="x",
        )
        + route("three", "{hosts: [a], gateways: [other]}")
    )
    (found,) = said(text, "conflictingvirtualservicehost")
    assert (found.type, found.level) == ("host-in-multiple-vs", Level.ERROR)
    assert "default/one, x/two" in found.text
    assert "three" not in found.text


def test_an_empty_cluster_gets_an_answer_of_every_vetter() -> None:
    told = summary(notes(State("c1"), ()))
    assert [line["vetter"] for line in told] == list(VETTERS)
    assert told[0]["notes"] == {"info": 2}
    assert {line["text"].partition(": ")[2] for line in told[1:]} == {"nothing to tell"}


def test_notes_travel_as_json() -> None:
    text = MESHED + service("a", "[{port: 80}]") + deployment("a") + space("default")
    found = notes_of(text)
    back = json.loads(json.dumps([note.as_json() for note in found]))
    assert back[0]["object"] is None
    assert back[-1] == {
        "vetter": "serviceportprefix",
        "type": "missing-service-port-prefix",
        "level": "info",
        "object": {"kind": "/Service", "namespace": "default", "name": "a"},
        "text": found[-1].text,
        "codes": ["IST0118", "KIA0601"],
    }
    assert back[0]["codes"] == []
