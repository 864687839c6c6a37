"""Whom a survey asks when, and what it says when somebody does not answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from services.chassis.errors import ClusterForbidden, ClusterUnreachable
from services.chassis.telemetry.metrics import Metrics
from services.topology.analysis.engine import Analysis
from services.topology.analysis.rules import RULES
from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Pod, Proxy
from services.topology.cluster.state import State
from services.topology.graph.graph import Graph
from services.topology.observing import Observer
from services.topology.proxies.surveys import Survey
from services.topology.proxies.told import Figures, ToldProxy, Word, read_syncz
from services.topology.surveying import Surveying
from tests.unit.topology.proxies.pages import proxy, syncz
from tests.unit.topology.proxies.test_surveys import ISTIOD, OTHER, WEB, istiod, sidecar

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


@dataclass(slots=True)
class Answers:
    """What is asked, and the answer that the test gives."""

    asked: list[str] = field(default_factory=list)
    proxies_of: Callable[[Pod], list[ToldProxy]] = lambda _: list(read_syncz(syncz(proxy())))

    async def proxies(self, istiod: Pod) -> list[ToldProxy]:
        self.asked.append(f"proxies {istiod.name}")
        return self.proxies_of(istiod)

    async def figures(self, istiod: Pod) -> Figures:
        self.asked.append(f"figures {istiod.name}")
        return Figures(version="1.31.7")

    async def word(self, pod: Pod) -> Word:
        self.asked.append(f"word {pod.name}")
        raise ClusterUnreachable("no answer")


def surveying(answers: Answers, *pods: Pod) -> Surveying:
    state = State("c1")
    for pod in pods:
        state.put(pod)
    observer = Observer(
        state=state, graph=Graph(state), analysis=Analysis(state, RULES), metrics=Metrics()
    )
    survey = Survey(state, clock=lambda: 0.0, now=lambda: NOW)
    return Surveying(survey=survey, source=answers, observer=observer, every=timedelta(seconds=15))


def told(found: Surveying) -> dict[str, Any]:
    return dict(found.observer._info()["controlPlane"])


def record(found: Surveying) -> Proxy | None:
    known: Proxy | None = found.observer.state.get(kinds.PROXY, WEB.namespace, WEB.name)
    return known


async def test_each_istiod_is_asked_one_question_a_turn() -> None:
    answers = Answers()
    found = surveying(answers, istiod(), istiod(OTHER), sidecar())
    for _ in range(8):
        await found.turn()
    of_first = [text.split()[0] for text in answers.asked if ISTIOD.name in text]
    assert of_first == ["proxies", "figures", *["proxies"] * 3, "figures", *["proxies"] * 2]
    assert len([text for text in answers.asked if OTHER.name in text]) == 8
    assert told(found) == {
        "state": "ok",
        "detail": "",
        "planes": [{"revision": "default", "version": "1.31.7"}],
        "proxies": {"synced": 1},
    }
    known = record(found)
    assert known is not None
    assert known.istiod_version == "1.31.7"


async def test_a_missing_right_is_said_and_not_asked_for_again_at_once() -> None:
    def refuse(_: Pod) -> list[ToldProxy]:
        raise ClusterForbidden("port 15014 of pod istio-system/istiod-a: HTTP 403")

    answers = Answers(proxies_of=refuse)
    found = surveying(answers, istiod(), sidecar())
    for _ in range(40):
        await found.turn()
    assert answers.asked.count(f"proxies {ISTIOD.name}") == 1
    assert answers.asked.count(f"figures {ISTIOD.name}") == 39
    assert told(found)["state"] == "unavailable"
    assert "get and create on pods/portforward in namespace istio-system" in told(found)["detail"]
    answers.proxies_of = Answers().proxies_of
    await found.turn()
    await found.turn()
    await found.turn()
    assert told(found) == {
        "state": "ok",
        "detail": "",
        "planes": [{"revision": "default", "version": "1.31.7"}],
        "proxies": {"synced": 1},
    }


@pytest.mark.parametrize("failure", [ClusterUnreachable("away"), ValueError("unforeseen")])
async def test_one_that_does_not_answer_leaves_the_others(failure: Exception) -> None:
    def answer(asked: Pod) -> list[ToldProxy]:
        if asked.key == OTHER:
            raise failure
        return list(read_syncz(syncz(proxy())))

    found = surveying(Answers(proxies_of=answer), istiod(), istiod(OTHER), sidecar())
    await found.turn()
    assert told(found)["state"] == "partly"
    assert record(found) is not None


async def test_without_an_istiod_there_is_nothing_to_say() -> None:
    answers = Answers()
    found = surveying(answers, istiod(), sidecar())
    await found.turn()
    assert record(found) is not None
    found.observer.drop(Key(kinds.POD, ISTIOD.namespace, ISTIOD.name))
    await found.turn()
    assert record(found) is None
    assert told(found) == {"state": "none", "detail": ""}
