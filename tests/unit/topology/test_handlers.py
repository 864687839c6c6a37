"""Answers of the service API that come from the views."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, cast

import orjson
import pytest

from services.chassis.errors import (
    ClusterNotWatched,
    MalformedRequest,
    NotPermitted,
    RequestTooLarge,
    TelemetryUnavailable,
)
from services.chassis.policy import OPEN, OPERATOR, Identity, Policy, read_policy
from services.chassis.prometheus import Sample, vector_of
from services.chassis.telemetry.metrics import Metrics
from services.topology.analysis.engine import Analysis
from services.topology.cluster.state import State
from services.topology.drift.watching import Drifts
from services.topology.feed.deltas import EDGES, FINDINGS_PART, INFO_PART, NODES, View, part_of
from services.topology.feed.views import ClusterView, Views
from services.topology.graph.graph import Graph
from services.topology.handlers import Handlers, Owned, OwnerHandlers
from services.topology.observing import Observer
from services.topology.proxies.surveys import Survey
from services.topology.reports import compliance, reportpages
from services.topology.telemetry.envoy import EnvoyTelemetry
from services.topology.telemetry.prometheus import PrometheusTelemetry
from services.topology.telemetry.traffic import Telemetry
from tests.unit.topology.reports.remembered import Remembered
from tests.unit.topology.reports.test_history import line, report
from tests.unit.topology.telemetry.told import AT, Told

ASKED = {"cluster": "blue", "query": "up"}
POLICY = read_policy(
    """
rules:
- identities: [one]
  clusters: [c1]
  questions: [topology.*]
- identities: [all]
  questions: [topology.metrics]
- identities: [other]
  clusters: [c2]
  questions: [topology.metrics]
"""
)


def _handlers() -> Handlers:
    async def ask(_cluster: str, _verb: str, _asked: dict[str, Any]) -> Any:
        raise AssertionError("the views have it all")

    async def past(_cluster: str, _moment: datetime) -> ClusterView:
        raise AssertionError("only of now")

    async def moments(_cluster: str) -> list[datetime]:
        return []

    return Handlers(
        views=Views(),
        ask=ask,
        past=past,
        moments=moments,
        kept=Remembered(),
        policy=lambda: OPEN,
        window_s=90,
    )


async def test_a_graph_of_some_namespaces_has_its_edges_to_others() -> None:
    handlers, view = _handlers(), ClusterView("c1")
    for name, space in (("a", "shop"), ("b", "bank"), ("c", "bank")):
        view.put(part_of(View.APP, NODES), name, {"id": name, "namespace": space})
    for source, target in (("a", "b"), ("b", "c")):
        edge = {"id": source + target, "source": source, "target": target}
        view.put(part_of(View.APP, EDGES), edge["id"], edge)
    handlers.views.replace(view)
    asked = {"graphType": "app", "namespaces": ["shop"]}
    answer = orjson.loads(orjson.dumps(await handlers.graph(asked)))
    assert answer["duration"] == 90
    nodes = {node["data"]["id"]: node["data"] for node in answer["elements"]["nodes"]}
    assert sorted(nodes) == ["a", "b"]
    assert nodes["b"]["isOutside"]
    assert [edge["data"]["id"] for edge in answer["elements"]["edges"]] == ["ab"]


async def _nothing(*_: object) -> Any:
    raise AssertionError("nobody else is asked")


def _metrics_handlers(telemetry: Telemetry) -> Handlers:
    """Of a replica that owns the cluster `c1`, called `blue`."""
    state = State("c1", "blue")
    observer = Observer(
        state=state, graph=Graph(state), analysis=Analysis(state, ()), metrics=Metrics()
    )
    drifts = Drifts(applied=cast(Any, None), publish=observer.drifted)
    survey = Survey(state, clock=lambda: 0.0, now=lambda: AT)
    owner = OwnerHandlers(owned={"c1": Owned(observer, drifts, telemetry, survey)})
    handlers = Handlers(
        views=Views(),
        ask=owner.answer,
        past=_nothing,
        moments=_nothing,
        kept=Remembered(),
        policy=lambda: POLICY,
    )
    view = ClusterView("c1")
    view.put(INFO_PART, "cluster", {"cluster": "c1", "name": "blue"})
    handlers.views.replace(view)
    return handlers


async def test_a_query_is_answered_in_prometheus_form() -> None:
    told = Told(other=[Sample({"job": "a"}, 2.0), Sample({}, math.nan)])
    handlers = _metrics_handlers(PrometheusTelemetry(told, name="Prometheus a/b (found)"))
    answer = await handlers.metrics({**ASKED, "at": "2026-09-01T12:00:00Z"}, Identity("one"))
    assert answer["source"] == "Prometheus a/b (found)"
    first, second = orjson.loads(orjson.dumps(answer))["result"]
    assert first == {"metric": {"job": "a"}, "value": [AT.timestamp(), "2.0"]}
    assert second == {"metric": {}, "value": [AT.timestamp(), "NaN"]}
    assert vector_of(answer)[0] == Sample({"job": "a"}, 2.0)


async def test_a_shared_prometheus_answers_whoever_may_ask_about_all_clusters() -> None:
    told = Told(other=[Sample({}, 1.0)])
    handlers = _metrics_handlers(PrometheusTelemetry(told, is_shared=True))
    for who in (Identity("all"), OPERATOR):
        assert (await handlers.metrics(ASKED, who))["result"]
    for asked in (ASKED, {**ASKED, "shared": True}):
        with pytest.raises(NotPermitted, match="series of other clusters"):
            await handlers.metrics(asked, Identity("one"))


async def test_metrics_are_for_those_who_may_ask_about_the_cluster() -> None:
    """By its token, whatever it is called in the question."""
    handlers = _metrics_handlers(PrometheusTelemetry(Told()))
    for who in ("other", "nobody"):
        with pytest.raises(NotPermitted, match=f"{who} may not ask topology.metrics"):
            await handlers.metrics(ASKED, Identity(who))


async def test_what_prometheus_does_not_answer_is_told() -> None:
    told = Told(other=[Sample({}, 1.0)] * 20_001)
    handlers = _metrics_handlers(PrometheusTelemetry(told))
    with pytest.raises(RequestTooLarge, match="20001 samples"):
        await handlers.metrics(ASKED, OPERATOR)
    told.failing["other"] = "Prometheus refused the query: bad_data"
    with pytest.raises(TelemetryUnavailable) as refused:
        await handlers.metrics(ASKED, OPERATOR)
    assert "bad_data" in refused.value.cause
    with pytest.raises(MalformedRequest, match="longer than"):
        await handlers.metrics({**ASKED, "query": "u" * 20_000}, OPERATOR)
    for wrong in ({"query": ""}, {"query": 1}, {"at": "yesterday"}):
        with pytest.raises(MalformedRequest):
            await handlers.metrics({**ASKED, **wrong}, OPERATOR)
    with pytest.raises(TelemetryUnavailable, match="no Prometheus is known of cluster blue"):
        await _metrics_handlers(EnvoyTelemetry()).metrics(ASKED, OPERATOR)


async def test_proxies_are_told_by_how_they_stand() -> None:
    handlers = _metrics_handlers(EnvoyTelemetry())
    asked = {"cluster": "blue", "standings": ["lost", "rejected"]}
    assert await handlers.proxies(asked) == {"cluster": "c1", "controlPlanes": [], "proxies": []}
    with pytest.raises(MalformedRequest, match="a word that is none") as refused:
        await handlers.proxies({**asked, "standings": ["gone"]})
    assert "lost, rejected, stale, unknown, synced" in refused.value.remedy


# --- compliance over time -------------------------------------------------------------------------


def _remembering() -> Handlers:
    handlers = _handlers()
    assert isinstance(handlers.kept, Remembered)
    for cluster, name in (("c1", "blue"), ("c2", "green")):
        view = ClusterView(cluster)
        view.put(INFO_PART, "cluster", {"cluster": cluster, "name": name})
        handlers.views.replace(view)
    for days, findings in ((9, 1), (2, 0)):
        at = AT - timedelta(days=days)
        handlers.kept.add(report(line("a", team="web", findings=findings), at=at))
    handlers.kept.add(report(line("b"), at=AT - timedelta(days=1), cluster="c2"))
    return handlers


async def test_compliance_over_time() -> None:
    handlers = _remembering()
    since, until = (AT - timedelta(days=9)).isoformat(), AT.isoformat()
    answer = await handlers.compliance({"since": since, "until": until, "by": "team"})
    assert [line["key"] for line in answer["lines"]] == ["web", ""]
    assert [len(line["points"]) for line in answer["lines"]] == [60, 60]
    assert len(answer["moments"]) == 60
    assert [change["became"] for change in answer["changes"]] == ["mended"]
    assert [
        (one["name"], bool(one["before"]), bool(one["after"])) for one in answer["clusters"]
    ] == [
        ("blue", True, True),
        ("green", False, True),
    ]
    assert await handlers.compliance({"since": "9d", "until": until, "by": "team"}) == answer
    one = await handlers.compliance({"since": since, "until": until, "cluster": "green"})
    assert [found["name"] for found in one["clusters"]] == ["green"]
    head, *rows = reportpages.history_csv(answer).splitlines()
    assert head == "moment,team,check,passing,failing,workloads"
    assert rows[0] == f"{since},web,mesh,1,0,1"
    assert f"{since},web,findings,0,1,1" in rows
    assert one["changes"] == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"since": "yesterday"}, "`since` is not a time"),
        ({"since": "5w"}, "`since` is not a time"),
        ({"since": "99999d"}, "longer than 90 days"),
        ({"since": "0m"}, "not before"),
        ({"since": AT.isoformat(), "until": 5}, "until is not text"),
        ({"since": AT.isoformat(), "until": AT.isoformat()}, "not before"),
        ({"since": "2026-01-01T00:00:00Z", "until": AT.isoformat()}, "longer than 90 days"),
        ({"since": "2026-08-30", "until": AT.isoformat(), "by": "colour"}, "`by` is none"),
    ],
)
async def test_a_question_about_time_that_makes_no_sense(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(MalformedRequest, match=why):
        await _remembering().compliance(wrong)


# --- questions about several clusters -------------------------------------------------------------

FLEET = read_policy(
    """
rules:
- identities: [one]
  clusters: [c1]
  questions: [topology.*]
- identities: [two]
  clusters: [c1, c2]
  questions: [topology.findings, topology.versions]
"""
)


def _fleet(policy: Policy = OPEN) -> Handlers:
    """Two clusters that answer, and one that cannot be reached."""

    async def ask(cluster: str, verb: str, asked: dict[str, Any]) -> Any:
        if cluster == "c3":
            raise AssertionError("it is known that nobody can answer")
        match verb:
            case "versions":
                proxy = {"version": "1.29.1", "controlPlane": "1.31.0", "count": 2}
                plane = {"revision": "default", "version": "1.31.0"}
                return {"controlPlanes": [plane], "proxies": [proxy | {"supported": False}]}
            case "compliance":
                return compliance.to_json([report(line("a"), cluster=cluster)])["clusters"][0]
        return {"cluster": cluster, "asked": asked}

    handlers = _handlers()
    handlers.ask, handlers.policy = ask, lambda: policy
    for cluster, name, state, tier in (
        ("c1", "blue", "watching", "edge"),
        ("c2", "green", "watching", "core"),
        ("c3", "red", "unreachable", "core"),
    ):
        view = ClusterView(cluster)
        handlers.views.labels[cluster] = {"region": "eu", "tier": tier}
        view.put(INFO_PART, "cluster", {"cluster": cluster, "name": name, "state": state})
        handlers.views.replace(view)
        if state == "watching":
            place = {"namespace": "shop", "kind": "x", "name": "a"}
            view.put(FINDINGS_PART, "f", {"code": "IST0101", "object": place, "path": ""})
            node = {"id": f"n-{cluster}", "namespace": "shop"}
            view.put(part_of(View.VERSIONED_APP, NODES), node["id"], node)
    return handlers


def _clusters(answer: Any) -> tuple[list[str], list[str]]:
    told = orjson.loads(orjson.dumps(answer))
    return [o["cluster"] for o in told["clusters"]], [o["cluster"] for o in told["missing"]]


@pytest.mark.parametrize("verb", ["graph", "findings", "drift", "vet", "proxies", "versions"])
async def test_a_question_about_all_clusters_names_those_that_are_missing(verb: str) -> None:
    ask = getattr(_fleet(), verb)
    assert _clusters(await ask({})) == (["c1", "c2"], ["c3"])
    assert _clusters(await ask({"clusters": ["*"]})) == (["c1", "c2"], ["c3"])
    assert _clusters(await ask({"clusters": ["gre*", "c1"]})) == (["c1", "c2"], [])
    assert _clusters(await ask({"clusters": ["blue", "nobody"]})) == (["c1"], ["nobody"])
    with pytest.raises(MalformedRequest, match="not both"):
        await ask({"clusters": ["c1"], "cluster": "c1"})
    with pytest.raises(ClusterNotWatched):
        await ask({"cluster": "nobody"})


@pytest.mark.parametrize(
    "verb", ["graph", "findings", "drift", "vet", "proxies", "versions", "compliance"]
)
async def test_clusters_are_chosen_by_labels(verb: str) -> None:
    """Also those that cannot be reached."""
    ask = getattr(_fleet(), verb)
    eu, core, edge = {"region": "eu"}, {"region": "eu", "tier": "core"}, {"tier": "edge"}
    assert _clusters(await ask({"labels": eu})) == (["c1", "c2"], ["c3"])
    assert _clusters(await ask({"labels": core})) == (["c2"], ["c3"])
    assert _clusters(await ask({"labels": core, "clusters": ["gre*"]})) == (["c2"], [])
    assert _clusters(await ask({"labels": edge, "clusters": ["green"]})) == ([], ["green"])
    assert _clusters(await ask({"labels": {"tier": "e"}})) == ([], ["tier=e"])
    with pytest.raises(MalformedRequest, match="not both"):
        await ask({"labels": eu, "cluster": "c1"})
    wrong: Any
    for wrong in ("eu", ["eu"], {"region": ["eu"]}, {"": "eu"}, dict.fromkeys(map(str, range(33)))):
        with pytest.raises(MalformedRequest, match="labels"):
            await ask({"labels": wrong})


async def test_labels_choose_among_what_the_asker_may_see() -> None:
    handlers, one = _fleet(FLEET), Identity("one")
    assert _clusters(await handlers.findings({"labels": {"region": "eu"}}, one)) == (["c1"], [])
    hidden = await handlers.findings({"labels": {"tier": "core"}}, one)
    assert hidden["missing"][0]["code"] == ClusterNotWatched.code
    assert "no cluster with the labels tier=core" in hidden["missing"][0]["why"]
    told = (await handlers.clusters({}, one))["clusters"]
    assert [cluster["labels"] for cluster in told] == [{"region": "eu", "tier": "edge"}]


async def test_each_answer_about_a_cluster_is_as_one_about_it_alone() -> None:
    handlers = _fleet()
    found = await handlers.findings({"codes": ["IST0101"]})
    assert found["clusters"][1] == {
        "name": "green",
        "state": "watching",
        **await handlers.findings({"cluster": "green", "codes": ["IST0101"]}),
    }
    # What the owner is asked has nothing of the others.
    proxies = await handlers.proxies({"clusters": ["c1"], "namespaces": ["shop"]})
    assert proxies["clusters"][0]["asked"] == {"namespaces": ["shop"]}
    graph = orjson.loads(orjson.dumps(await handlers.graph({})))
    assert [node["data"]["id"] for node in graph["elements"]["nodes"]] == ["n-c1", "n-c2"]
    assert graph["graphType"] == "versionedApp"
    versions = await handlers.versions({})
    assert versions["summed"] == {
        "controlPlanes": {"1.31.0": 2},
        "proxies": {"1.29.1": 4},
        "unsupported": 4,
    }


async def test_who_may_see_some_clusters_is_told_of_those() -> None:
    handlers, one, two = _fleet(FLEET), Identity("one"), Identity("two")
    assert _clusters(await handlers.findings({}, one)) == (["c1"], [])
    assert _clusters(await handlers.findings({}, two)) == (["c1", "c2"], [])
    assert _clusters(await handlers.compliance({}, one)) == (["c1"], [])
    told = await handlers.compliance({"clusters": ["c*", "d1"], "since": "1d"}, one)
    assert _clusters(told) == (["c1"], ["d1"])
    assert [told["name"] for told in (await handlers.clusters({}, one))["clusters"]] == ["blue"]
    assert len((await handlers.clusters({}))["clusters"]) == 3
    assert _clusters(await handlers.findings({"clusters": ["*"]}, two)) == (["c1", "c2"], [])
    assert (await handlers.findings({"cluster": "blue"}, one))["cluster"] == "c1"
    # What he may not see is to him as if it were not there, and the other way around.
    hidden = await handlers.findings({"clusters": ["red", "nobody"]}, two)
    assert {told["name"]: told["code"] for told in hidden["missing"]} == {
        "nobody": ClusterNotWatched.code,
        "red": ClusterNotWatched.code,
    }
    for cluster in ("c3", "red", "nobody"):
        with pytest.raises(NotPermitted):
            await handlers.findings({"cluster": cluster}, two)
    for who in (two, Identity("nobody")):
        with pytest.raises(NotPermitted):
            await handlers.drift({}, who)


@pytest.mark.parametrize("verb", ["path", "heal", "object", "metrics"])
async def test_a_question_about_one_cluster_is_judged_by_its_token(verb: str) -> None:
    """Somebody has registered a cluster under a name that is the token of another one."""
    policy = read_policy("rules: [{identities: [one], clusters: [c9], questions: [topology.*]}]")
    handlers = _fleet(policy)
    handlers.views.clusters["c2"].put(INFO_PART, "cluster", {"cluster": "c2", "name": "c9"})
    ask = getattr(handlers, verb)
    assert (await ask({"cluster": "c9"}, OPERATOR))["cluster"] == "c2"
    with pytest.raises(NotPermitted, match=f"may not ask topology.{verb}"):
        await ask({"cluster": "c9"}, Identity("one"))
