"""One look-up of hosts and one answer to what is in the mesh, whoever asks."""

from __future__ import annotations

import pytest

from services.topology.cluster import hosts, kinds
from services.topology.cluster.state import State
from services.topology.mesh import paths
from services.topology.mesh.membership import is_in_mesh, is_meant_for_mesh
from services.topology.mesh.registry import destination, entries_of
from tests.unit.topology.analysis.kia.cases import (
    NETWORKING,
    WITH_PROXY,
    analysis_of,
    of_code,
    one,
    pod,
    service,
    space,
    state_of,
)

_NARROW = one(NETWORKING, "ServiceEntry", "narrow", "{hosts: ['*.a.example.com']}")
_WIDE = one(NETWORKING, "ServiceEntry", "wide", "{hosts: ['*.example.com']}")
_HIDDEN = one(NETWORKING, "ServiceEntry", "hidden", "{hosts: [b.com], exportTo: [other]}")
_OWN = service("own", annotations="{networking.istio.io/exportTo: .}", namespace="prod")
_MESH = service("reviews") + service("reviews", namespace="prod") + _NARROW + _WIDE + _HIDDEN + _OWN


def _state() -> State:
    return state_of(_MESH)[0]


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("reviews", "default/reviews"),
        ("reviews.prod.svc.cluster.local", "prod/reviews"),
        ("reviews.prod.svc.cluster.locl", ""),
        ("reviews.prod.svc", ""),
        ("reviews.prod", ""),
        ("own.prod.svc.cluster.local", ""),
        ("x.a.example.com", "default/narrow"),
        ("x.b.example.com", "default/wide"),
        ("*.a.example.com", "default/narrow"),
        ("b.com", ""),
        ("", ""),
    ],
)
def test_a_host_means_the_same_to_rules_paths_and_routes(host: str, found: str) -> None:
    state = _state()
    target = destination(state, host, "default")
    objects = [target.service or target.entries[0]] if target is not None else []
    assert [f"{one.namespace}/{one.name}" for one in objects] == ([found] if found else [])
    if host:
        route = f"{{hosts: [x.com], http: [{{route: [{{destination: {{host: '{host}'}}}}]}}]}}"
        text = _MESH + one(NETWORKING, "VirtualService", "vs", route)
        told = of_code(analysis_of(text).findings, "IST0101")
        assert [finding.message for finding in told] == (
            [] if found else [f"The host {host} was not found."]
        )


def test_a_question_for_a_path_may_use_the_names_that_a_resolver_completes() -> None:
    """Configuration may not: Istio takes `reviews.prod.svc` for a name outside the cluster."""
    for host in ("reviews.prod", "reviews.prod.svc", "reviews.prod.svc.cluster.local"):
        told = paths.explain(_state(), source=None, host=host, namespace="default", port=None)
        assert told["host"] == "reviews.prod.svc.cluster.local"
        assert hosts.expanded(host, "default") == host


def test_hidden_services_and_entries_are_found_where_they_are_exported_to() -> None:
    state = _state()
    assert destination(state, "own", "prod") is not None
    assert destination(state, "b.com", "other") is not None
    assert destination(state, "b.com", "default", export_to=["other"]) is not None
    assert [entry.name for entry in entries_of(state, "b.com")] == ["hidden"]


@pytest.mark.parametrize(
    ("text", "is_in", "is_meant"),
    [
        (pod("a", "{app: a}"), False, False),
        (pod("a", "{app: a}", containers=WITH_PROXY), True, True),
        (pod("a", "{app: ztunnel}", containers=WITH_PROXY), False, False),
        (pod("a", "{}", annotations="{ambient.istio.io/redirection: enabled}"), True, True),
        (pod("a", "{sidecar.istio.io/inject: 'true'}"), False, True),
        (space("default", "{istio-injection: enabled}") + pod("a", "{}"), False, True),
        (space("default", "{istio.io/rev: canary}") + pod("a", "{}"), False, True),
        (space("default", "{istio.io/dataplane-mode: ambient}") + pod("a", "{}"), False, True),
        (
            space("default", "{istio-injection: enabled}")
            + pod("a", "{sidecar.istio.io/inject: 'false'}"),
            False,
            False,
        ),
    ],
)
def test_pods_are_in_the_mesh_or_meant_for_it(text: str, is_in: bool, is_meant: bool) -> None:
    state = state_of(text)[0]
    (runs,) = state.all(kinds.POD)
    spaces = list(state.all(kinds.NAMESPACE))
    assert is_in_mesh(runs) is is_in
    assert is_meant_for_mesh(runs, spaces[0].labels if spaces else {}) is is_meant
