"""One mistake is told once, by whatever tools know it: the finding carries all their codes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from services.topology.analysis.findings import Finding, Level
from tests.unit.topology.analysis.kia.cases import (
    NETWORKING,
    SECURITY,
    SIDECARS,
    WITH_PROXY,
    analysis_of,
    one,
    pod,
    service,
    space,
)

_ROUTE, _RULE = "VirtualService default/shop", "DestinationRule default/reviews"
_POLICY = "AuthorizationPolicy default/callers"
_TYPOS = {
    "gateway": (
        "gatw",
        (_ROUTE, "spec.gateways[0]", Level.ERROR, ("IST0101", "IST0132", "KIA1102")),
    ),
    "host": (
        "revews",
        (_ROUTE, "spec.http[0].route[0].destination.host", Level.ERROR, ("IST0101", "KIA1101")),
    ),
    "subset": (
        "v11",
        (_ROUTE, "spec.http[1].route[0].destination.subset", Level.ERROR, ("IST0101", "KIA1107")),
    ),
    "rule_host": ("reveiws", (_RULE, "spec.host", Level.WARNING, ("IST0174", "KIA0202"))),
    "label": ("revews", (_POLICY, "spec.selector", Level.WARNING, ("IST0127", "KIA0004"))),
    "caller": (
        "istio-sytem",
        (
            _POLICY,
            "spec.rules[0].from[0].source.namespaces[0]",
            Level.ERROR,
            ("IST0101", "KIA0101"),
        ),
    ),
}
"""What is written wrong, and the finding: object, path, level, codes."""
_SHOP = (
    SIDECARS
    + space("istio-system", "{istio-injection: disabled}")
    + service("reviews")
    + pod("reviews", "{app: reviews, version: v1}", containers=WITH_PROXY)
    + service("gate")
    + pod("gate", "{app: gate}", containers=WITH_PROXY)
    + one(
        NETWORKING,
        "Gateway",
        "gate",
        "{selector: {app: gate}, servers: [{port: {number: 80, name: http}, hosts: [shop.com]}]}",
    )
    + one(SECURITY, "AuthorizationPolicy", "all", "{rules: [{}]}")
    # So that the subset is there however the other DestinationRule's host is written.
    + one(
        NETWORKING,
        "DestinationRule",
        "of-gate",
        "{host: reviews, subsets: [{name: v1, labels: {version: v1}}],"
        " workloadSelector: {matchLabels: {app: gate}}}",
    )
)


def _objects(
    *,
    gateway: str = "gate",
    host: str = "reviews",
    subset: str = "v1",
    rule_host: str = "reviews",
    label: str = "reviews",
    caller: str = "istio-system",
) -> str:
    """Three objects without a mistake, but for what is passed."""
    route = (
        f"{{hosts: [shop.com], gateways: [{gateway}], http: ["
        f"{{match: [{{uri: {{prefix: /new}}}}], route: [{{destination: {{host: {host}}}}}]}}, "
        f"{{route: [{{destination: {{host: reviews, subset: {subset}}}}}]}}]}}"
    )
    rule = f"{{host: {rule_host}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}"
    policy = (
        f"{{selector: {{matchLabels: {{app: {label}}}}}, action: DENY, "
        f"rules: [{{from: [{{source: {{namespaces: [{caller}]}}}}]}}]}}"
    )
    return (
        one(NETWORKING, "VirtualService", "shop", route)
        + one(NETWORKING, "DestinationRule", "reviews", rule)
        + one(SECURITY, "AuthorizationPolicy", "callers", policy)
    )


def _told(findings: Iterable[Finding]) -> set[tuple[str, str, Level, tuple[str, ...]]]:
    return {(str(f.object), f.path, f.level, f.codes) for f in findings}


def test_objects_without_a_mistake_have_no_finding() -> None:
    assert _told(analysis_of(_SHOP + _objects()).findings) == set()


def test_six_typos_in_three_objects_are_six_findings() -> None:
    """They were thirteen: each tool's catalogue told its own, seven of them for three typos of the
    VirtualService, and the levels contradicted each other. The missing Gateway was IST0101 and
    KIA1102 as an error and IST0132 as a warning. The two hosts were errors to one tool (KIA0202,
    beside the warning IST0174) or to both (IST0101, KIA1101). The subset was an error (IST0101)
    and a warning (KIA1107), and so was the policy's namespace (IST0101, KIA0101). The policy's
    selector was a warning twice (IST0127, KIA0004)."""
    analysis = analysis_of(_SHOP + _objects(**{name: typo for name, (typo, _) in _TYPOS.items()}))
    assert len(list(analysis.findings)) == 6
    assert _told(analysis.findings) == {wanted for _, wanted in _TYPOS.values()}


@pytest.mark.parametrize("name", _TYPOS)
def test_each_typo_alone_is_one_finding(name: str) -> None:
    typo, wanted = _TYPOS[name]
    analysis = analysis_of(_SHOP + _objects(**{name: typo}))
    assert len(list(analysis.findings)) == 1
    assert _told(analysis.findings) == {wanted}
