"""The policy: one rule allows all of a request, or nothing does."""

from __future__ import annotations

from typing import cast

import pytest

from services.chassis.bus.audits import Audit
from services.chassis.bus.queries import Askers, Query
from services.chassis.errors import NotPermitted
from services.chassis.messages import Verb
from services.chassis.policy import (
    EVERYWHERE,
    LOCAL,
    OPEN,
    Identity,
    Policy,
    PolicyMalformed,
    covers,
    read_policy,
    require_operation,
)

ANA = Identity("ana", frozenset({"sre"}))
BEN = Identity("ben")
STRANGER = Identity("stranger")

POLICY = read_policy("""
people:
  ana: {groups: [sre]}
rules:
- groups: [sre]
  operations: ["*"]
  clusters: [prod]
  events: all
  questions: [topology.*]
- identities: [ben]
  operations: [custom, "book*"]
  verbs: [apply]
  namespaces: ["shop-*"]
  questions: [gateway.operations]
- identities: [ben]
  operations: [custom]
  verbs: [delete]
  clusters: [dev]
""")


def may(
    identity: Identity,
    kind: str = "custom",
    verb: Verb = Verb.APPLY,
    cluster: str = "prod",
    namespace: str | None = "shop-1",
    policy: Policy = POLICY,
) -> bool:
    try:
        require_operation(
            policy, identity, kind=kind, verb=verb, cluster=cluster, namespace=namespace
        )
    except NotPermitted:
        return False
    return True


def test_an_open_policy_allows_everything() -> None:
    assert may(STRANGER, policy=OPEN)
    assert OPEN.may_see(STRANGER, cluster="prod", owner="ana")
    assert OPEN.may_ask(STRANGER, "topology.graph", cluster=None)


def test_a_file_without_rules_allows_nothing() -> None:
    for text in ("rules: []", "people: {}", "rules:"):
        assert not may(LOCAL, policy=read_policy(text)), text


def test_operations_are_judged_by_all_of_their_parts() -> None:
    assert may(ANA)
    assert may(ANA, namespace="")
    assert not may(ANA, cluster="dev")
    assert may(BEN)
    assert may(BEN, kind="bookinfo")
    assert not may(BEN, kind="istio")
    assert not may(BEN, namespace="default")
    assert not may(BEN, namespace=""), "cluster-wide objects need a rule for all namespaces"
    assert not may(STRANGER)


def test_rights_of_two_rules_do_not_add_up() -> None:
    assert may(BEN, verb=Verb.DELETE, cluster="dev", namespace="default")
    assert not may(BEN, verb=Verb.DELETE, cluster="prod")
    assert not may(BEN, verb=Verb.APPLY, cluster="dev", namespace="default")


def test_what_is_judged_by_its_objects_needs_a_rule_for_some_namespaces() -> None:
    assert may(BEN, namespace=None)
    assert not may(BEN, kind="istio", namespace=None)
    assert not may(STRANGER, namespace=None)


def test_namespaces_of_rules_for_the_same_add_up_since_each_could_be_asked_for_alone() -> None:
    policy = read_policy("""
rules:
- {identities: [ben], operations: [custom], namespaces: [b, "a-*"]}
- {identities: [ben], operations: [custom], namespaces: [c], clusters: [dev]}
- {identities: [ben], operations: [bookinfo]}
""")

    def where(kind: str, cluster: str) -> tuple[str, ...]:
        return policy.namespaces(BEN, kind=kind, verb=Verb.APPLY, cluster=cluster)

    assert where("custom", "dev") == ("a-*", "b", "c")
    assert where("custom", "prod") == ("a-*", "b")
    assert where("bookinfo", "prod") == EVERYWHERE
    assert where("istio", "prod") == ()
    assert OPEN.namespaces(BEN, kind="x", verb=Verb.APPLY, cluster="c") == EVERYWHERE


@pytest.mark.parametrize(
    ("namespaces", "inside", "outside"),
    [
        (("shop",), ["shop"], ["shop-1", "sho", ""]),
        (("shop-*",), ["shop-1", "shop-"], ["shop", "ashop-1", ""]),
        (EVERYWHERE, ["shop", ""], []),
        ((), [], ["shop", ""]),
        (("?*",), ["shop"], [""]),
    ],
)
def test_what_namespaces_cover(
    namespaces: tuple[str, ...], inside: list[str], outside: list[str]
) -> None:
    assert all(covers(namespaces, namespace) for namespace in inside)
    assert not any(covers(namespaces, namespace) for namespace in outside)


def test_a_refusal_names_what_was_judged() -> None:
    with pytest.raises(NotPermitted, match="ben may not apply istio on cluster prod"):
        require_operation(
            POLICY, BEN, kind="istio", verb=Verb.APPLY, cluster="prod", namespace="shop-1"
        )


def test_events_of_others_need_a_rule_that_shows_them() -> None:
    assert POLICY.may_see(BEN, cluster="prod", owner="ben")
    assert not POLICY.may_see(BEN, cluster="prod", owner="ana")
    assert not POLICY.may_see(BEN, cluster="prod", owner="")
    assert POLICY.may_see(ANA, cluster="prod", owner="ben")
    assert not POLICY.may_see(ANA, cluster="dev", owner="ben")
    assert not POLICY.may_see(STRANGER, cluster="prod", owner="stranger")


def test_a_question_about_no_cluster_is_one_about_all() -> None:
    assert POLICY.may_ask(ANA, "topology.graph", cluster="prod")
    assert not POLICY.may_ask(ANA, "topology.graph", cluster=None)
    assert not POLICY.may_ask(ANA, "gateway.operations", cluster="prod")
    assert POLICY.may_ask(BEN, "gateway.operations", cluster=None)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("- a", "mapping"),
        ("a: [", "YAML"),
        ("rules: [{identitys: [ana]}]", "rules.0.identitys"),
        ("rules: [{verbs: [read]}]", "rules.0.verbs"),
        ("people: {local: {}}\nrules: []", "reserved"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(text: str, word: str) -> None:
    with pytest.raises(PolicyMalformed, match=word):
        read_policy(text)


def test_a_question_that_looks_at_no_cluster_is_about_all_of_them() -> None:
    """Whoever names one of his in vain must not reach the others'."""
    policy = read_policy(
        'rules: [{identities: [ben], clusters: [dev], questions: ["*"], operations: []}]'
    )
    askers = Askers("perf", lambda: policy, audit=cast("Audit", None))
    about_one = Query("vet", '{"cluster": CLUSTER}')
    about_a_run = Query("cancel", '{"run": ID}')
    askers.judge(BEN, about_one, {"cluster": "dev"})
    for query, asked in (
        (about_one, {"cluster": "prod"}),
        (about_one, {}),
        (about_a_run, {"run": "of-prod", "cluster": "dev"}),
    ):
        with pytest.raises(NotPermitted):
            askers.judge(BEN, query, asked)
