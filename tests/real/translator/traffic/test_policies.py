"""The policies that stand for an intent: how connections are taken, and that nobody is.

A PeerAuthentication has no barrier, so these tests wait for what they expect to change; what must
hold with it is asserted then. One configuration of a listener replaces the other as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from services.translator.intents.policies import (
    MutualTls,
    deny_all,
    other_modes,
    peer_authentication,
)
from tests.real.translator.traffic.guards import NAMESPACE, Guard
from tests.real.translator.traffic.meshes import Mesh
from tests.testbed import entries
from tests.testbed.processes import wait_until
from tests.testbed.visitors import Answer, Request, Visitor

_B, _C = "service-b", "service-c"
_CLOSED = Answer(0)
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether a workload takes connections in plain text, and those of the mesh's TLS."""

    plain: bool
    mesh: bool


_TAKES = {
    MutualTls.STRICT: Taken(plain=False, mesh=True),
    MutualTls.PERMISSIVE: Taken(plain=True, mesh=True),
    MutualTls.DISABLE: Taken(plain=True, mesh=False),
}


def _taken(mesh: Mesh, guard: Guard) -> Taken:
    answers = {
        "plain": Visitor(guard.port).ask(Request()),
        "mesh": mesh.visitor(guard.port, "anyone").ask(Request()),
    }
    assert set(answers.values()) <= {Answer(200, guard.name), _CLOSED}
    return Taken(**{name: answer != _CLOSED for name, answer in answers.items()})


def _wait_taken(mesh: Mesh, guard: Guard, expected: Taken) -> None:
    wait_until(
        lambda: _taken(mesh, guard) == expected,
        timeout_s=_TIMEOUT_S,
        what=f"{guard.name} to take connections as {expected}",
    )


def _set(mesh: Mesh, mode: MutualTls, selector: dict[str, str] | None = None) -> None:
    """As the operation does it: the mode's object comes, those of the other modes go."""
    entries.apply(mesh.cluster, [peer_authentication(mode, namespace=NAMESPACE, selector=selector)])
    entries.delete(mesh.cluster, other_modes(mode, namespace=NAMESPACE, selector=selector))


@pytest.mark.parametrize(
    ("former", "mode"),
    [
        (MutualTls.DISABLE, MutualTls.STRICT),
        (MutualTls.STRICT, MutualTls.PERMISSIVE),
        (MutualTls.STRICT, MutualTls.DISABLE),
    ],
    ids=lambda mode: mode.name.lower(),
)
def test_mode_replaces_the_former_one(
    mesh: Mesh, guards: dict[str, Guard], former: MutualTls, mode: MutualTls
) -> None:
    _set(mesh, former)
    _wait_taken(mesh, guards[_B], _TAKES[former])

    _set(mesh, mode)

    for guard in guards.values():
        _wait_taken(mesh, guard, _TAKES[mode])


def test_mode_of_one_workload_leaves_the_others_alone(mesh: Mesh, guards: dict[str, Guard]) -> None:
    _set(mesh, MutualTls.STRICT, {"app": _B})
    _wait_taken(mesh, guards[_B], _TAKES[MutualTls.STRICT])
    assert _taken(mesh, guards[_C]) == _TAKES[MutualTls.PERMISSIVE]

    # service-c has shown that it follows a mode; so it would have followed the one before.
    _set(mesh, MutualTls.DISABLE, {"app": _C})
    _wait_taken(mesh, guards[_C], _TAKES[MutualTls.DISABLE])
    assert _taken(mesh, guards[_B]) == _TAKES[MutualTls.STRICT]


def test_deny_all_of_one_workload_leaves_the_others_open(
    mesh: Mesh, guards: dict[str, Guard]
) -> None:
    entries.apply(mesh.cluster, [deny_all(namespace=NAMESPACE, selector={"app": _B})])
    mesh.policies.wait()

    visitors = {name: mesh.visitor(guard.port, "anyone") for name, guard in guards.items()}
    assert visitors[_B].ask(Request()).status == 403
    assert visitors[_C].ask(Request()) == Answer(200, _C)


def test_deny_all_can_be_taken_back(mesh: Mesh, guards: dict[str, Guard]) -> None:
    visitor = mesh.visitor(guards[_B].port, "anyone")
    policy = deny_all(namespace=NAMESPACE)
    entries.apply(mesh.cluster, [policy])
    mesh.policies.wait()
    assert visitor.ask(Request()).status == 403

    entries.delete(mesh.cluster, [policy])
    mesh.policies.wait()

    assert visitor.ask(Request()) == Answer(200, _B)
