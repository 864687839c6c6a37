"""Whose an intent is: a cluster's address may come to stand for another cluster."""

from __future__ import annotations

import pytest

from services.chassis.bus.intents import AppliedObject
from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Namespace
from services.topology.cluster.state import State
from services.topology.drift.intents import is_of


def _applied(identity: str) -> AppliedObject:
    return AppliedObject(kind="/ConfigMap", name="a", object={}, operation="op", identity=identity)


@pytest.mark.parametrize(
    ("identity", "uid", "expected"),
    [("one", "one", True), ("one", "two", False), ("", "two", True), ("one", "", True)],
    ids=["the same", "built anew", "not known to lifecycle", "not known here"],
)
def test_an_intent_belongs_to_one_cluster(identity: str, uid: str, expected: bool) -> None:
    state = State("token")
    if uid:
        state.put(Namespace(key=Key(kinds.NAMESPACE, "", "kube-system"), uid=uid))
    assert is_of(_applied(identity), state) is expected
