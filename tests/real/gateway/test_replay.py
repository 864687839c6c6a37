"""What a new stream begins with: nothing that has long ended, and all of what still runs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from services.chassis.messages import Phase
from services.gateway.streaming.absences import begins_at
from tests.real.gateway.rig import Rig, event, eventually, heard, opened, rigged
from tests.testbed.mesheries import Session, deploy_verdict

AT_ONCE = {"MESHBUS_GATEWAY_REPLAY_GAP": "0s"}
"""Whatever was told before a stream was opened is old."""
NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("left", "started", "begins"),
    [
        # A reconnection: Meshery takes up to ten seconds.
        (ago(8), ago(3600), None),
        # The page was closed for an hour.
        (ago(3600), ago(7200), ago(30)),
        # The gateway was away, however long, with somebody connected; he is back at once.
        (None, ago(8), None),
        # Nobody came back for an hour.
        (None, ago(3600), ago(30)),
        # The page was closed long before the gateway was started anew.
        (ago(7200), ago(3), ago(30)),
    ],
)
def test_an_absence_is_the_clients_own(
    left: datetime | None, started: datetime, begins: datetime | None
) -> None:
    assert begins_at(NOW, left=left, started=started, gap=timedelta(seconds=30)) == begins


async def tell(rig: Rig, operation: str, number: int, phase: Phase, words: str) -> None:
    told = event(operation, number, words).model_copy(update={"phase": phase, "details": words})
    await rig.publisher.event(told)


async def test_old_ends_are_not_told_and_running_operations_are(tmp_path: Path) -> None:
    async with rigged(tmp_path, AT_ONCE) as rig, rig.client("G") as client:
        await tell(rig, "old", 1, Phase.STARTED, "old began")
        await tell(rig, "running", 1, Phase.STARTED, "running began")
        await tell(rig, "old", 2, Phase.FAILED, "Error while installing")
        await tell(rig, "running", 2, Phase.PLANNED, "running is planned")
        await tell(rig, "other", 1, Phase.DONE, "other installed successfully")
        stream = await opened(client)
        assert [e.summary for e in await heard(stream, 2)] == [
            "running began",
            "running is planned",
        ]
        await tell(rig, "running", 3, Phase.DONE, "running is done")
        assert [e.summary for e in await heard(stream, 1)] == ["running is done"]


async def test_what_was_passed_over_does_not_come_with_a_reconnection(tmp_path: Path) -> None:
    async with rigged(tmp_path, AT_ONCE) as rig:
        await tell(rig, "running", 1, Phase.STARTED, "running began")
        await tell(rig, "old", 1, Phase.FAILED, "Error while installing")
        async with rig.client("G") as client:
            assert (await heard(await opened(client), 1))[0].summary == "running began"

            async def passed() -> bool:
                return int((await rig.ask("streams", {}))["floor"]) == 2

            await eventually(passed, what="the mark to pass the old end")


async def test_only_old_ends_leave_nothing_to_tell_and_are_passed(tmp_path: Path) -> None:
    async with rigged(tmp_path, AT_ONCE) as rig, rig.client("G") as client:
        for number in range(1, 6):
            await tell(rig, f"old-{number}", 1, Phase.DONE, "ended successfully")
        stream = await opened(client)
        await tell(rig, "new", 1, Phase.STARTED, "new began")
        assert (await heard(stream, 1))[0].summary == "new began"


async def test_a_part_that_ended_is_old_while_the_other_cluster_still_runs(tmp_path: Path) -> None:
    async with rigged(tmp_path, AT_ONCE) as rig, rig.client("G") as client:
        for cluster, phase in (("one", Phase.DONE), ("two", Phase.STARTED)):
            told = event("both", 1, f"told by {cluster}")
            await rig.publisher.event(told.model_copy(update={"cluster": cluster, "phase": phase}))
        assert (await heard(await opened(client), 1))[0].summary == "told by two"


async def test_a_gateway_that_was_killed_owes_its_clients_all_that_they_missed(
    fresh: Rig,
) -> None:
    async with fresh.client("G") as client:
        stream = await opened(client)
        await tell(fresh, "first", 1, Phase.DONE, "first ended successfully")
        await heard(stream, 1)
        fresh.stack.processes["gateway"].kill()
    await tell(fresh, "missed", 1, Phase.STARTED, "missed began")
    await tell(fresh, "missed", 2, Phase.DONE, "missed ended successfully")
    fresh.restart_gateway()
    async with fresh.client("G") as client:
        # A kill repeats one event at most.
        told = [e.summary for e in await heard(await opened(client), 2)]
        assert told[-1] in ("missed began", "missed ended successfully")


async def test_mesheryctl_waits_for_its_own_operation(tmp_path: Path) -> None:
    async with rigged(tmp_path, AT_ONCE) as rig:
        await tell(rig, "failed-before", 1, Phase.FAILED, "Error while installing")
        await tell(rig, "done-before", 1, Phase.DONE, "The Istio mesh is now installed")
        session = Session(rig.stack.gateway_address)
        async with session.opened():
            await eventually(lambda: _has(session.streams), what="the stream to be open")
            await tell(rig, "own", 1, Phase.STARTED, "Installing Istio")
            await eventually(lambda: _has(session.kept), what="the first event")
            assert deploy_verdict(session.kept) == "waits"
            await tell(rig, "own", 2, Phase.DONE, "The Istio mesh is now installed")
            await eventually(
                lambda: _has(deploy_verdict(session.kept) == "installed"), what="the end"
            )


async def _has(found: object) -> bool:
    return bool(found)


async def test_old_events_can_be_asked_for(tmp_path: Path) -> None:
    async with rigged(tmp_path, AT_ONCE) as rig:
        for number in range(1, 4):
            await tell(rig, "asked", number, Phase.NOTE, f"asked {number}")
        await tell(rig, "other", 1, Phase.DONE, "other ended")
        of_one = await rig.ask("events", {"operation": "asked"})
        assert [e["summary"] for e in of_one["events"]] == ["asked 1", "asked 2", "asked 3"]
        newest = await rig.ask("events", {"limit": 2})
        assert [e["summary"] for e in newest["events"]] == ["asked 3", "other ended"]
        assert await rig.ask("events", {"operation": "unknown"}) == {"events": [], "left_out": 0}
        assert (await rig.ask("events", {"limit": 0}))["code"] == "MB-1001"


async def test_an_answer_with_long_events_leaves_the_oldest_out(fresh: Rig) -> None:
    for number in range(1, 8):
        long = event("long", number).model_copy(update={"details": "x" * 200_000})
        await fresh.publisher.event(long)
    answer = await fresh.ask("events", {"operation": "long"})
    assert answer["left_out"] > 0
    assert answer["events"][-1]["summary"] == "step 7"
    assert answer["left_out"] + len(answer["events"]) == 7
