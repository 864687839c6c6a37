"""All kinds together: shape errors of every version, names, order, and what is told."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.smi import SMI_KINDS, is_smi, namespaces_of, origin_of
from services.translator.smi.naming import derived_name, is_subdomain
from tests.unit.translator.smi.samples import (
    API,
    account,
    errors_of,
    facts,
    group,
    match,
    obj,
    port,
    rule,
    services,
    split,
    target,
    tcp_route,
    told,
    translated,
    udp_route,
    workload,
)

SPLIT = {"service": "web", "backends": [{"service": "web-v1", "weight": 1}]}
TARGET = {
    "destination": account("api"),
    "sources": [account("web")],
    "rules": [rule("TCPRoute", "ports")],
}


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`body` with another value at a dotted path; None takes it away."""
    made = copy.deepcopy(body)
    *parents, last = (int(part) if part.isdecimal() else part for part in path.split("."))
    place: Any = made
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return made


def a_split(path: str, value: Any, version: str = "v1alpha4") -> KubeObject:
    return obj("TrafficSplit", version, "canary", spec=changed(SPLIT, path, value))


def a_target(path: str, value: Any) -> KubeObject:
    return obj("TrafficTarget", "v1alpha3", "reach", spec=changed(TARGET, path, value))


def a_group(version: str = "v1alpha4", **fields: Any) -> KubeObject:
    return group({"name": "a", **fields}, version=version)


Case = tuple[KubeObject, list[tuple[str, str]]]
SHAPES: dict[str, Case] = {
    "unknown kind": (
        {**split(), "apiVersion": "metrics.smi-spec.io/v1alpha1", "kind": "TrafficMetrics"},
        [("kind", "unsupported")],
    ),
    "unknown version": (split(version="v1"), [("apiVersion", "version")]),
    "UDPRoute came in v1alpha4": (
        obj("UDPRoute", "v1alpha3", "a"),
        [("apiVersion", "version")],
    ),
    "a name with capitals": (
        {**split(), "metadata": {"name": "A", "namespace": "shop"}},
        [("metadata.name", "schema")],
    ),
    "no namespace": ({**split(), "metadata": {"name": "a"}}, [("metadata.namespace", "schema")]),
    "split: no spec": (
        obj("TrafficSplit", "v1alpha4", "a"),
        [
            ("spec", "schema"),
            ("spec.backends", "schema"),
            ("spec.service", "schema"),
        ],
    ),
    "split: no root": (a_split("service", None), [("spec.service", "schema")]),
    "split: a number as root": (a_split("service", 7), [("spec.service", "schema")]),
    "split: a root elsewhere": (a_split("service", "web.other"), [("spec.service", "schema")]),
    "split: a wildcard as root": (a_split("service", "*"), [("spec.service", "schema")]),
    "split: no backends": (a_split("backends", []), [("spec.backends", "schema")]),
    "split: backends as a mapping": (a_split("backends", {}), [("spec.backends", "schema")]),
    "split: a backend as text": (
        a_split("backends", ["web-v1"]),
        [
            ("spec.backends[0]", "schema"),
            ("spec.backends[0].service", "schema"),
            ("spec.backends[0].weight", "schema"),
        ],
    ),
    "split: no weight": (
        a_split("backends.0.weight", None),
        [("spec.backends[0].weight", "schema")],
    ),
    "split: a negative weight": (
        a_split("backends.0.weight", -1),
        [("spec.backends[0].weight", "weights")],
    ),
    "split: a fraction": (
        a_split("backends.0.weight", 0.5),
        [("spec.backends[0].weight", "weights")],
    ),
    "split: a quantity after v1alpha1": (
        a_split("backends.0.weight", "900m"),
        [("spec.backends[0].weight", "weights")],
    ),
    "split: a negative quantity": (
        a_split("backends.0.weight", "-1m", "v1alpha1"),
        [("spec.backends[0].weight", "weights")],
    ),
    "split: no quantity": (
        a_split("backends.0.weight", "much", "v1alpha1"),
        [("spec.backends[0].weight", "weights")],
    ),
    "split: matches before v1alpha3": (
        split(version="v1alpha2", matches=["routes"]),
        [("spec.matches", "schema")],
    ),
    "split: a match of another kind": (
        a_split("matches", [{"kind": "TCPRoute", "name": "a"}]),
        [("spec.matches[0].kind", "unsupported")],
    ),
    "split: a match of another group": (
        a_split("matches", [{"apiGroup": "x", "kind": "HTTPRouteGroup", "name": "a"}]),
        [("spec.matches[0].apiGroup", "unsupported")],
    ),
    "split: a gateway that is no name": (
        split(gateways="*/x, ok"),
        [('metadata.annotations["meshbus.io/gateways"]', "schema")],
    ),
    "target: nothing in it": (
        obj("TrafficTarget", "v1alpha3", "a", spec={}),
        [
            ("spec.destination", "schema"),
            ("spec.destination.kind", "schema"),
            ("spec.destination.name", "schema"),
            ("spec.rules", "schema"),
            ("spec.sources", "schema"),
        ],
    ),
    "target: no sources": (a_target("sources", []), [("spec.sources", "schema")]),
    "target: no rules": (a_target("rules", []), [("spec.rules", "schema")]),
    "target: a destination of another kind": (
        a_target("destination.kind", "Service"),
        [("spec.destination.kind", "unsupported")],
    ),
    "target: a source of another kind": (
        a_target("sources.0.kind", "Group"),
        [("spec.sources[0].kind", "unsupported")],
    ),
    "target: a wildcard as source": (
        a_target("sources.0.name", "*"),
        [("spec.sources[0].name", "schema")],
    ),
    "target: a wildcard as a source's namespace": (
        a_target("sources.0.namespace", "*"),
        [("spec.sources[0].namespace", "schema")],
    ),
    "target: a path as source": (
        a_target("sources.0.name", "a/sa/b"),
        [("spec.sources[0].name", "schema")],
    ),
    "target: a port in v1alpha3": (
        a_target("destination.port", 80),
        [("spec.destination.port", "schema")],
    ),
    "target: a rule of another kind": (
        a_target("rules.0.kind", "Route"),
        [("spec.rules[0].kind", "unsupported")],
    ),
    "target: matches that are no names": (
        a_target("rules.0.matches", [1]),
        [("spec.rules[0].matches[0]", "schema")],
    ),
    "target: v1alpha1 has no spec": (
        obj("TrafficTarget", "v1alpha1", "a", spec=TARGET),
        [
            ("destination", "schema"),
            ("destination.kind", "schema"),
            ("destination.name", "schema"),
            ("sources", "schema"),
            ("specs", "schema"),
        ],
    ),
    "group: matches beside spec": (
        obj("HTTPRouteGroup", "v1alpha4", "a", matches=[match("a")]),
        [("matches", "schema")],
    ),
    "group: no matches": (group(), [("spec.matches", "schema")]),
    "group: no name": (group({}), [("spec.matches[0].name", "schema")]),
    "group: a name twice": (group(match("a"), match("a")), [("spec.matches[1].name", "schema")]),
    "group: a pattern that RE2 does not read": (
        a_group(pathRegex="a(?!b)"),
        [("spec.matches[0].pathRegex", "regex")],
    ),
    "group: a number as pattern": (
        a_group(pathRegex=7),
        [("spec.matches[0].pathRegex", "regex")],
    ),
    "group: an unknown method": (
        a_group(methods=["get"]),
        [("spec.matches[0].methods[0]", "schema")],
    ),
    "group: headers in v1alpha1": (
        a_group("v1alpha1", headers={"x": "1"}),
        [("matches[0].headers", "schema")],
    ),
    "group: headers as text": (
        a_group(headers="x"),
        [("spec.matches[0].headers", "schema")],
    ),
    "group: a header that is no name": (
        a_group(headers=[{"x]": "1"}]),
        [('spec.matches[0].headers[0]["x]"]', "schema")],
    ),
    "group: an empty header": (
        a_group(headers={"x": ""}),
        [("spec.matches[0].headers.x", "regex")],
    ),
    "ports: out of range": (tcp_route(0), [("spec.matches.ports[0]", "ports")]),
    "ports: before v1alpha4": (
        {**tcp_route(80), "apiVersion": "specs.smi-spec.io/v1alpha3"},
        [("spec.matches", "schema")],
    ),
    "ports: as a list": (
        obj("TCPRoute", "v1alpha4", "a", spec={"matches": []}),
        [("spec.matches", "schema")],
    ),
    "ports: spec as text": (obj("TCPRoute", "v1alpha4", "a", spec="x"), [("spec", "schema")]),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shape_errors(case: str) -> None:
    one, expected = SHAPES[case]
    made = translated(one, known=[] if case.startswith("ports") else [tcp_route()], about=API)
    assert errors_of(made) == expected
    assert made.objects == []
    assert f"{Ref.of(one)} was left out (" in told(made)


VERSIONS: dict[str, tuple[KubeObject, ...]] = {
    "TrafficSplit v1alpha1": (split(version="v1alpha1", backends=[("web-v1", "900m")]),),
    "TrafficSplit v1alpha2": (split(version="v1alpha2"),),
    "TrafficSplit v1alpha3": (split(version="v1alpha3", matches=["routes"]), group(match("a"))),
    "TrafficSplit v1alpha4": (split(version="v1alpha4", matches=["routes"]), group(match("a"))),
    "TrafficTarget v1alpha1": (target(version="v1alpha1"), group(match("a"), version="v1alpha1")),
    "TrafficTarget v1alpha2": (target(version="v1alpha2"), group(match("a"), version="v1alpha2")),
    "TrafficTarget v1alpha3": (target(version="v1alpha3"), group(match("a"), version="v1alpha3")),
    **{
        f"TCPRoute {version}": (
            target(rules=[rule("TCPRoute", "ports")]),
            obj("TCPRoute", version, "ports"),
        )
        for version in ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4")
    },
}


@pytest.mark.parametrize("case", VERSIONS)
def test_every_version_is_read(case: str) -> None:
    about = facts(services=services(port(80)), workloads=[workload("api")])
    made = translated(*VERSIONS[case], about=about)
    assert errors_of(made) == []
    assert len(made.objects) == 1


def test_all_errors_are_found_at_once() -> None:
    made = translated(split(backends=[("web", -1)]), target(rules=[]), group(match("a", "(")))
    assert len(errors_of(made)) == 4


# ---- Order and identity --------------------------------------------------------------------------

WORLD = [
    split(matches=["routes"]),
    split("other", root="web-v2", backends=[("web-v1", 1)]),
    target(),
    target("second", rules=[rule("HTTPRouteGroup", "routes", "a"), rule("TCPRoute", "ports")]),
    group(match("a", "/a"), match("b", "/b", "GET")),
    tcp_route(80),
    udp_route(53),
]
ABOUT = facts(services=services(port(80), port(53, "dns", protocol="UDP")), workloads=API.workloads)


@given(st.permutations(WORLD), st.integers(min_value=0, max_value=len(WORLD)))
def test_the_order_of_the_input_does_not_matter(world: list[KubeObject], at: int) -> None:
    expected = translated(*WORLD, about=ABOUT)
    assert translated(*copy.deepcopy(world), about=ABOUT) == expected
    both = translated(*world, known=world[at:], about=ABOUT)
    assert both == expected


def test_translating_leaves_the_input_alone() -> None:
    world = copy.deepcopy(WORLD)
    translated(*world, about=ABOUT)
    assert world == WORLD


def test_one_object_twice_counts_once_and_two_of_one_name_contradict() -> None:
    assert translated(split(), split()) == translated(split())
    made = translated(split(), split(backends=[("web-v1", 1)]))
    assert errors_of(made) == [("", "conflict")]


# ---- Names ---------------------------------------------------------------------------------------


@given(
    st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True).filter(is_subdomain),
    st.sampled_from(["split", "split-65535", "0123456789"]),
)
def test_derived_names_are_names(base: str, suffix: str) -> None:
    assert is_subdomain(derived_name(base, suffix))


def test_long_names_stay_apart() -> None:
    first, second = (derived_name("a" * 250 + letter, "split") for letter in "bc")
    assert first != second
    assert len(first) <= 253


def test_targets_of_two_namespaces_do_not_share_a_policy() -> None:
    there = account("api", "shop")
    second = target(destination=there)
    second["metadata"]["namespace"] = "other"
    routes = group(match("a"))
    elsewhere = copy.deepcopy(routes)
    elsewhere["metadata"]["namespace"] = "other"
    made = translated(target(destination=there), second, routes, elsewhere, about=API)
    assert len({Ref.of(one) for one in made.objects}) == 2


def test_origins_have_no_version() -> None:
    old, new = (origin_of(Ref.of(split(version=version))) for version in ("v1alpha1", "v1alpha4"))
    assert old == new == "TrafficSplit.split.smi-spec.io shop/canary"


# ---- What the caller asks ------------------------------------------------------------------------


def test_what_is_smi() -> None:
    assert all(is_smi(one) for one in WORLD)
    assert is_smi({"apiVersion": "metrics.smi-spec.io/v1alpha1", "kind": "TrafficMetrics"})
    assert not is_smi({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "TCPRoute"})
    assert not is_smi({"apiVersion": "v1", "kind": "Service"})


def test_kinds_are_named_as_facts_name_them() -> None:
    assert "split.smi-spec.io/TrafficSplit" in SMI_KINDS
    assert len(SMI_KINDS) == 5


def test_namespaces_whose_facts_are_needed() -> None:
    far = target(destination=account("api", "far"))
    assert namespaces_of([split(), far]) == {"shop", "far"}
    assert namespaces_of([group(match("a"))], known=[far]) == {"shop", "far"}
    first = obj("TrafficTarget", "v1alpha1", "a", destination=account("api", "near"))
    assert namespaces_of([first]) == {"shop", "near"}
    odd = {"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget", "spec": []}
    assert namespaces_of([odd]) == set()


def test_routes_alone_are_told() -> None:
    made = translated(group(match("a")), tcp_route())
    assert (made.objects, made.kept, made.findings) == ([], [], [])
    assert told(made).splitlines() == [
        f"{one} was left out (it has no effect of its own; it is used by no TrafficTarget or "
        "TrafficSplit)"
        for one in ("HTTPRouteGroup shop/routes", "TCPRoute shop/ports")
    ]


def test_an_error_in_a_known_object_that_nobody_uses_is_not_told() -> None:
    assert translated(split(), known=[group(name="broken")]).findings == []


def test_an_error_in_a_known_object_that_is_used_is_told() -> None:
    made = translated(split(matches=["broken"]), known=[group(name="broken")])
    assert ("spec.matches", "schema") in errors_of(made)
    assert made.objects == []


def test_a_request_that_writes_out_too_much_is_refused_before_it_is_written() -> None:
    routes = group(*(match(f"m{number}", f"/{number}") for number in range(500)))
    targets = [target(f"target-{number}") for number in range(41)]
    translation = translated(routes, *targets[:40], about=API)
    assert errors_of(translation) == []
    refused = translated(routes, *targets, about=API)
    assert errors_of(refused) == [("", "size")]
    assert (refused.objects, refused.kept) == ([], [])
