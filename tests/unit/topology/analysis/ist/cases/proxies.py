"""What configures proxies: Sidecars, Telemetries, EnvoyFilters."""

from __future__ import annotations

from tests.unit.topology.analysis.ist.worlds import Case, cases

_POD = """
---
kind: Pod
metadata: {name: app, labels: {app: HERE, version: v1}}
"""
_AMBIENT_POD = """
---
kind: Pod
metadata:
  name: app
  labels: {app: HERE, version: v1}
  annotations: {ambient.istio.io/redirection: enabled}
"""


def _sidecar(name: str, labels: str = "") -> str:
    selector = f"workloadSelector: {{labels: {{{labels}}}}}, " if labels else ""
    return f"""
---
kind: Sidecar
metadata: {{name: {name}}}
spec: {{{selector}egress: [{{hosts: ["./*"]}}]}}
"""


def _telemetry(name: str, labels: str = "", more: str = "tracing: []") -> str:
    selector = f"selector: {{matchLabels: {{{labels}}}}}, " if labels else ""
    return f"""
---
kind: Telemetry
metadata: {{name: {name}}}
spec: {{{selector}{more}}}
"""


_SIDECARS = ("Sidecar one", "Sidecar two")
_TELEMETRIES = ("Telemetry one", "Telemetry two")
_SELECTORS = [
    *cases(
        "IST0101",
        {
            "name": "sidecar-workload-missing",
            "text": _sidecar("one", "app: HERE"),
            "finds": ("Sidecar one",),
        },
        {"name": "sidecar-workload-there", "text": _sidecar("one", "app: HERE") + _POD},
        {
            "name": "telemetry-workload-missing",
            "text": _telemetry("one", "app: HERE"),
            "finds": ("Telemetry one",),
        },
        {"name": "telemetry-workload-there", "text": _telemetry("one", "app: HERE") + _POD},
    ),
    *cases(
        "IST0110",
        {
            "text": _sidecar("one", "app: HERE") + _sidecar("two", "version: v1") + _POD,
            "finds": _SIDECARS,
        },
        {"text": _sidecar("one", "app: HERE") + _sidecar("two") + _POD},
        {"text": _sidecar("one", "app: HERE") + _sidecar("two", "app: HERE") + _AMBIENT_POD},
    ),
    *cases(
        "IST0111",
        {"text": _sidecar("one") + _sidecar("two"), "finds": _SIDECARS},
        {"text": _sidecar("one")},
        {
            "text": _sidecar("one") + _sidecar("two"),
            "labels": "istio.io/dataplane-mode: ambient",
        },
    ),
    *cases(
        "IST0167",
        {
            "text": _sidecar("one"),
            "labels": "istio.io/dataplane-mode: ambient",
            "finds": ("Sidecar one",),
        },
        {
            "text": _sidecar("one"),
            "labels": "{istio.io/dataplane-mode: ambient, istio-injection: enabled}",
        },
        {"text": _sidecar("one", "app: HERE") + _AMBIENT_POD, "finds": ("Sidecar one",)},
        {"text": _sidecar("one", "app: HERE") + _POD},
    ),
    *cases(
        "IST0159",
        {
            "text": _telemetry("one", "app: HERE") + _telemetry("two", "version: v1") + _POD,
            "finds": _TELEMETRIES,
        },
        {"text": _telemetry("one", "app: HERE") + _telemetry("two") + _POD},
    ),
    *cases(
        "IST0160",
        {"text": _telemetry("one") + _telemetry("two"), "finds": _TELEMETRIES},
        {"text": _telemetry("one")},
    ),
]
_NO_PROVIDER = _telemetry("one", more="accessLogging: [{disabled: false}]")
_PROVIDERS = cases(
    "IST0157",
    {"text": _NO_PROVIDER, "finds": ("Telemetry one",)},
    {"text": _telemetry("one", more="accessLogging: [{disabled: true}]")},
    {"text": _telemetry("one", more="accessLogging: [{providers: [{name: envoy}]}]")},
    {"text": _NO_PROVIDER, "world": "settings"},
)


def _filter(*patches: str, more: str = "") -> str:
    listed = "\n".join(f"  - {patch}" for patch in patches)
    return f"""
kind: EnvoyFilter
metadata: {{name: patches}}
spec:
  {more}
  configPatches:
{listed}
"""


def _patch(operation: str, apply_to: str = "HTTP_FILTER", match: str = "") -> str:
    value = "{name: envoy.lua.HERE}"
    return (
        f"{{applyTo: {apply_to}, match: {{context: ANY{match}}}, "
        f"patch: {{operation: {operation}, value: {value}}}}}"
    )


_VERSION = r", proxy: {proxyVersion: '^1\.30.*'}"
_OWN = ("EnvoyFilter patches",)
_FILTERS = [
    *cases(
        "IST0151",
        {"text": _filter(_patch("INSERT_BEFORE")), "finds": _OWN},
        {"text": _filter(_patch("INSERT_AFTER")), "finds": _OWN},
        {"text": _filter(_patch("REMOVE")), "finds": _OWN},
        {"text": _filter(_patch("INSERT_FIRST"))},
        {"text": _filter(_patch("MERGE"))},
        {"text": _filter(_patch("INSERT_BEFORE"), more="priority: 10")},
    ),
    *cases(
        "IST0152",
        {"text": _filter(_patch("REPLACE", "CLUSTER")), "finds": _OWN},
        {"text": _filter(_patch("REPLACE", "VIRTUAL_HOST"))},
        {"text": _filter(_patch("REPLACE", "NETWORK_FILTER"))},
    ),
    *cases(
        "IST0153",
        {"text": _filter(_patch("ADD", "HTTP_ROUTE")), "finds": _OWN},
        {"text": _filter(_patch("ADD", "ROUTE_CONFIGURATION")), "finds": _OWN},
        {"text": _filter(_patch("ADD", "CLUSTER"))},
    ),
    *cases(
        "IST0154",
        {"text": _filter(_patch("REMOVE", "ROUTE_CONFIGURATION")), "finds": _OWN},
        {"text": _filter(_patch("REMOVE", "CLUSTER"))},
    ),
    *cases(
        "IST0155",
        {
            "text": _filter(_patch("INSERT_FIRST", match=_VERSION), _patch("INSERT_BEFORE")),
            "finds": _OWN,
        },
        {"text": _filter(_patch("INSERT_BEFORE", match=_VERSION))},
        {"text": _filter(_patch("INSERT_FIRST"), _patch("INSERT_BEFORE"))},
    ),
]

CASES: list[Case] = [*_SELECTORS, *_PROVIDERS, *_FILTERS]
