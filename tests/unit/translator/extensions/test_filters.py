"""EnvoyFilters: each rule with what breaks it and what does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from services.chassis.errors import OptionsMalformed
from services.chassis.kube.objects import KubeObject
from services.translator.extensions.filters import check_filter
from services.translator.reports import Level
from tests.unit.translator.objects import envoy_filter, networking, patch

LUA = {
    "name": "envoy.filters.http.lua",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "inlineCode": "function envoy_on_request(h) end",
    },
}
V2 = "type.googleapis.com/envoy.config.filter.http.lua.v2.Lua"
LISTENER_V2 = "type.googleapis.com/envoy.api.v2.Listener"
REMOTE = {"http_uri": {"uri": "https://a/b.wasm"}}
WIDE: dict[str, Any] = {"workloadSelector": None}


def at_version(pattern: str) -> dict[str, Any]:
    return {"proxy": {"proxyVersion": pattern}}


def after(name: str, sub: str = "") -> dict[str, Any]:
    """Matches a filter of a listener's filter chain."""
    found: dict[str, Any] = {"name": name, **({"subFilter": {"name": sub}} if sub else {})}
    return {"listener": {"filterChain": {"filter": found}}}


def plugin(code: dict[str, Any]) -> dict[str, Any]:
    config = {"@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"}
    return {"name": "a", "typed_config": {**config, "config": {"vm_config": {"code": code}}}}


# (level, rule, place below spec) of all findings.
Told = tuple[str, str, str]
FIRST = "configPatches[0]"
NAME = f"{FIRST}.match.listener.filterChain.filter"
VERSION = f"{FIRST}.match.proxy.proxyVersion"
CASES: dict[str, tuple[KubeObject, list[Told]]] = {
    "merge": (envoy_filter(patch("MERGE", LUA)), []),
    "insert first": (envoy_filter(patch("INSERT_FIRST", LUA)), []),
    "insert before": (
        envoy_filter(patch("INSERT_BEFORE", LUA)),
        [("warning", "IST0151", f"{FIRST}.patch.operation")],
    ),
    "insert before with priority": (envoy_filter(patch("INSERT_BEFORE", LUA), priority=10), []),
    "remove a filter": (
        envoy_filter(patch("REMOVE")),
        [("warning", "IST0151", f"{FIRST}.patch.operation")],
    ),
    "replace a filter": (
        envoy_filter(patch("REPLACE", LUA)),
        [("warning", "IST0151", f"{FIRST}.patch.operation")],
    ),
    "replace a cluster": (
        envoy_filter(patch("REPLACE", {}, apply_to="CLUSTER")),
        [("error", "IST0152", f"{FIRST}.patch.operation")],
    ),
    "replace a virtual host with priority": (
        envoy_filter(patch("REPLACE", {}, apply_to="VIRTUAL_HOST"), priority=1),
        [],
    ),
    "add a route": (
        envoy_filter(patch("ADD", {}, apply_to="HTTP_ROUTE")),
        [("error", "IST0153", f"{FIRST}.patch.operation")],
    ),
    "add a cluster": (envoy_filter(patch("ADD", {"name": "a"}, apply_to="CLUSTER")), []),
    "remove a route configuration": (
        envoy_filter(patch("REMOVE", apply_to="ROUTE_CONFIGURATION")),
        [("error", "IST0154", f"{FIRST}.patch.operation")],
    ),
    "relative to a filter that depends on the version": (
        envoy_filter(
            patch("MERGE", LUA, match=at_version(r"^1\.31.*")),
            patch("INSERT_AFTER", LUA),
        ),
        [("warning", "IST0155", "configPatches[1].patch.operation")],
    ),
    "relative to another filter than the one that depends on the version": (
        envoy_filter(
            patch("MERGE", LUA, match=at_version(r"^1\.31.*")),
            patch("INSERT_AFTER", {**LUA, "name": "other"}),
        ),
        [("warning", "IST0151", "configPatches[1].patch.operation")],
    ),
    "a version that the target is": (
        envoy_filter(patch("MERGE", LUA, match=at_version(r"^1\.31.*"))),
        [],
    ),
    "a version that the target is not": (
        envoy_filter(patch("MERGE", LUA, match=at_version(r"^1\.9.*"))),
        [("warning", "filter/version-match", VERSION)],
    ),
    "every version": (
        envoy_filter(patch("MERGE", LUA, match=at_version(".*"))),
        [("warning", "filter/version-match", VERSION)],
    ),
    "an expression that cannot be read": (
        envoy_filter(patch("MERGE", LUA, match=at_version("1.(31"))),
        [("error", "filter/version-match", VERSION)],
    ),
    "an expression that RE2 does not have": (
        envoy_filter(patch("MERGE", LUA, match=at_version(r"^(?!1\.30)"))),
        [("error", "filter/version-match", VERSION)],
    ),
    "an expression that is too long": (
        envoy_filter(patch("MERGE", LUA, match=at_version("1" * 1025))),
        [("error", "filter/version-match", VERSION)],
    ),
    "a former name that is looked for": (
        envoy_filter(patch("MERGE", LUA, match=after("envoy.http_connection_manager"))),
        [("warning", "filter/former-name", f"{NAME}.name")],
    ),
    "a former name below today's": (
        envoy_filter(
            patch(
                "MERGE",
                LUA,
                match=after("envoy.filters.network.http_connection_manager", "envoy.router"),
            )
        ),
        [("warning", "filter/former-name", f"{NAME}.subFilter.name")],
    ),
    "names of today": (
        envoy_filter(
            patch(
                "MERGE",
                LUA,
                match=after(
                    "envoy.filters.network.http_connection_manager", "envoy.filters.http.router"
                ),
            )
        ),
        [],
    ),
    "a filter that is gone": (
        envoy_filter(patch("MERGE", LUA, match=after("mixer"))),
        [("warning", "filter/gone", f"{NAME}.name")],
    ),
    "a former name that is given": (
        envoy_filter(patch("MERGE", {**LUA, "name": "envoy.lua"})),
        [("info", "filter/former-name", f"{FIRST}.patch.value.name")],
    ),
    "a former name of a route's settings": (
        envoy_filter(
            patch(
                "MERGE",
                {"typed_per_filter_config": {"envoy.lua": {"@type": "type.googleapis.com/a.B"}}},
                apply_to="HTTP_ROUTE",
            )
        ),
        [
            (
                "warning",
                "filter/former-name",
                f'{FIRST}.patch.value.typed_per_filter_config["envoy.lua"]',
            )
        ],
    ),
    "a filter without a typed config": (
        envoy_filter(patch("INSERT_FIRST", {"name": "envoy.filters.http.lua"})),
        [("error", "filter/untyped", f"{FIRST}.patch.value")],
    ),
    "a filter that is discovered": (
        envoy_filter(patch("INSERT_FIRST", {"name": "a", "config_discovery": {}})),
        [],
    ),
    "a typed config without a type": (
        envoy_filter(patch("MERGE", {"name": "a", "typed_config": {}})),
        [("error", "filter/untyped", f"{FIRST}.patch.value.typed_config")],
    ),
    "a type of the v2 API": (
        envoy_filter(patch("MERGE", {"name": "a", "typed_config": {"@type": V2}})),
        [("error", "filter/former-type", f'{FIRST}.patch.value.typed_config["@type"]')],
    ),
    "a listener of the v2 API": (
        envoy_filter(patch("MERGE", {"@type": LISTENER_V2}, apply_to="LISTENER")),
        [("error", "filter/former-type", f'{FIRST}.patch.value["@type"]')],
    ),
    "a type of Istio's own, which is v2alpha1": (
        envoy_filter(
            patch(
                "MERGE",
                {
                    "name": "a",
                    "typed_config": {
                        "@type": "type.googleapis.com/istio.envoy.config.filter.http.alpn"
                        ".v2alpha1.FilterConfig"
                    },
                },
            )
        ),
        [],
    ),
    "code from afar without a checksum": (
        envoy_filter(patch("MERGE", plugin({"remote": REMOTE}))),
        [
            (
                "warning",
                "filter/unpinned",
                f"{FIRST}.patch.value.typed_config.config.vm_config.code.remote",
            )
        ],
    ),
    "code from afar with a checksum": (
        envoy_filter(patch("MERGE", plugin({"remote": {**REMOTE, "sha256": "ab"}}))),
        [],
    ),
    "code from a file": (
        envoy_filter(patch("MERGE", plugin({"local": {"filename": "/a.wasm"}}))),
        [],
    ),
    "selector and targets": (
        envoy_filter(targetRefs=[{"kind": "Gateway", "name": "a"}]),
        [("error", "filter/scope", "targetRefs")],
    ),
    "a whole namespace": (envoy_filter(**WIDE), [("info", "filter/namespace-wide", "")]),
    "a selector without labels": (
        envoy_filter(workloadSelector={"labels": {}}),
        [("info", "filter/namespace-wide", "")],
    ),
    "the whole mesh": (
        envoy_filter(namespace="istio-system", **WIDE),
        [("warning", "filter/mesh-wide", "")],
    ),
    "a workload in the root namespace": (envoy_filter(namespace="istio-system"), []),
    "the form before patches": (
        envoy_filter(filters=[], workloadLabels={}),
        [("error", "filter/form", "filters"), ("error", "filter/form", "workloadLabels")],
    ),
    "another kind": (networking("Gateway", {"configPatches": [patch("REMOVE")]}), []),
}


@pytest.mark.parametrize("case", CASES)
def test_findings(case: str) -> None:
    given, expected = CASES[case]
    before = copy.deepcopy(given)
    found = check_filter(given, target="1.31.0")
    assert given == before
    told = [(f.level.value, f.rule, f.place.removeprefix("spec").removeprefix(".")) for f in found]
    assert told == expected


@pytest.mark.parametrize(
    ("pattern", "target", "stops"),
    [
        (r"^1\.30.*", "1.30.3", False),
        (r"^1\.30.*", "1.31.0", True),
        (r"^1\.31\.\d+$", "1.31", False),
        (r"^1\.31\.\d+$", "1.31.0-rc.0", True),
        (r"1\.3", "1.31.0", False),
        (r"^1\.(30|31)", "1.31.2", False),
        (r"^1\.30.*", None, False),
    ],
)
def test_a_version_is_searched_as_istiod_does(
    pattern: str, target: str | None, stops: bool
) -> None:
    given = envoy_filter(patch("MERGE", LUA, match=at_version(pattern)))
    found = check_filter(given, target=target)
    assert [finding.level for finding in found] == ([Level.WARNING] if stops else [])


@pytest.mark.parametrize(
    ("former", "sort", "current"),
    [
        ("envoy.ratelimit", "http", "envoy.filters.http.ratelimit"),
        ("envoy.ratelimit", "network", "envoy.filters.network.ratelimit"),
        ("envoy.ext_authz", "network", "envoy.filters.network.ext_authz"),
        ("envoy.lua", "http", "envoy.filters.http.lua"),
    ],
)
def test_the_type_settles_what_a_former_name_is_today(former: str, sort: str, current: str) -> None:
    config = {"@type": f"type.googleapis.com/envoy.extensions.filters.{sort}.a.v3.A"}
    given = envoy_filter(patch("MERGE", {"name": former, "typed_config": config}))
    [finding] = check_filter(given, target=None)
    assert finding.remedy == f"write {current}"


def test_the_name_of_what_is_no_filter_is_left_alone() -> None:
    given = envoy_filter(patch("ADD", {"name": "envoy.lua"}, apply_to="CLUSTER"))
    assert check_filter(given, target=None) == []


def test_the_root_namespace_can_be_another() -> None:
    given = envoy_filter(namespace="mesh", **WIDE)
    [finding] = check_filter(given, target=None, root_namespace="mesh")
    assert finding.rule == "filter/mesh-wide"


def test_a_target_that_is_no_version_is_refused() -> None:
    given = envoy_filter(patch("MERGE", LUA, match=at_version(r"^1\.31")))
    with pytest.raises(OptionsMalformed):
        check_filter(given, target="newest")
