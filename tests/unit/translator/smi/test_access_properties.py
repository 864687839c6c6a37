"""What a TrafficTarget becomes allows what SMI allows: nothing more, and nothing less."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.kube.objects import KubeObject
from services.translator.smi.patterns import path_globs, value_globs
from services.translator.smi.permitting import path_patterns, value_pattern
from tests.unit.translator.smi.samples import (
    DOMAIN,
    NAMESPACE,
    account,
    errors_of,
    facts,
    group,
    rule,
    target,
    tcp_route,
    translated,
    workload,
)
from tests.unit.translator.smi.semantics import Attempt, istio_allows, smi_allows

ACCOUNTS = ("api", "db", "web", "probe")
FACTS = facts(
    workloads=[
        *(workload(name) for name in ACCOUNTS),
        workload("api-next", runs_as="api", app="api-next"),
    ]
)
WORDS = ("/a", "/b", "/ab", "/", "a", "/a/b", "x")

texts = st.sampled_from(WORDS)
convertible_paths = st.one_of(
    st.sampled_from(
        ["", ".*", ".+", "^/a", "/a/[^/]+", "/a/[^/]+$", "/a/[^/]+/b$", "/(a|b)/[^/]+/.*"]
    ),
    st.builds(
        "".join, st.tuples(texts, st.sampled_from(["", "$", ".*", "(/.*)?$", "(/|$)", "/?$"]))
    ),
    st.builds("{}|{}".format, texts, texts.map("{}$".format)),
    texts.map(".*{}$".format),
)
any_paths = st.one_of(
    convertible_paths,
    st.sampled_from(["/[ab]", "/a.b", ".*b", "/a+", r"/\w+", "/a/.+", "(?i)/a", "/x/[^/]+y"]),
)
convertible_values = st.sampled_from(["1", "1.*", ".*1", ".*", "1|2", "^12$"])
any_values = st.one_of(convertible_values, st.sampled_from([".+", "[12]", ".*1.*", "1?2"]))
methods = st.sampled_from(["GET", "POST", "PUT"])


def matches_of(paths: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> Any:
    headers = st.dictionaries(st.sampled_from(["x-a", "X-B"]), values, max_size=2)
    fields = {
        "pathRegex": paths,
        "methods": st.lists(st.one_of(methods, st.just("*")), unique=True, max_size=2),
        "headers": headers,
    }
    one = st.fixed_dictionaries({}, optional=fields)
    return st.lists(one, min_size=1, max_size=3).map(
        lambda found: [{"name": f"m{at}", **match} for at, match in enumerate(found)]
    )


def worlds(paths: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> Any:
    """Targets with the routes that they refer to."""
    ports = st.lists(st.sampled_from([80, 81]), unique=True, max_size=2)
    rules = st.lists(
        st.sampled_from(
            [
                rule("HTTPRouteGroup", "g0"),
                rule("HTTPRouteGroup", "g1"),
                rule("HTTPRouteGroup", "g0", "m0"),
                rule("TCPRoute", "t0"),
                rule("TCPRoute", "t1"),
            ]
        ),
        min_size=1,
        max_size=3,
    )
    sources = st.lists(
        st.builds(account, st.sampled_from(["web", "probe"]), st.sampled_from(["shop", "other"])),
        min_size=1,
        max_size=2,
    )
    one = st.tuples(rules, sources, st.sampled_from(["api", "db"]))
    matches = matches_of(paths, values)

    def built(targets: list[Any], groups: list[Any], routes: list[Any]) -> list[KubeObject]:
        return [
            *(
                target(f"t{at}", rules=some, sources=froms, destination=account(name))
                for at, (some, froms, name) in enumerate(targets)
            ),
            *(group(*found, name=f"g{at}") for at, found in enumerate(groups)),
            *(tcp_route(*found, name=f"t{at}") for at, found in enumerate(routes)),
        ]

    return st.builds(
        built,
        st.lists(one, min_size=1, max_size=3),
        st.lists(matches, min_size=2, max_size=2),
        st.lists(ports, min_size=2, max_size=2),
    )


paths = st.lists(st.sampled_from(["a", "b", "ab", "x", ""]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
attempts = st.builds(
    lambda source, one, port, path, method, headers: Attempt(
        source=source,
        account=one.service_account,
        labels=one.labels,
        port=port,
        path=path,
        method=method,
        headers=headers,
    ),
    st.tuples(st.sampled_from(["shop", "other"]), st.sampled_from(["web", "probe", "api"])),
    st.sampled_from(FACTS.workloads),
    st.sampled_from([80, 81, 82]),
    st.one_of(st.none(), paths),
    methods,
    st.dictionaries(
        st.sampled_from(["x-a", "x-b"]), st.sampled_from(["", "1", "2", "12", "21"]), max_size=2
    ),
)


def policies_of(objects: list[KubeObject], **options: Any) -> list[KubeObject]:
    made = translated(*objects, about=FACTS, **options)
    return [*made.objects, *made.kept]


@settings(max_examples=150)
@given(worlds(convertible_paths, convertible_values), st.lists(attempts, min_size=5, max_size=15))
def test_exactly_what_smi_allows_is_allowed(world: list[KubeObject], tries: list[Attempt]) -> None:
    made = translated(*world, about=FACTS)
    assert errors_of(made) == []
    policies = [*made.objects, *made.kept]
    for attempt in tries:
        expected = smi_allows(world, attempt, namespace=NAMESPACE)
        assert istio_allows(policies, attempt, trust_domain=DOMAIN) is expected


@settings(max_examples=150)
@given(worlds(any_paths, any_values), st.lists(attempts, min_size=5, max_size=15))
def test_never_more_than_smi_allows_when_something_is_left_out(
    world: list[KubeObject], tries: list[Attempt]
) -> None:
    # Even if a caller applied what a translation with errors gave.
    policies = policies_of(world)
    closed = translated(
        target("t", rules=[rule("TCPRoute", "r")]), tcp_route(name="r"), about=FACTS
    )
    for attempt in tries:
        if istio_allows([*policies, *closed.kept], attempt, trust_domain=DOMAIN):
            assert smi_allows(world, attempt, namespace=NAMESPACE)


@given(worlds(convertible_paths, convertible_values), st.lists(attempts, min_size=5, max_size=15))
def test_another_trust_domain_gets_nowhere(world: list[KubeObject], tries: list[Attempt]) -> None:
    policies = policies_of(world)
    assert not any(istio_allows(policies, attempt, trust_domain="evil") for attempt in tries)


@given(st.one_of(any_paths, st.text(alphabet="/ab.*+?[^]$|(){}\\", max_size=12)), paths)
def test_a_converted_path_means_what_the_pattern_means(pattern: str, path: str) -> None:
    attempt = Attempt(("shop", "web"), "api", {"app": "api"}, 80, path)
    globs = path_globs(pattern)
    written = [path_patterns(glob) for glob in globs] if globs is not None else [None]
    if pattern == "" or None in written:
        return
    world = [target(), group({"name": "m", "pathRegex": pattern})]
    expected = smi_allows(world, attempt, namespace=NAMESPACE)
    assert istio_allows(policies_of(world), attempt, trust_domain=DOMAIN) is expected


@given(
    st.one_of(any_values, st.text(alphabet="12.*+?$|()^", min_size=1, max_size=8)),
    st.text(alphabet="12", max_size=4),
)
def test_a_converted_header_means_what_the_pattern_means(pattern: str, value: str) -> None:
    attempt = Attempt(("shop", "web"), "api", {"app": "api"}, 80, "/", headers={"x": value})
    globs = value_globs(pattern)
    if globs is None or any(value_pattern(glob) is None for glob in globs):
        return
    world = [target(), group({"name": "m", "headers": {"x": pattern}})]
    expected = smi_allows(world, attempt, namespace=NAMESPACE)
    assert istio_allows(policies_of(world), attempt, trust_domain=DOMAIN) is expected
