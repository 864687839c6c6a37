"""One question about many clusters: what comes in time and fits, and who is missing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.chassis.errors import ClusterNotWatched, HistoryGone, RequestTooLarge
from services.topology import gathering
from services.topology.feed.deltas import INFO_PART
from services.topology.feed.views import ClusterView
from services.topology.gathering import gathered


def view(cluster: str, state: str = "watching", detail: str = "") -> ClusterView:
    found = ClusterView(cluster)
    info = {"cluster": cluster, "name": cluster.upper(), "state": state, "detail": detail}
    found.put(INFO_PART, "cluster", info)
    return found


async def test_who_does_not_answer_is_named() -> None:
    async def one(asked: ClusterView) -> Any:
        match asked.cluster:
            case "late":
                await asyncio.Event().wait()
            case "gone":
                raise HistoryGone("nothing is kept of it")
            case "off" | "full":
                raise AssertionError("it is known that nobody can answer")
        return {"of": asked.cluster}

    views = [
        view("late"),
        view("a"),
        view("gone"),
        view("off", "unreachable", "no route"),
        view("full", "unwatched", "no room"),
        view("b", "partly"),
    ]
    found = await gathered(views, one, within_s=0.1)
    assert found.answers == {"a": {"of": "a"}, "b": {"of": "b"}}
    assert [(one["cluster"], one["name"], one["code"]) for one in found.missing] == [
        ("late", "LATE", "MB-2012"),
        ("gone", "GONE", HistoryGone.code),
        ("off", "OFF", "MB-3001"),
        ("full", "FULL", ClusterNotWatched.code),
    ]
    assert [one["why"] for one in found.missing][2:] == ["no route", "no room"]


async def test_an_answer_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MOST_BYTES", 1000)

    async def one(_: ClusterView) -> Any:
        return "x" * 400

    assert len((await gathered([view("a"), view("b")], one)).answers) == 2
    with pytest.raises(RequestTooLarge) as refused:
        await gathered([view(name) for name in "abc"], one)
    assert "clusters" in refused.value.remedy


async def test_a_defect_is_none_of_a_cluster() -> None:
    async def one(_: ClusterView) -> Any:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await gathered([view("a")], one)
    assert (await gathered([], one)).answers == {}
