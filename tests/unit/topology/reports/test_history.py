"""Compliance over time: what is kept, the lines that come of it, and what changed between."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from services.topology.cluster.objects import Key, Standing
from services.topology.mesh.security import Mode, Mtls
from services.topology.reports import history
from services.topology.reports.checks import Check, judged
from services.topology.reports.compliance import ClusterReport, Line, Proxies
from services.topology.reports.history import By, ComplianceSums, ComplianceWorkloads
from services.topology.reports.posture import Access, How, Posture

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
STRICT, IN_SYNC = Mtls(Mode.STRICT), Proxies(Standing.SYNCED)


def line(
    name: str = "a",
    *,
    namespace: str = "shop",
    team: str = "",
    how: How = How.SIDECAR,
    meshed: int = 2,
    mtls: Mtls = STRICT,
    access: Access = Access.DENIED,
    version: str = "1.31.0",
    proxies: Proxies = IN_SYNC,
    findings: int = 0,
) -> Line:
    """One that passes every check, but for what is said."""
    posture = Posture(
        object=Key("apps/Deployment", namespace, name),
        how=how,
        pods=2,
        meshed_pods=meshed,
        mtls=mtls,
        policies=(),
        access=access,
        proxy_version=version,
    )
    return Line(posture, findings, proxies, team)


def report(*lines: Line, at: datetime = NOW, cluster: str = "c1") -> ClusterReport:
    return ClusterReport(cluster=cluster, name=cluster.upper(), made=at, lines=lines)


ALL = {check.value for check in Check}


@pytest.mark.parametrize(
    ("one", "failing", "unconcerned"),
    [
        (line(), set(), set()),
        (line(meshed=1), {"mesh"}, set()),
        (
            line(how=How.NONE, meshed=0, mtls=Mtls(Mode.NONE), version="", proxies=Proxies()),
            {"mesh"},
            {"mtls", "policy", "sync", "version"},
        ),
        (line(mtls=Mtls(Mode.PERMISSIVE)), {"mtls"}, set()),
        (line(mtls=Mtls(Mode.STRICT, None, ((80, Mode.DISABLE),))), {"mtls"}, set()),
        (line(how=How.GATEWAY, mtls=Mtls(Mode.LISTENER)), set(), {"mtls"}),
        (line(access=Access.OPEN), {"policy"}, set()),
        (line(proxies=Proxies(Standing.STALE)), {"sync"}, set()),
        (line(proxies=Proxies(Standing.UNKNOWN)), set(), {"sync"}),
        (line(proxies=Proxies(Standing.SYNCED, is_supported=False)), {"version"}, set()),
        (line(findings=3), {"findings"}, set()),
    ],
)
def test_what_a_workload_is_asked(one: Line, failing: set[str], unconcerned: set[str]) -> None:
    found = dict(judged(one))
    assert {check.value for check, passes in found.items() if not passes} == failing
    assert ALL - {check.value for check in found} == unconcerned


def test_what_is_kept_of_a_report() -> None:
    found = report(line("a", team="web"), line("b", team="web", meshed=1), line("c", findings=1))
    sums, workloads = history.kept(found)
    assert (sums.cluster, sums.name, sums.made) == ("c1", "C1", NOW)
    assert [(group.namespace, group.team, group.workloads) for group in sums.groups] == [
        ("shop", "", 1),
        ("shop", "web", 2),
    ]
    assert sums.groups[1].passing["mesh"] == 1
    assert sums.groups[1].failing == {"mesh": 1}
    # Those that fail something go first: they are what a list that is cut must not lose.
    assert [one.name for one in workloads.workloads] == ["b", "c", "a"]
    assert workloads.left_out == 0


def test_the_digest_is_another_one_when_a_workload_changed() -> None:
    digests = [
        history.kept(report(*lines, at=at))[0].digest
        for lines, at in (
            ((line("a"), line("b")), NOW),
            ((line("b"), line("a")), NOW + HOUR),
            ((line("a", findings=1), line("b")), NOW),
            ((line("a"), line("b", findings=1)), NOW),
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_list_is_cut_where_one_message_ends() -> None:
    most = history.MOST_WORKLOADS
    lines = [line(f"w{number:05}") for number in range(most + 7)]
    _, workloads = history.kept(report(*lines, line("zz", findings=1)))
    assert (len(workloads.workloads), workloads.left_out) == (most, 8)
    assert workloads.workloads[0].name == "zz"
    assert len(workloads.model_dump_json()) > 500_000


# --- lines ----------------------------------------------------------------------------------------


def sums(*lines: Line, at: datetime = NOW, cluster: str = "c1") -> ComplianceSums:
    return history.kept(report(*lines, at=at, cluster=cluster))[0]


def test_a_line_has_both_ends() -> None:
    places = history.moments(NOW - 7 * 24 * HOUR, NOW)
    assert len(places) == history.MOMENTS
    assert (places[0], places[-1]) == (NOW - 7 * 24 * HOUR, NOW)
    assert places == sorted(set(places))


def test_lines_of_teams_go_over_clusters() -> None:
    one = sums(line("a", team="web"), line("b", team="pay", findings=1))
    other = sums(line("a", team="web", findings=1), line("x"), cluster="c2")
    (team, *rest) = history.lines([(NOW, {"c1": one}), (NOW, {"c1": one, "c2": other})], By.TEAM)
    assert team["key"] == "pay"
    assert [found["key"] for found in rest] == ["web", ""]
    web, nobody = rest
    assert [point["workloads"] for point in web["points"]] == [1, 2]
    assert [point["failing"].get("findings", 0) for point in web["points"]] == [0, 1]
    assert nobody["points"][0] is None
    by_cluster = history.lines([(NOW, {"c1": one, "c2": other})], By.CLUSTER)
    assert [found["key"] for found in by_cluster] == ["C1", "C2"]
    assert by_cluster[0]["points"][0]["workloads"] == 2


def test_nothing_is_known_long_after_somebody_looked() -> None:
    old = {"c1": sums(line("a"), at=NOW)}
    found = history.lines([(NOW + 35 * HOUR, old), (NOW + 37 * HOUR, old)], By.NAMESPACE)
    assert [point is None for point in found[0]["points"]] == [False, True]


# --- what changed ---------------------------------------------------------------------------------


def kept(*lines: Line, cluster: str = "c1") -> dict[str, ComplianceWorkloads]:
    return {cluster: history.kept(report(*lines, cluster=cluster))[1]}


def test_what_began_and_what_ceased_to_fail() -> None:
    before = kept(
        line("mended", findings=1),
        line("worse"),
        line("same", findings=2),
        line("left", findings=1),
        line("quiet"),
        line("unknown", proxies=Proxies(Standing.STALE)),
    )
    after = kept(
        line("mended"),
        line("worse", meshed=1, access=Access.OPEN),
        line("same", findings=9),
        line("unknown", proxies=Proxies(Standing.UNKNOWN)),
        line("new", findings=1, team="web"),
        line("fine"),
    )
    found = history.changes(before, after)
    assert [(one["name"], one["check"], one["became"]) for one in found["changes"]] == [
        ("left", "findings", "gone"),
        ("mended", "findings", "mended"),
        ("new", "findings", "came"),
        ("worse", "mesh", "failed"),
        ("worse", "policy", "failed"),
    ]
    assert found["left_out"] == 0
    assert found["changes"][2]["team"] == "web"


def test_a_cluster_that_was_not_known_before_has_not_changed() -> None:
    found = history.changes(kept(line("a")), kept(line("a", findings=1), cluster="c2"))
    assert found == {"changes": [], "left_out": 0}


def test_of_a_list_that_was_cut_nothing_is_said_of_what_is_not_in_it() -> None:
    before, after = kept(line("a", findings=1)), kept(line("b", findings=1))
    cut = {"c1": after["c1"].model_copy(update={"left_out": 1})}

    def became(then: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, str]]:
        found = history.changes(then, now)["changes"]
        return [(one["name"], one["became"]) for one in found]

    assert became(before, after) == [("a", "gone"), ("b", "came")]
    assert became(before, cut) == [("b", "came")]
    assert became(cut, before) == [("b", "gone")]


def test_many_changes_are_cut_and_counted() -> None:
    lines = [line(f"w{number}") for number in range(1_200)]
    bad = [line(f"w{number}", findings=1) for number in range(1_200)]
    found = history.changes(kept(*lines), kept(*bad))
    assert (len(found["changes"]), found["left_out"]) == (1_000, 200)
