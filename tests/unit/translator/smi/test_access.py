"""TrafficTarget as AuthorizationPolicies: each rule of the specification, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.kube.objects import KubeObject
from services.chassis.messages.facts import MeshFact
from tests.unit.translator.smi.samples import (
    API,
    account,
    errors_of,
    facts,
    group,
    match,
    rule,
    spec_of,
    target,
    tcp_route,
    told,
    translated,
    udp_route,
    warnings_of,
    workload,
)

FROM_WEB = [{"source": {"principals": ["cluster.local/ns/shop/sa/web"]}}]
HTTP = rule("HTTPRouteGroup", "routes")
TCP = rule("TCPRoute", "ports")


def operations(*given: KubeObject, **options: Any) -> list[dict[str, Any]]:
    """Of the only rule of the only policy."""
    (only,) = spec_of(translated(*given, about=API, **options))["rules"]
    return [to["operation"] for to in only.get("to", [])]


def test_a_target_becomes_a_policy_of_its_destination() -> None:
    made = translated(target(), group(match("metrics", "/metrics", "GET")), about=API)
    (policy,) = made.objects
    name = policy["metadata"].pop("name")
    assert name.startswith("reach-api-")
    assert policy == {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {
            "namespace": "shop",
            "labels": {"app.kubernetes.io/managed-by": "meshbus"},
            "annotations": {
                "meshbus.io/translated-from": "TrafficTarget.access.smi-spec.io shop/reach-api"
            },
        },
        "spec": {
            "selector": {"matchLabels": {"app": "api"}},
            "action": "ALLOW",
            "rules": [
                {
                    "from": FROM_WEB,
                    "to": [{"operation": {"methods": ["GET"], "paths": ["/metrics*"]}}],
                }
            ],
        },
    }
    assert made.findings == []
    assert f"TrafficTarget shop/reach-api became AuthorizationPolicy shop/{name}" in told(made)
    assert "plaintext clients are denied" in told(made)


# ---- Deny by default -----------------------------------------------------------------------------


def kept(**options: Any) -> list[tuple[str, dict[str, Any]]]:
    made = translated(target(), group(match("a")), about=API, **options)
    return [(one["metadata"]["name"], one["spec"]) for one in made.kept]


def test_the_namespace_is_closed_by_default() -> None:
    assert kept() == [("smi-deny-by-default", {})]


def test_only_the_workload_is_closed_on_request() -> None:
    ((name, spec),) = kept(denyByDefault="workload")
    assert name.startswith("smi-deny-by-default-")
    assert spec == {"selector": {"matchLabels": {"app": "api"}}}


def test_nothing_is_closed_on_request() -> None:
    assert kept(denyByDefault="none") == []


def test_targets_share_what_denies() -> None:
    made = translated(target("a"), target("b"), group(match("a")), about=API)
    assert len(made.objects) == 2
    assert len(made.kept) == 1
    assert made.kept[0]["metadata"]["annotations"] == {
        "meshbus.io/translated-from": "TrafficTarget.access.smi-spec.io shop/*"
    }


# ---- Sources and destination ---------------------------------------------------------------------


def test_all_sources_are_in_one_list() -> None:
    sources = [account("web", None), account("probe", "watch"), account("web")]
    made = translated(target(sources=sources), group(match("a")), about=API, trust_domain="corp.eu")
    assert spec_of(made)["rules"][0]["from"] == [
        {"source": {"principals": ["corp.eu/ns/shop/sa/web", "corp.eu/ns/watch/sa/probe"]}}
    ]


def test_the_destination_is_in_the_targets_namespace_unless_it_says_so() -> None:
    made = translated(target(destination=account("api", None)), group(match("a")), about=API)
    assert made.objects[0]["metadata"]["namespace"] == "shop"


def test_a_destination_elsewhere_gets_its_policies_there() -> None:
    made = translated(
        target(destination=account("api", "depot")),
        group(match("a")),
        about=facts(
            workloads=[workload("api").model_copy(update={"namespace": "depot"})], known=["depot"]
        ),
    )
    assert [one["metadata"]["namespace"] for one in (*made.objects, *made.kept)] == ["depot"] * 2


def test_each_set_of_pods_has_a_policy() -> None:
    workloads = [
        workload("api", version="v1", app="api"),
        workload("api-2", runs_as="api", version="v2", app="api"),
        workload("api-again", runs_as="api", kind="Pod", version="v2", app="api"),
        workload("web"),
    ]
    made = translated(target(), group(match("a")), about=facts(workloads=workloads))
    assert errors_of(made) == []
    selectors = [one["spec"]["selector"]["matchLabels"] for one in made.objects]
    assert sorted(one["version"] for one in selectors) == ["v1", "v2"]
    assert len({one["metadata"]["name"] for one in made.objects}) == 2


def test_a_bare_pod_is_selected_by_its_lasting_labels() -> None:
    made = translated(
        target(), group(match("a")), about=facts(workloads=[workload("api", kind="Pod")])
    )
    assert spec_of(made)["selector"] == {"matchLabels": {"app": "api"}}


def test_labels_that_select_another_account_are_refused() -> None:
    workloads = [workload("api", app="all"), workload("db", app="all", tier="db")]
    made = translated(target(), group(match("a")), about=facts(workloads=workloads))
    assert errors_of(made) == [("spec.destination", "workload")]
    assert made.objects == []
    assert "select Deployment shop/db too, which runs under ServiceAccount db" in told(made)


def test_a_workload_without_labels_is_refused() -> None:
    bare = workload("api", kind="Pod").model_copy(update={"labels": {"pod-template-hash": "a"}})
    made = translated(target(), group(match("a")), about=facts(workloads=[bare]))
    assert errors_of(made) == [("spec.destination", "workload")]
    assert made.objects == []


def test_no_workload_yet_allows_nothing_and_denies_already() -> None:
    made = translated(target(), group(match("a")), about=facts(workloads=[workload("web")]))
    assert (made.objects, errors_of(made)) == ([], [])
    assert warnings_of(made) == [("spec.destination", "workload")]
    assert [one["spec"] for one in made.kept] == [{}]


def test_without_facts_only_labelled_pods_are_opened() -> None:
    made = translated(target(), group(match("a")), about=facts(known=[]))
    assert spec_of(made)["selector"] == {"matchLabels": {"meshbus.io/service-account": "api"}}
    assert warnings_of(made) == [("spec.destination", "workload")]


def test_without_facts_a_long_name_opens_nothing() -> None:
    given = target(destination=account("a" * 64))
    made = translated(given, group(match("a")), about=facts(known=[]))
    assert (made.objects, errors_of(made)) == ([], [])
    assert warnings_of(made) == [("spec.destination.name", "workload")]


@pytest.mark.parametrize(
    ("namespace", "meshes"),
    [("istio-system", []), ("mesh", [MeshFact(revision="default", namespace="mesh")])],
)
def test_a_destination_in_the_meshs_own_namespace_is_refused(
    namespace: str, meshes: list[MeshFact]
) -> None:
    given = target(destination=account("istiod", namespace))
    made = translated(given, group(match("a")), about=facts(known=[], meshes=meshes))
    assert errors_of(made) == [("spec.destination", "unsupported")]
    assert (made.objects, made.kept) == ([], [])


@pytest.mark.parametrize("domain", ["*", "*.corp", "", "a/b"])
def test_a_trust_domain_with_a_wildcard_is_refused(domain: str) -> None:
    made = translated(target(), group(match("a")), about=API, trust_domain=domain)
    assert errors_of(made) == [("", "trust-domain")]
    assert made.objects == []


# ---- Rules ---------------------------------------------------------------------------------------

PATHS: dict[str, tuple[str, list[str]]] = {
    "text is a prefix": ("/metrics", ["/metrics*"]),
    "anchored at the start": ("^/metrics", ["/metrics*"]),
    "to the end": ("/x$", ["/x"]),
    "an open rest": ("/x/.*", ["/x/*"]),
    "an ending": (r".*\.js$", ["*.js"]),
    "an element and all below it": ("/x(/.*)?$", ["/x", "/x/*"]),
    "the same in short": ("/x(/|$)", ["/x", "/x/*"]),
    "an optional slash": ("/x/?$", ["/x", "/x/"]),
    "alternatives": ("/a$|/b/.*", ["/a", "/b/*"]),
    "alternatives inside": ("/(a|b)/c$", ["/a/c", "/b/c"]),
    "any element, and open": ("/x/[^/]+", ["/x/{*}", "/x/{*}/{**}"]),
    "any element at the end": ("/x/[^/]+$", ["/x/{*}"]),
    "any element inside": ("/x/[^/]+/y$", ["/x/{*}/y"]),
    "any element and a rest": ("/x/[^/]+/y/.*", ["/x/{*}/y/{**}"]),
}


@pytest.mark.parametrize("case", PATHS)
def test_paths_that_can_be_said(case: str) -> None:
    pattern, expected = PATHS[case]
    assert operations(target(), group(match("a", pattern))) == [{"paths": expected}]


@pytest.mark.parametrize("pattern", [".*", ".+", "^", "/a|.*"])
def test_any_path_is_still_http_only(pattern: str) -> None:
    assert operations(target(), group(match("a", pattern))) == [{"methods": ["*"]}]


@pytest.mark.parametrize(
    "pattern",
    [
        "/v[0-9]+",
        r"/\d",
        "/a.b",
        ".*admin",
        "/x/.+",
        "/x/[^/]+/y",
        "/x[^/]+$",
        "/x/[^/]+/$",
        "(?i)/x",
        "/x{2}",
        r"/x\*",
        r"/\{\*\}",
        "/a*",
        "$",
        "(/a)+",
    ],
)
def test_paths_that_cannot_be_said_are_refused(pattern: str) -> None:
    made = translated(target(), group(match("bad", pattern)), about=API)
    assert errors_of(made) == [("spec.rules[0]", "regex")]
    assert (made.objects, made.kept) == ([], [])
    assert "write paths such as /x, /x$, /x/.*" in made.findings[0].remedy


VALUES: dict[str, tuple[str, list[str]]] = {
    "text": ("7", ["7"]),
    "anchored": ("^7$", ["7"]),
    "a beginning": ("Bearer .*", ["Bearer *"]),
    "an ending": (".*-eu", ["*-eu"]),
    "any": (".*", ["*"]),
    "alternatives": ("a|b.*", ["a", "b*"]),
}


@pytest.mark.parametrize("case", VALUES)
def test_headers_that_can_be_said(case: str) -> None:
    pattern, expected = VALUES[case]
    made = translated(target(), group(match("a", "/x", X_Id=pattern)), about=API)
    assert spec_of(made)["rules"] == [
        {
            "from": FROM_WEB,
            "to": [{"operation": {"paths": ["/x*"]}}],
            "when": [{"key": "request.headers[x-id]", "values": expected}],
        }
    ]


@pytest.mark.parametrize("pattern", [".+", ".*Firefox.*", "[0-9]", r"a\*", "a[^/]+"])
def test_headers_that_cannot_be_said_are_refused(pattern: str) -> None:
    made = translated(target(), group(match("a", x=pattern)), about=API)
    assert errors_of(made) == [("spec.rules[0]", "regex")]
    assert made.objects == []


def test_the_host_is_the_authority() -> None:
    made = translated(target(), group(match("a", host=r"api\.example")), about=API)
    when = spec_of(made)["rules"][0]["when"]
    assert when == [{"key": "request.headers[:authority]", "values": ["api.example"]}]


def test_headers_of_one_match_all_have_to_fit_and_matches_are_alternatives() -> None:
    given = group(match("a", "/a"), match("b", "/b", x="1", y="2"), match("c", None, "GET"))
    rules = spec_of(translated(target(), given, about=API))["rules"]
    assert [len(one.get("when", [])) for one in rules] == [0, 2]
    assert [to["operation"] for to in rules[0]["to"]] == [{"paths": ["/a*"]}, {"methods": ["GET"]}]
    assert [to["operation"] for to in rules[1]["to"]] == [{"paths": ["/b*"]}]


def test_two_patterns_for_one_header_both_have_to_fit() -> None:
    one = {"name": "a", "headers": [{"x": "a.*"}, {"X": ".*b"}]}
    when = spec_of(translated(target(), group(one), about=API))["rules"][0]["when"]
    assert [(one["key"], one["values"]) for one in when] == [
        ("request.headers[x]", ["*b"]),
        ("request.headers[x]", ["a*"]),
    ]


def test_left_out_matches_mean_all_of_the_group() -> None:
    given = group(match("a", "/a"), match("b", "/b"))
    assert operations(target(), given) == [{"paths": ["/a*"]}, {"paths": ["/b*"]}]
    only = target(rules=[rule("HTTPRouteGroup", "routes", "b")])
    assert operations(only, given) == [{"paths": ["/b*"]}]


def test_a_match_that_the_group_lacks_is_an_error() -> None:
    made = translated(
        target(rules=[rule("HTTPRouteGroup", "routes", "a", "c")]), group(match("a")), about=API
    )
    assert errors_of(made) == [("spec.rules[0].matches[1]", "reference")]


@pytest.mark.parametrize("kind", ["HTTPRouteGroup", "TCPRoute"])
def test_a_missing_route_is_an_error(kind: str) -> None:
    made = translated(target(rules=[rule(kind, "nowhere")]), about=API)
    assert errors_of(made) == [("spec.rules[0].name", "reference")]


def test_a_route_with_errors_opens_nothing() -> None:
    made = translated(target(rules=[TCP]), tcp_route(70000), about=API)
    assert set(errors_of(made)) == {
        ("spec.matches.ports[0]", "ports"),
        ("spec.rules[0].name", "reference"),
    }
    assert made.objects == []


# ---- Ports ---------------------------------------------------------------------------------------


def test_ports_of_a_tcp_route() -> None:
    assert operations(target(rules=[TCP]), tcp_route(9091, 80)) == [{"ports": ["80", "9091"]}]


def test_a_tcp_route_without_ports_is_every_port() -> None:
    made = translated(target(rules=[TCP]), tcp_route(), about=API)
    assert spec_of(made)["rules"] == [{"from": FROM_WEB}]


def test_ports_narrow_every_http_match() -> None:
    given = group(match("a", "/a"), match("b", None, "GET"), match("c", x="1"))
    made = translated(target(rules=[HTTP, TCP]), given, tcp_route(8080), about=API)
    found = [to["operation"] for one in spec_of(made)["rules"] for to in one["to"]]
    assert found == [
        {"paths": ["/a*"], "ports": ["8080"]},
        {"methods": ["GET"], "ports": ["8080"]},
        {"methods": ["*"], "ports": ["8080"]},
    ]


def test_a_tcp_route_without_ports_does_not_undo_the_paths() -> None:
    given = (target(rules=[HTTP, TCP]), group(match("a", "/a")), tcp_route())
    assert operations(*given) == [{"paths": ["/a*"]}]


def test_ports_of_several_tcp_routes_are_alternatives() -> None:
    rules = [TCP, rule("TCPRoute", "more")]
    given = (target(rules=rules), tcp_route(1), tcp_route(2, name="more"))
    assert operations(*given) == [{"ports": ["1", "2"]}]


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2"])
@pytest.mark.parametrize("number", [8080, "8080"])
def test_the_destinations_port_before_v1alpha3(version: str, number: Any) -> None:
    named = {**account("api"), "port": number}
    given = (target(destination=named, version=version), group(match("a", "/a")))
    assert operations(*given) == [{"paths": ["/a*"], "ports": ["8080"]}]


def test_a_port_that_no_tcp_route_has_is_an_error() -> None:
    named = {**account("api"), "port": 8080}
    given = target(destination=named, version="v1alpha2", rules=[TCP])
    made = translated(given, tcp_route(80), about=API)
    assert errors_of(made) == [("spec.destination.port", "ports")]


def test_udp_is_refused_in_a_target_and_left_out_alone() -> None:
    made = translated(target(rules=[rule("UDPRoute", "datagrams")]), udp_route(53), about=API)
    assert errors_of(made) == [("spec.rules[0].kind", "unsupported")]
    alone = translated(udp_route(53))
    assert (alone.objects, alone.findings) == ([], [])
    assert told(alone) == "UDPRoute shop/datagrams was left out (Istio's proxies do not see UDP)"


# ---- What changes a known target -----------------------------------------------------------------


def test_a_known_target_is_translated_again_when_its_rules_change() -> None:
    known = [target(), target("other", rules=[TCP]), tcp_route(1), group(match("a", "/old"))]
    made = translated(group(match("a", "/new")), known=known, about=API)
    assert [one["spec"]["rules"][0]["to"] for one in made.objects] == [
        [{"operation": {"paths": ["/new*"]}}]
    ]
    assert "HTTPRouteGroup shop/routes was left out (it has no effect of its own" in told(made)
    again = translated(tcp_route(2), known=known, about=API)
    assert [one["spec"]["rules"][0]["to"] for one in again.objects] == [
        [{"operation": {"ports": ["2"]}}]
    ]
