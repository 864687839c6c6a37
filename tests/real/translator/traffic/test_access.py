"""TrafficTargets, enforced by the destination's sidecar on real certificates.

SMI conformance suites traffic-access and traffic-specs, and more. `service-a` is the client that is
let in, `service-b` the destination; whoever else calls, and whatever else is called, is denied.
"""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.kube.objects import KubeObject
from services.translator.intents import policies
from tests.real.translator.traffic.guards import NAMESPACE, Guard
from tests.real.translator.traffic.meshes import Mesh
from tests.real.translator.traffic.translated import Translated
from tests.testbed import entries, smi
from tests.testbed.visitors import Answer, Request, Visitor

_A = (NAMESPACE, "service-a")
_DENIED = Answer(403, "RBAC: access denied")
_CLOSED = Answer(0)
_B, _C = "service-b", "service-c"
_ALLOWED = Answer(200, _B)


@pytest.fixture
def a(mesh: Mesh, guards: dict[str, Guard]) -> Visitor:
    """service-a at the first port of service-b."""
    return mesh.visitor(guards[_B].port, "service-a")


@pytest.fixture
def c(mesh: Mesh, guards: dict[str, Guard]) -> Visitor:
    """service-c at the first port of service-b."""
    return mesh.visitor(guards[_B].port, "service-c")


def _any_tcp(*ports: int) -> KubeObject:
    return smi.tcp_route(NAMESPACE, "tcp", *ports)


def _group(*matches: dict[str, Any]) -> KubeObject:
    return smi.route_group(NAMESPACE, "http", *matches)


# ---- traffic-access ------------------------------------------------------------------------------


def test_nobody_is_let_in_by_deny_all(
    mesh: Mesh, guards: dict[str, Guard], a: Visitor, c: Visitor
) -> None:
    assert a.ask(Request()) == _ALLOWED  # as long as nothing is said

    entries.apply(mesh.cluster, [policies.deny_all(namespace=NAMESPACE)])
    mesh.policies.wait()

    assert a.ask(Request()) == _DENIED
    assert c.ask(Request()) == _DENIED
    assert mesh.visitor(guards[_C].port, "service-a").ask(Request()) == _DENIED
    assert mesh.visitor(guards[_B].tcp_port, "service-a").say("let me in") == _CLOSED


def test_target_lets_its_source_in_and_nobody_else(
    mesh: Mesh, guards: dict[str, Guard], access: Translated, a: Visitor, c: Visitor
) -> None:
    tcp = _any_tcp()
    access.apply(tcp, smi.target(NAMESPACE, tcp, source=_A))

    assert a.ask(Request(path="/call")) == _ALLOWED
    assert a.ask(Request(path="/echo", method="POST")) == _ALLOWED
    assert c.ask(Request(path="/call")) == _DENIED


def test_target_opens_its_destination_and_closes_the_namespace(
    mesh: Mesh, guards: dict[str, Guard], access: Translated, a: Visitor
) -> None:
    tcp = _any_tcp()
    access.apply(tcp, smi.target(NAMESPACE, tcp, source=_A))

    assert a.ask(Request()) == _ALLOWED
    assert mesh.visitor(guards[_C].port, "service-a").ask(Request()) == _DENIED


def test_access_is_denied_again_without_the_target(access: Translated, a: Visitor) -> None:
    tcp = _any_tcp()
    target = smi.target(NAMESPACE, tcp, source=_A)
    access.apply(tcp, target)
    assert a.ask(Request()) == _ALLOWED

    access.delete(target)

    assert a.ask(Request()) == _DENIED


def test_connections_are_let_in_by_account(
    mesh: Mesh, guards: dict[str, Guard], access: Translated
) -> None:
    tcp = _any_tcp()
    access.apply(tcp, smi.target(NAMESPACE, tcp, source=_A))
    port = guards[_B].tcp_port

    assert mesh.visitor(port, "service-a").say("let me in") == Answer(200, f"{_B}:let me in")
    assert mesh.visitor(port, "service-c").say("let me in") == _CLOSED


def test_ports_of_a_tcp_route_are_all_that_is_open(
    mesh: Mesh, guards: dict[str, Guard], access: Translated, a: Visitor
) -> None:
    tcp = _any_tcp(guards[_B].tcp_port)
    access.apply(tcp, smi.target(NAMESPACE, tcp, source=_A))

    assert mesh.visitor(guards[_B].tcp_port, "service-a").say("let me in").status == 200
    assert a.ask(Request()) == _DENIED


# ---- Who is who ----------------------------------------------------------------------------------


def test_account_of_another_namespace_is_let_in(
    mesh: Mesh, guards: dict[str, Guard], access: Translated, a: Visitor
) -> None:
    tcp = _any_tcp()
    access.apply(tcp, smi.target(NAMESPACE, tcp, source=("elsewhere", "service-a")))
    stranger = mesh.visitor(guards[_B].port, "service-a", namespace="elsewhere")

    assert stranger.ask(Request()) == _ALLOWED
    # The same name in the destination's own namespace is somebody else.
    assert a.ask(Request()) == _DENIED


def test_client_without_a_certificate_is_denied(
    guards: dict[str, Guard], access: Translated, a: Visitor
) -> None:
    tcp = _any_tcp()
    access.apply(tcp, smi.target(NAMESPACE, tcp, source=_A))

    assert a.ask(Request()) == _ALLOWED
    assert Visitor(guards[_B].port).ask(Request()) == _DENIED


def test_account_of_another_trust_domain_is_turned_away(
    mesh: Mesh, guards: dict[str, Guard], access: Translated, a: Visitor
) -> None:
    tcp = _any_tcp()
    access.apply(tcp, smi.target(NAMESPACE, tcp, source=_A))
    port = guards[_B].port

    assert a.ask(Request()) == _ALLOWED
    assert mesh.visitor(port, "service-a", trust_domain="other.test").ask(Request()) == _CLOSED


# ---- traffic-specs -------------------------------------------------------------------------------

_METRICS = {"name": "metrics", "pathRegex": "/metrics"}
_READS = {"name": "reads", "pathRegex": ".*", "methods": ["GET"]}
_READ_METRICS = {"name": "both", "pathRegex": "/metrics", "methods": ["GET"]}
_GOLD = {"name": "gold", "pathRegex": "/call", "headers": [{"x-tier": "gold.*"}]}


@pytest.mark.parametrize(
    ("matches", "allowed", "denied"),
    [
        pytest.param(
            [_METRICS],
            # The pattern holds from the start of the path and leaves the end open.
            [Request(path="/metrics"), Request(path="/metrics/cpu", method="POST")],
            [Request(path="/"), Request(path="/call"), Request(path="/x/metrics")],
            id="path",
        ),
        pytest.param(
            [_READS],
            [Request(), Request(path="/call")],
            [Request(method="POST"), Request(path="/call", method="DELETE")],
            id="method",
        ),
        pytest.param(
            [_READ_METRICS],
            [Request(path="/metrics")],
            [Request(path="/metrics", method="POST"), Request(path="/call")],
            id="path-and-method",
        ),
        pytest.param(
            [_GOLD],
            [
                Request(path="/call", headers={"x-tier": "gold"}),
                Request(path="/call", headers={"X-Tier": "golden"}),
            ],
            [
                Request(path="/call"),
                Request(path="/call", headers={"x-tier": "silver"}),
                Request(path="/echo", headers={"x-tier": "gold"}),
            ],
            id="path-and-header",
        ),
        pytest.param(
            [_METRICS, {"name": "posts", "pathRegex": "/call", "methods": ["POST"]}],
            [Request(path="/metrics"), Request(path="/call", method="POST")],
            [Request(path="/call"), Request(path="/")],
            id="any-of-two",
        ),
    ],
)
def test_only_what_the_routes_say_is_allowed(
    access: Translated,
    a: Visitor,
    c: Visitor,
    matches: list[dict[str, Any]],
    allowed: list[Request],
    denied: list[Request],
) -> None:
    group = _group(*matches)
    access.apply(group, smi.target(NAMESPACE, group, source=_A))

    assert [a.ask(request) for request in allowed] == [_ALLOWED] * len(allowed)
    assert [a.ask(request) for request in denied] == [_DENIED] * len(denied)
    assert [c.ask(request) for request in allowed] == [_DENIED] * len(allowed)


def test_target_may_take_some_matches_of_a_group(access: Translated, a: Visitor) -> None:
    group = _group(_METRICS, {"name": "calls", "pathRegex": "/call"})
    access.apply(group, smi.target(NAMESPACE, group, source=_A, matches=("calls",)))

    assert a.ask(Request(path="/call")) == _ALLOWED
    assert a.ask(Request(path="/metrics")) == _DENIED


def test_ports_narrow_routes_instead_of_standing_beside_them(
    mesh: Mesh, guards: dict[str, Guard], access: Translated, a: Visitor
) -> None:
    tcp, group = _any_tcp(guards[_B].port), _group(_METRICS)
    access.apply(tcp, group, smi.target(NAMESPACE, tcp, group, source=_A))
    other_port = mesh.visitor(guards[_B].admin_port, "service-a")

    assert a.ask(Request(path="/metrics")) == _ALLOWED
    assert a.ask(Request(path="/call")) == _DENIED
    assert other_port.ask(Request(path="/metrics")) == _DENIED


def test_all_ports_do_not_undo_a_path(
    mesh: Mesh, guards: dict[str, Guard], access: Translated, a: Visitor
) -> None:
    tcp, group = _any_tcp(), _group(_METRICS)
    access.apply(tcp, group, smi.target(NAMESPACE, tcp, group, source=_A))

    assert a.ask(Request(path="/metrics")) == _ALLOWED
    assert a.ask(Request(path="/call")) == _DENIED
    assert mesh.visitor(guards[_B].tcp_port, "service-a").say("let me in") == _CLOSED


def test_changed_group_changes_what_is_allowed(access: Translated, a: Visitor) -> None:
    group = _group(_METRICS)
    access.apply(group, smi.target(NAMESPACE, group, source=_A))

    access.apply(_group({"name": "metrics", "pathRegex": "/call"}))

    assert a.ask(Request(path="/call")) == _ALLOWED
    assert a.ask(Request(path="/metrics")) == _DENIED
