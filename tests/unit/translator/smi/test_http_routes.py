"""TrafficSplit as routes of the Gateway API."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.messages.facts import ClusterFacts
from services.translator.istio.versions import by_priority
from services.translator.reports import Report
from tests.unit.translator.smi.samples import (
    errors_of,
    facts,
    group,
    match,
    port,
    services,
    spec_of,
    split,
    told,
    translated,
    warnings_of,
)

TCP_ROUTES = "gateway.networking.k8s.io/TCPRoute"
DEFAULT = {"path": {"type": "RegularExpression", "value": ".*"}}


def routed(*given: Any, about: ClusterFacts | None = None, **options: Any) -> Report:
    return translated(*given, about=about, form="gateway-api", **options)


def reference(name: str, weight: int, number: int = 80) -> dict[str, Any]:
    return {"group": "", "kind": "Service", "name": name, "port": number, "weight": weight}


SHARED = [reference("web-v1", 90), reference("web-v2", 10)]
PARENT = {"group": "", "kind": "Service", "name": "web", "port": 80}


def test_a_split_becomes_a_route_of_its_root() -> None:
    made = routed(split())
    assert made.findings == []
    (route,) = made.objects
    assert (route["apiVersion"], route["kind"]) == ("gateway.networking.k8s.io/v1", "HTTPRoute")
    assert route["metadata"]["name"] == "canary-split-80"
    assert route["spec"] == {"parentRefs": [PARENT], "rules": [{"backendRefs": SHARED}]}


def test_each_port_has_a_route_of_its_own() -> None:
    made = routed(split(), about=facts(services=services(port(81, "grpc"), port(80))))
    assert [one["metadata"]["name"] for one in made.objects] == [
        "canary-split-80",
        "canary-split-81",
    ]


def test_weight_0_stays() -> None:
    rules = spec_of(routed(split(backends=[("web-v1", 0), ("web-v2", 0)])))["rules"]
    assert rules == [{"backendRefs": [reference("web-v1", 0), reference("web-v2", 0)]}]


def test_before_any_backend_is_there_requests_keep_going_to_the_root() -> None:
    given = split(backends=[("web-v1", 0), ("web-v2", 1)])
    made = routed(given, about=facts(services=services(port(80))[:2]))
    assert spec_of(made)["rules"] == [{"backendRefs": [reference("web", 1)]}]
    assert "none of the backends that would get a share is there yet" in told(made)


def test_weights_stay_below_a_million() -> None:
    rules = spec_of(routed(split(backends=[("web-v1", 3_000_001), ("web-v2", 1)])))["rules"]
    assert [one["weight"] for one in rules[0]["backendRefs"]] == [1_000_000, 1]


PATHS: dict[str, tuple[str, dict[str, str] | None]] = {
    "any": (".*", None),
    "exact": ("/x$", {"type": "Exact", "value": "/x"}),
    "elements": ("/x(/.*)?$", {"type": "PathPrefix", "value": "/x"}),
    "elements in short": ("/x(/|$)", {"type": "PathPrefix", "value": "/x"}),
    "text is no PathPrefix": ("/x", {"type": "RegularExpression", "value": "(?:/x).*"}),
    "nor with a slash": ("/x/", {"type": "RegularExpression", "value": "(?:/x/).*"}),
    "what the API would not take": ("//x$", {"type": "RegularExpression", "value": "(?://x)"}),
    "dots": ("/\\.\\./x$", {"type": "RegularExpression", "value": "(?:/\\.\\./x)"}),
    "a pattern": ("/v[12]", {"type": "RegularExpression", "value": "(?:/v[12]).*"}),
}


@pytest.mark.parametrize("case", PATHS)
def test_paths(case: str) -> None:
    pattern, expected = PATHS[case]
    rules = spec_of(routed(split(matches=["routes"]), group(match("a", pattern))))["rules"]
    assert rules == [
        {"matches": [{"path": expected} if expected else {}], "backendRefs": SHARED},
        {"matches": [DEFAULT], "backendRefs": [reference("web", 1)]},
    ]


def test_methods_and_headers() -> None:
    given = group(match("a", "/x$", "GET", "PUT", x_a="1", host=".*corp"))
    rules = spec_of(routed(split(matches=["routes"]), given))["rules"]
    condition = {
        "path": {"type": "Exact", "value": "/x"},
        "headers": [
            {"type": "RegularExpression", "name": "host", "value": ".*corp"},
            {"type": "Exact", "name": "x-a", "value": "1"},
        ],
    }
    assert rules[0]["matches"] == [
        {**condition, "method": "GET"},
        {**condition, "method": "PUT"},
    ]


def test_many_matches_are_spread_over_rules() -> None:
    given = group(*(match(f"m{at}", f"/{at}$") for at in range(100)))
    rules = spec_of(routed(split(matches=["routes"]), given))["rules"]
    assert [len(one["matches"]) for one in rules] == [64, 36, 1]


def test_limits_of_the_api() -> None:
    given = group(*(match(f"m{at}", f"/{at}$") for at in range(128)))
    assert errors_of(routed(split(matches=["routes"]), given)) == [("spec", "unsupported")]
    headers = {f"x-{at}": "1" for at in range(17)}
    given = group(match("a", None, **headers))
    assert errors_of(routed(split(matches=["routes"]), given)) == [("spec", "unsupported")]
    backends = [(f"web-{at}", 1) for at in range(17)]
    about = facts(
        services=[
            one.model_copy(update={"name": name})
            for one in services(port(80))[:1]
            for name in ("web", *(name for name, _ in backends))
        ]
    )
    assert errors_of(routed(split(backends=backends), about=about)) == [("spec", "unsupported")]


def test_tcp_ports_need_a_kind_that_is_served() -> None:
    about = facts(services=services(port(5432, "tcp")))
    made = routed(split(), about=about)
    assert (made.objects, errors_of(made)) == ([], [])
    assert warnings_of(made) == [("spec.service", "unsupported")]
    served = {TCP_ROUTES: ["v1alpha2", "v1"]}
    made = routed(split(), about=about.model_copy(update={"served": served}))
    (route,) = made.objects
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["kind"] == "TCPRoute"
    assert route["spec"] == {
        "parentRefs": [{**PARENT, "port": 5432}],
        "rules": [{"backendRefs": [reference("web-v1", 90, 5432), reference("web-v2", 10, 5432)]}],
    }


def test_what_has_no_route_is_told() -> None:
    about = facts(
        services=services(port(80, ""), port(81, "tcp"), port(443, "https")),
        served={TCP_ROUTES: ["v1"]},
    )
    made = routed(split(matches=["routes"]), group(match("a")), about=about)
    assert [one["kind"] for one in made.objects] == ["HTTPRoute"]
    assert "port 80 was left out (its protocol is found out at run time; only HTTP" in told(made)
    assert "port 81 was left out (matches are about HTTP" in told(made)
    assert "port 443 was left out (TLS ports are only translated" in told(made)


@pytest.mark.parametrize("about", [facts(), facts(known=[])])
def test_without_ports_there_is_no_route(about: ClusterFacts) -> None:
    made = routed(split(), about=about)
    assert (made.objects, errors_of(made)) == ([], [])
    assert "all ports was left out (a route of the Gateway API names its port" in told(made)


def test_gateways_are_left_out() -> None:
    made = routed(split(gateways="public"))
    assert len(made.objects) == 1
    assert warnings_of(made) == [("spec.service", "unsupported")]


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["v1alpha2", "v1"], "v1"),
        (["v1alpha3", "v1beta1"], "v1beta1"),
        (["v1alpha2", "v1alpha10"], "v1alpha10"),
        (["v1", "v2alpha1"], "v1"),
        (["odd", "v1alpha1"], "v1alpha1"),
    ],
)
def test_newest(versions: list[str], expected: str) -> None:
    assert by_priority(versions)[0] == expected
