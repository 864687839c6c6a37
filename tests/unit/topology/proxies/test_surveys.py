"""What becomes of the answers of several istiods, over time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.objects import (
    Configured,
    Container,
    Key,
    Pod,
    Proxy,
    Standing,
    Sync,
)
from services.topology.cluster.state import State
from services.topology.proxies.surveys import Survey
from services.topology.proxies.told import Word, read_figures, read_syncz
from tests.unit.topology.proxies.pages import METRICS, proxy, status, syncz

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
ISTIOD = Key(kinds.POD, "istio-system", "istiod-a")
OTHER = Key(kinds.POD, "istio-system", "istiod-b")
WEB = Key(kinds.POD, "shop", "web-0")


def pod(key: Key, *containers: Container, **more: Any) -> Pod:
    return Pod(key=key, uid=key.name, phase="Running", containers=containers, **more)


def istiod(key: Key = ISTIOD, revision: str = "default") -> Pod:
    labels = {"app": "istiod", "istio.io/rev": revision}
    return pod(key, Container("discovery", "docker.io/istio/pilot:1.31.0"), labels=labels)


def sidecar(key: Key = WEB, **more: Any) -> Pod:
    return pod(key, Container("app"), Container("istio-proxy", "istio/proxyv2:1.31.0"), **more)


class Scene:
    """A cluster and its survey, on a clock that the test moves."""

    def __init__(self, *pods: Pod) -> None:
        self.state = State("c1")
        self.passed_s = 0.0
        self.survey = Survey(
            self.state,
            clock=lambda: self.passed_s,
            now=lambda: NOW + timedelta(seconds=self.passed_s),
        )
        self.put(*pods)

    def put(self, *pods: Pod) -> None:
        for one in pods:
            self.state.put(one)
        self.survey.control_planes()

    def told(self, *proxies: dict[str, Any], by: Key = ISTIOD) -> dict[str, Proxy]:
        self.survey.told(by, read_syncz(syncz(*proxies)))
        return self.records()

    def records(self) -> dict[str, Proxy]:
        return {record.name: record for _, found in self.survey.records() for record in found}


def of_type(record: Proxy, type: str = "CDS") -> Configured:
    [found] = [one for one in record.configured if one.type == type]
    return found


def test_a_proxy_that_has_acknowledged_all_is_in_sync_and_stays_the_same_record() -> None:
    scene = Scene(istiod(), sidecar())
    first = scene.told(proxy())["web-0"]
    assert first.standing is Standing.SYNCED
    assert (first.istiod, first.istiod_version, first.version) == (ISTIOD, "1.31.0", "1.31.0")
    scene.passed_s += 15
    again = scene.told(proxy(CDS=status("n9", "n9"), LDS=status(), ECDS=status("", "")))["web-0"]
    assert of_type(again) == of_type(first)
    assert of_type(again, "ECDS").sync is Sync.NOT_SENT


def test_what_is_not_acknowledged_for_over_a_minute_is_stale_since_it_was_seen_first() -> None:
    scene = Scene(istiod(), sidecar())
    scene.passed_s = 100
    assert of_type(scene.told(proxy(CDS=status("n2", "n1")))["web-0"]).sync is Sync.SENT
    scene.passed_s = 161
    # Another push in between is no acknowledgement.
    stale = scene.told(proxy(CDS=status("n3", "n1")))["web-0"]
    assert of_type(stale) == Configured("CDS", Sync.STALE, "2026-11-24T12:01:40+00:00")
    assert stale.standing is Standing.STALE
    scene.passed_s = 170
    assert of_type(scene.told(proxy(CDS=status("n4", "n2")))["web-0"]).sync is Sync.SENT
    assert scene.told(proxy(CDS=status("n4", "n4")))["web-0"].standing is Standing.SYNCED


def test_a_rejection_is_told_with_its_words_and_since_when() -> None:
    scene = Scene(istiod(), sidecar())
    first = scene.told(proxy(LDS=status("n2", "n1", "no such filter")))["web-0"]
    scene.passed_s += 30
    second = scene.told(proxy(LDS=status("n3", "n1", "no such filter")))["web-0"]
    assert first == second
    assert of_type(first, "LDS").error == "no such filter"
    assert first.standing is Standing.REJECTED
    other = scene.told(proxy(LDS=status("n3", "n1", "another")))["web-0"]
    assert of_type(other, "LDS").since == "2026-11-24T12:00:30+00:00"


def test_of_a_proxy_that_two_istiods_know_the_newer_word_counts() -> None:
    scene = Scene(istiod(), istiod(OTHER), sidecar())
    scene.told(proxy(CDS=status(at="2026-11-24T12:00:01Z")), by=OTHER)
    assert scene.told(proxy(CDS=status("n2", "n1")))["web-0"].istiod == OTHER


def test_a_pod_of_the_same_name_in_another_cluster_is_another_proxy() -> None:
    scene = Scene(istiod(), sidecar())
    other = proxy(LDS=status(error="x")) | {"cluster_id": "west"}
    assert scene.told(other, proxy(), other)["web-0"].standing is Standing.SYNCED


# --- proxies that nobody knows --------------------------------------------------------------------


def lost_after(scene: Scene, seconds: float) -> bool:
    """Whether the pod is lost when no istiod has told of it for so long."""
    scene.told()
    scene.passed_s += seconds
    return "web-0" in scene.told() and scene.told()["web-0"].is_lost


def test_a_proxy_that_no_istiod_has_known_for_over_a_minute_is_lost_until_one_does() -> None:
    scene = Scene(istiod(), sidecar())
    assert not lost_after(scene, 59)
    assert lost_after(scene, 2)
    assert scene.told(proxy())["web-0"].standing is Standing.SYNCED
    assert not lost_after(scene, 59)


def test_a_pod_that_was_made_anew_has_its_minute_again() -> None:
    scene = Scene(istiod(), sidecar())
    assert lost_after(scene, 61)
    scene.put(replace(sidecar(), uid="another"))
    assert not lost_after(scene, 30)


@pytest.mark.parametrize(
    ("is_init", "ip", "is_lost"),
    [(True, "10.0.0.7", True), (True, "", False), (False, "10.0.0.7", False)],
)
def test_a_proxy_that_keeps_its_pod_pending_may_be_lost(
    is_init: bool, ip: str, is_lost: bool
) -> None:
    pending = replace(
        sidecar(ip=ip),
        phase="Pending",
        containers=(Container("istio-proxy", is_init=is_init), Container("app")),
    )
    assert lost_after(Scene(istiod(), pending), 61) is is_lost


def test_nobody_is_lost_while_one_istiod_does_not_tell() -> None:
    scene = Scene(istiod(), istiod(OTHER), sidecar())
    assert not lost_after(scene, 120)
    scene.survey.failed(OTHER, "port 15014 of pod istio-system/istiod-b does not answer in time")
    assert not lost_after(scene, 120)
    assert scene.survey.problems == [
        "port 15014 of pod istio-system/istiod-b does not answer in time"
    ]
    scene.told(by=OTHER)
    assert lost_after(scene, 61)


def test_nobody_is_lost_where_the_control_plane_is_elsewhere() -> None:
    assert not lost_after_in(Scene(sidecar()))
    annotations = {"istio.io/rev": "canary"}
    scene = Scene(istiod(), sidecar(pod_annotations=annotations))
    assert not lost_after(scene, 120)
    scene.put(istiod(OTHER, "canary"))
    scene.told(by=OTHER)
    assert lost_after(scene, 61)


def lost_after_in(scene: Scene) -> bool:
    scene.passed_s += 120
    return bool(scene.records())


def test_one_that_says_that_it_is_connected_is_not_lost() -> None:
    scene = Scene(istiod(), sidecar())
    scene.survey.said(sidecar(), Word(is_connected=True))
    assert not lost_after(scene, 120)


def test_where_istiod_does_not_tell_the_agents_word_has_to_do() -> None:
    scene = Scene(istiod(), sidecar())
    scene.survey.failed(ISTIOD, "may not")
    assert scene.records() == {}
    scene.survey.said(sidecar(), Word(3600.0, False, 0))
    assert scene.records()["web-0"].standing is Standing.UNKNOWN
    scene.passed_s += 61
    assert scene.records()["web-0"].standing is Standing.LOST
    scene.survey.said(sidecar(), Word(3600.0, True, 0))
    assert scene.records()["web-0"].standing is Standing.UNKNOWN


def test_what_an_istiod_told_counts_for_a_minute_after_it_has_gone_silent() -> None:
    scene = Scene(istiod(), sidecar())
    scene.told(proxy())
    scene.passed_s += 60
    scene.survey.failed(ISTIOD, "away")
    assert scene.records()["web-0"].standing is Standing.SYNCED
    scene.passed_s += 1
    scene.survey.failed(ISTIOD, "away")
    assert scene.records() == {}


def test_an_istiod_that_is_gone_is_forgotten_with_what_it_told() -> None:
    scene = Scene(istiod(), sidecar())
    scene.told(proxy(LDS=status(error="x")))
    scene.state.drop(ISTIOD)
    assert scene.survey.control_planes() == []
    assert scene.records() == {}
    assert scene.survey.problems == []


# --- certificates and agents ----------------------------------------------------------------------


def test_a_certificate_is_told_to_the_minute_and_its_end_when_it_is_near() -> None:
    scene = Scene(istiod(), sidecar())
    scene.survey.said(sidecar(), Word(3600.0))
    first = scene.told(proxy())["web-0"]
    assert (first.expires, first.is_expiring) == ("2026-11-24T13:00+00:00", False)
    scene.passed_s = 600
    # Answers are some seconds on their way.
    scene.survey.said(sidecar(), Word(3004.0))
    assert scene.told(proxy())["web-0"] == first
    scene.passed_s = 2700
    assert scene.told(proxy())["web-0"].is_expiring
    scene.survey.said(sidecar(), Word(86400.0))
    renewed = scene.told(proxy())["web-0"]
    assert (renewed.expires, renewed.is_expiring) == ("2026-11-25T12:45+00:00", False)


def test_each_agent_has_its_turn() -> None:
    pods = [sidecar(Key(kinds.POD, "shop", f"web-{number}")) for number in range(10)]
    scene = Scene(istiod(), *pods)
    asked: list[Pod] = []
    for _ in range(5):
        few = scene.survey.agents(most=16, turns=5)
        assert len(few) == 2
        scene.passed_s += 15
        for one in few:
            scene.survey.said(one, None)
        asked += few
    assert sorted(asked, key=lambda one: one.key) == pods
    assert len(scene.survey.agents(most=3, turns=1)) == 3


# --- answers --------------------------------------------------------------------------------------


def test_the_answer_has_every_proxy_and_what_its_control_plane_counts() -> None:
    owner = Key(kinds.DEPLOYMENT, "shop", "web")
    scene = Scene(istiod(), sidecar(owner=owner), sidecar(Key(kinds.POD, "bank", "db-0")))
    scene.survey.counted(ISTIOD, read_figures(METRICS))
    scene.survey.said(sidecar(), Word(3600.0, True, 3))
    for record in scene.told(proxy(LDS=status("n2", "n1", "no such filter"))).values():
        scene.state.put(record)
    told = scene.survey.answer()

    assert told["controlPlanes"] == [
        {
            "namespace": "istio-system",
            "pod": "istiod-a",
            "revision": "default",
            "version": "1.31.0",
            "tells": True,
            "problem": "",
            "proxies": 1,
            "pushes": {"cds": 40, "lds": 41},
            "pushErrors": 3,
            "rejects": {"lds": 3},
            "rootExpires": "2035-11-25T00:00+00:00",
        }
    ]
    db, web = told["proxies"]
    assert (db["pod"], db["standing"], db["configuration"]) == ("db-0", "unknown", [])
    assert web == {
        "namespace": "shop",
        "pod": "web-0",
        "workload": "web",
        "type": "sidecar",
        "version": "1.31.0",
        "istiod": "istio-system/istiod-a",
        "istiodVersion": "1.31.0",
        "standing": "rejected",
        "configuration": [
            {
                "type": "LDS",
                "sync": "rejected",
                "since": "2026-11-24T12:00:00+00:00",
                "error": "no such filter",
            }
        ],
        "certificateExpires": "2026-11-24T13:00+00:00",
        "rejectedSinceStart": 3,
    }
    assert [one["pod"] for one in scene.survey.answer(frozenset({"bank"}))["proxies"]] == ["db-0"]
    rejecting = scene.survey.answer(standings=frozenset({"rejected", "lost"}))["proxies"]
    assert [one["pod"] for one in rejecting] == ["web-0"]


def test_pushes_fail_from_when_errors_become_more_until_they_have_not_for_a_while() -> None:
    scene = Scene(istiod())
    figures = read_figures(METRICS)

    def fails(errors: int) -> bool:
        scene.passed_s += 60
        scene.survey.counted(ISTIOD, replace(figures, push_errors=errors))
        [record] = scene.survey.istiods()
        return record.fails_pushes

    # Errors of a time before the survey began are nobody's news.
    assert [fails(errors) for errors in (3, 3, 4, 4, 4)] == [False, False, True, True, True]
    assert [fails(errors) for errors in (4, 0, 0, 2)] == [False, False, False, True]
    # Restarted, and less than before at once.
    assert fails(1)


@pytest.mark.parametrize("seconds", [float("inf"), 1e30, -1e30])
def test_a_root_that_ends_at_no_time_is_not_told(seconds: float) -> None:
    scene = Scene(istiod())
    scene.survey.counted(ISTIOD, replace(read_figures(METRICS), root_expires_s=seconds))
    assert scene.survey.answer()["controlPlanes"][0]["rootExpires"] == ""
