"""TrafficSplit as a VirtualService: each rule of the specification, and each decision of ours."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.messages.facts import ServicePort
from tests.unit.translator.smi.samples import (
    NAMESPACE,
    WEB,
    errors_of,
    facts,
    group,
    match,
    port,
    service,
    services,
    spec_of,
    split,
    told,
    translated,
    warnings_of,
)


def host(name: str) -> str:
    return f"{name}.{NAMESPACE}.svc.cluster.local"


def to(name: str, number: int | None, weight: int | None = None) -> dict[str, Any]:
    destination: dict[str, Any] = {"host": host(name)}
    if number is not None:
        destination["port"] = {"number": number}
    return {"destination": destination} | ({} if weight is None else {"weight": weight})


def shared(number: int | None) -> list[dict[str, Any]]:
    return [to("web-v1", number, 90), to("web-v2", number, 10)]


def test_a_split_becomes_one_virtual_service() -> None:
    made = translated(split())
    assert made.findings == []
    assert made.kept == []
    assert list(made.objects) == [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {
                "name": "canary-split",
                "namespace": NAMESPACE,
                "labels": {"app.kubernetes.io/managed-by": "meshbus"},
                "annotations": {
                    "meshbus.io/translated-from": "TrafficSplit.split.smi-spec.io shop/canary"
                },
            },
            "spec": {
                "hosts": [host("web")],
                "gateways": ["mesh"],
                "http": [{"match": [{"port": 80}], "route": shared(80)}],
            },
        }
    ]
    assert told(made) == "TrafficSplit shop/canary became VirtualService shop/canary-split"


HTTP_ONLY = ["http"]
TCP_ONLY = ["tcp"]
BOTH = ["http", "tcp"]
PROTOCOLS: dict[str, tuple[ServicePort, list[str]]] = {
    "http by name": (port(80, "http"), HTTP_ONLY),
    "http by prefix": (port(80, "http-web"), HTTP_ONLY),
    "upper case": (port(80, "HTTP2-x"), HTTP_ONLY),
    "http2": (port(80, "http2"), HTTP_ONLY),
    "grpc": (port(80, "grpc-api"), HTTP_ONLY),
    "grpc-web": (port(80, "grpc-web-api"), HTTP_ONLY),
    "tcp": (port(80, "tcp-raw"), TCP_ONLY),
    "mongo": (port(80, "mongo"), TCP_ONLY),
    "redis": (port(80, "redis"), TCP_ONLY),
    "mysql": (port(80, "mysql"), TCP_ONLY),
    "https": (port(443, "https"), ["tls"]),
    "tls": (port(443, "tls-x"), ["tls"]),
    "no name": (port(80, ""), BOTH),
    "a name that says nothing": (port(80, "web"), BOTH),
    "a number whose server speaks first": (port(3306, "db"), TCP_ONLY),
    "application protocol over name": (port(80, "tcp", app_protocol="http"), HTTP_ONLY),
    "clear text HTTP/2": (port(80, "tcp", app_protocol="kubernetes.io/h2c"), HTTP_ONLY),
    "web socket": (port(80, "x", app_protocol="kubernetes.io/ws"), HTTP_ONLY),
    "secure web socket": (port(443, "x", app_protocol="kubernetes.io/wss"), ["tls"]),
    "an application protocol that says nothing": (port(80, "http", app_protocol="a.b/c"), BOTH),
    "udp": (port(53, "http", protocol="UDP"), []),
    "sctp": (port(80, "http", protocol="SCTP"), []),
}


@pytest.mark.parametrize("case", PROTOCOLS)
def test_protocols(case: str) -> None:
    one, expected = PROTOCOLS[case]
    made = translated(split(), about=facts(services=services(one)))
    assert errors_of(made) == []
    kinds = [kind for kind in ("http", "tcp", "tls") for vs in made.objects if kind in vs["spec"]]
    assert kinds == expected
    assert bool(made.objects) is bool(expected)
    if not expected:
        assert f"port {one.port} was left out (it is {one.protocol}" in told(made)


def test_each_port_has_a_route() -> None:
    about = facts(services=services(port(9090, "grpc"), port(80), port(5432, "tcp")))
    spec = spec_of(translated(split(), about=about))
    assert spec["http"] == [
        {"match": [{"port": 80}], "route": shared(80)},
        {"match": [{"port": 9090}], "route": shared(9090)},
    ]
    assert spec["tcp"] == [{"match": [{"port": 5432}], "route": shared(5432)}]


def test_a_tls_port_is_routed_by_name() -> None:
    made = translated(split(), about=facts(services=services(port(443, "https"))))
    names = [host("web"), "web.shop", "web.shop.svc"]
    assert spec_of(made) == {
        "hosts": names,
        "gateways": ["mesh"],
        "tls": [{"match": [{"port": 443, "sniHosts": names}], "route": shared(443)}],
    }
    assert warnings_of(made) == [("spec.service", "tls")]


def test_another_cluster_domain() -> None:
    spec = spec_of(translated(split(), clusterDomain="corp.example"))
    assert spec["hosts"] == ["web.shop.svc.corp.example"]


def test_gateways_by_annotation() -> None:
    about = facts(services=services(port(80), port(81), port(5432, "tcp")))
    spec = spec_of(translated(split(gateways="public, edge/inner,mesh"), about=about))
    assert spec["gateways"] == ["mesh", "public", "edge/inner"]
    in_mesh = {"gateways": ["mesh"]}
    assert [route["match"] for route in spec["http"]] == [
        [{"port": 80, **in_mesh}, {"gateways": ["public", "edge/inner"]}],
        [{"port": 81, **in_mesh}],
    ]
    assert spec["tcp"][0]["match"] == [{"port": 5432, **in_mesh}]


@pytest.mark.parametrize("root", ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"])
def test_a_service_may_be_a_host_name(root: str) -> None:
    assert spec_of(translated(split(root=root))) == spec_of(translated(split()))


# ---- Weights -------------------------------------------------------------------------------------

WEIGHTS: dict[str, tuple[str, list[Any], list[int | None]]] = {
    "need not sum to 100": ("v1alpha4", [1000, 500], [1000, 500]),
    "0 takes a backend out, one is left": ("v1alpha4", [1, 0], [None]),
    "whole though written otherwise": ("v1alpha2", [3.0, 1], [3, 1]),
    "thousandths": ("v1alpha1", ["900m", "100m"], [9, 1]),
    "mixed quantities": ("v1alpha1", ["1", "500m"], [2, 1]),
    "decimals": ("v1alpha1", [0.25, "1.5"], [1, 6]),
    "thousands": ("v1alpha1", ["1k", 1], [1000, 1]),
    "binary and exponent": ("v1alpha1", ["1Ki", "1e3"], [1024, 1000]),
    "as large as they may be": ("v1alpha4", [2**31 - 1, 1], [2**31 - 1, 1]),
    "larger, with a divisor": ("v1alpha4", [3 * 2**40, 2**40], [3, 1]),
    "larger, and one tiny": ("v1alpha4", [2**50, 1], [2**31 - 1, 1]),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(case: str) -> None:
    version, given, expected = WEIGHTS[case]
    backends = list(zip(("web-v1", "web-v2"), given, strict=True))
    route = spec_of(translated(split(backends=backends, version=version)))["http"][0]["route"]
    assert [one.get("weight") for one in route] == expected


def test_a_backend_that_stands_there_twice_gets_the_sum() -> None:
    backends = [("web-v1", 1), ("web-v2", 1), ("web-v1", 2)]
    route = spec_of(translated(split(backends=backends)))["http"][0]["route"]
    assert route == [to("web-v1", 80, 3), to("web-v2", 80, 1)]


def test_all_weights_zero_answers_503() -> None:
    made = translated(split(backends=[("web-v1", 0), ("web-v2", 0)]))
    expected = {"match": [{"port": 80}], "directResponse": {"status": 503}}
    assert spec_of(made)["http"] == [expected]
    assert "all weights are 0, so requests are answered 503" in told(made)


def test_all_weights_zero_leaves_tcp_to_the_root() -> None:
    about = facts(services=services(port(80, "tcp")))
    made = translated(split(backends=[("web-v1", 0), ("web-v2", 0)]), about=about)
    assert (made.objects, errors_of(made)) == ([], [])
    assert warnings_of(made) == [("spec.service", "weights")]
    assert "port 80 was left out (all weights are 0, but Istio has no rule" in told(made)


# ---- Ports and Services that are missing ---------------------------------------------------------


def test_a_backend_without_a_port_gets_nothing_of_it() -> None:
    about = facts(
        services=[
            service("web", port(80), port(81)),
            service("web-v1", port(80), port(81)),
            service("web-v2", port(80), port(81, "http", protocol="UDP")),
        ]
    )
    made = translated(split(), about=about)
    assert spec_of(made)["http"] == [
        {"match": [{"port": 80}], "route": shared(80)},
        {"match": [{"port": 81}], "route": [to("web-v1", 81)]},
    ]
    assert warnings_of(made) == [("spec.backends[1].service", "ports")]
    assert "backend web-v2 was left out (it has no port 81" in told(made)


def test_a_port_that_no_backend_has_stays_with_the_root() -> None:
    about = facts(
        services=[service("web", port(80), port(81))]
        + [service(name, port(80)) for name in ("web-v1", "web-v2")]
    )
    made = translated(split(), about=about)
    assert [route["match"] for route in spec_of(made)["http"]] == [[{"port": 80}]]
    assert "port 81 was left out (no backend has it" in told(made)


def test_a_split_may_come_before_its_root() -> None:
    made = translated(split(), about=facts(services=services(port(80))[1:]))
    assert spec_of(made)["http"] == [{"route": shared(None)}]
    assert warnings_of(made) == [("spec.service", "reference")]


def test_a_backend_that_is_not_there_is_left_out() -> None:
    made = translated(split(), about=facts(services=services(port(80))[:2]))
    assert spec_of(made)["http"][0]["route"] == [to("web-v1", 80)]
    assert warnings_of(made) == [("spec.backends[1].service", "reference")]


def test_a_backend_of_weight_0_need_not_be_there_yet() -> None:
    given = split(backends=[("web-v1", 100), ("web-v2", 0)])
    made = translated(given, about=facts(services=services(port(80))[:2]))
    assert made.findings == []
    assert "backend web-v2 was left out (it has weight 0 and is not there yet)" in told(made)


def test_before_any_backend_is_there_requests_go_where_they_went() -> None:
    """The root may not be there either: nothing is answered that was not answered before."""
    made = translated(split(), about=facts(services=[]))
    host = "web.shop.svc.cluster.local"
    assert spec_of(made)["http"] == [{"route": [{"destination": {"host": host}}]}]
    assert "none of the backends that would get a share is there yet; requests keep" in told(made)


def test_a_backend_of_weight_0_does_not_stand_in_for_those_that_are_not_there() -> None:
    """`web-v1` has no share, and whoever has one is not there: the root goes on."""
    given = split(backends=[("web-v1", 0), ("web-v2", 1)])
    for number in (80, 5432):
        about = facts(services=services(port(number, "http" if number == 80 else "tcp"))[:2])
        made = translated(given, about=about)
        routes = spec_of(made)["http"] if made.objects else []
        assert [route["route"] for route in routes] == ([[to("web", 80)]] if number == 80 else [])
        assert "none of the backends that would get a share is there yet" in told(made)


def test_without_facts_every_port_counts_as_http() -> None:
    made = translated(split(), about=facts(known=[]))
    assert spec_of(made)["http"] == [{"route": shared(None)}]
    assert made.findings == []
    assert "is not known, so all its ports count as HTTP" in told(made)


# ---- Splits that contradict ----------------------------------------------------------------------


@pytest.mark.parametrize("is_known", [True, False])
def test_two_splits_of_one_root_contradict(is_known: bool) -> None:
    first, second = split("one"), split("two")
    made = translated(first, known=[second]) if is_known else translated(first, second)
    assert made.objects == []
    messages = [str(one) for one in made.findings if one.rule == "conflict"]
    assert len(messages) == (1 if is_known else 2)
    assert "TrafficSplit shop/one: spec.service: TrafficSplit shop/two splits" in messages[0]


def test_many_splits_of_one_root_are_one_finding_each() -> None:
    made = translated(*(split(f"s{number}") for number in range(200)))
    messages = [one.message for one in made.findings if one.rule == "conflict"]
    assert len(messages) == 200
    assert messages[0] == "TrafficSplit shop/s1 and 198 more split the Service web too"


def test_a_known_split_of_the_same_name_is_replaced() -> None:
    assert translated(split(), known=[split(backends=[("web-v1", 1)])]).findings == []


def test_a_split_of_another_namespace_is_no_conflict() -> None:
    other = split("other")
    other["metadata"]["namespace"] = "elsewhere"
    assert errors_of(translated(split(), known=[other])) == []


def test_a_split_cannot_refer_to_itself() -> None:
    made = translated(split(backends=[("web-v1", 1), ("web", 9)]))
    assert errors_of(made) == [("spec.backends[1].service", "self-reference")]
    assert made.objects == []


def test_splits_do_not_cascade() -> None:
    made = translated(split(), known=[split("inner", root="web-v2", backends=[("web-v1", 1)])])
    assert spec_of(made)["http"][0]["route"] == shared(80)
    assert warnings_of(made) == [("spec.backends[1].service", "hierarchy")]


# ---- Matches -------------------------------------------------------------------------------------

CONDITIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "start-anchored text is a prefix": (match("a", "/metrics"), {"uri": {"prefix": "/metrics"}}),
    "an anchor at the start says nothing new": (match("a", "^/x"), {"uri": {"prefix": "/x"}}),
    "text to the end": (match("a", "/x$"), {"uri": {"exact": "/x"}}),
    "an escaped mark is text": (match("a", r"/a\.b\$"), {"uri": {"prefix": "/a.b$"}}),
    "any path": (match("a", ".*"), {}),
    "no path": (match("a"), {}),
    "a pattern": (match("a", "/api/v[0-9]+"), {"uri": {"regex": "(?:/api/v[0-9]+).*"}}),
    "a pattern to the end": (match("a", "^/v[0-9]+$"), {"uri": {"regex": "(?:/v[0-9]+)"}}),
    "an escaped dollar is no end": (match("a", r"/[a]\$"), {"uri": {"regex": r"(?:/[a]\$).*"}}),
    "alternatives keep their meaning": (match("a", "/a|/b$"), {"uri": {"regex": "(?:/a|/b$).*"}}),
    "one method": (match("a", None, "GET"), {"method": {"exact": "GET"}}),
    "methods": (match("a", None, "HEAD", "GET"), {"method": {"regex": "GET|HEAD"}}),
    "any method": (match("a", None, "GET", "*"), {}),
    "a header": (match("a", Cookie="^(.*?;)?x"), {"headers": {"cookie": {"regex": "^(.*?;)?x"}}}),
    "a header's text": (match("a", x_id="7"), {"headers": {"x-id": {"exact": "7"}}}),
    "the host": (match("a", Host=".*example"), {"authority": {"regex": ".*example"}}),
    "everything at once": (
        match("a", "/api", "GET", x_a="1", x_b=".*"),
        {
            "uri": {"prefix": "/api"},
            "method": {"exact": "GET"},
            "headers": {"x-a": {"exact": "1"}, "x-b": {"regex": ".*"}},
        },
    ),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_conditions(case: str) -> None:
    one, expected = CONDITIONS[case]
    http = spec_of(translated(split(matches=["routes"]), group(one)))["http"]
    assert http == [
        {"match": [{"port": 80, **expected}], "route": shared(80)},
        {"match": [{"port": 80}], "route": [to("web", 80)]},
    ]


def test_all_matches_of_all_groups_are_alternatives() -> None:
    groups = [
        group(match("a", "/a"), match("b", "/b")),
        group(match("a", "/c"), match("same", "/a"), name="others"),
    ]
    made = translated(split(matches=["routes", "others"]), known=groups)
    assert spec_of(made)["http"][0]["match"] == [
        {"port": 80, "uri": {"prefix": path}} for path in ("/a", "/b", "/c")
    ]


def test_headers_as_a_list() -> None:
    one = {"name": "a", "headers": [{"x-a": "1"}, {"X-B": "2"}]}
    http = spec_of(translated(split(matches=["routes"]), group(one, version="v1alpha3")))["http"]
    assert http[0]["match"][0]["headers"] == {"x-a": {"exact": "1"}, "x-b": {"exact": "2"}}


def test_two_patterns_for_one_header_are_refused() -> None:
    one = {"name": "a", "headers": [{"x-a": "1.*"}, {"X-A": ".*2"}]}
    made = translated(split(matches=["routes"]), group(one))
    assert errors_of(made) == [("spec.matches", "unsupported")]


def test_matches_are_about_http_only() -> None:
    about = facts(services=services(port(80), port(81, ""), port(82, "tcp"), port(443, "https")))
    made = translated(split(matches=["routes"]), group(match("a", "/a")), about=about)
    spec = spec_of(made)
    assert set(spec) == {"hosts", "gateways", "http"}
    assert [route["match"][0]["port"] for route in spec["http"]] == [80, 80, 81, 81]
    for number in (81, 82, 443):
        assert f"port {number} was left out (matches are about HTTP" in told(made)


def test_matches_without_known_ports() -> None:
    made = translated(split(matches=["routes"]), group(match("a", "/a")), about=facts(known=[]))
    assert spec_of(made)["http"] == [
        {"match": [{"uri": {"prefix": "/a"}}], "route": shared(None)},
        {"route": [to("web", None)]},
    ]


def test_a_match_for_everything_needs_no_other_route() -> None:
    made = translated(split(matches=["routes"]), group(match("a")), about=facts(known=[]))
    assert spec_of(made)["http"] == [{"route": shared(None)}]


def test_a_missing_group_is_an_error() -> None:
    made = translated(split(matches=["nowhere"]))
    assert errors_of(made) == [("spec.matches[0].name", "reference")]
    assert made.objects == []


def test_a_known_split_is_translated_again_when_its_group_changes() -> None:
    known = [split(matches=["routes"]), group(match("a", "/old"))]
    made = translated(group(match("a", "/new")), known=known)
    assert spec_of(made)["http"][0]["match"] == [{"port": 80, "uri": {"prefix": "/new"}}]
    assert "it is used by TrafficSplit shop/canary" in told(made)


def test_a_known_split_stays_alone_otherwise() -> None:
    known = [split(matches=["others"]), group(match("a"), name="others")]
    assert translated(group(match("a", "/new")), known=known, about=WEB).objects == []
