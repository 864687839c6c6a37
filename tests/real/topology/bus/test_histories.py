"""Compliance over time as NATS keeps it: what was kept last until each of many moments."""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime, timedelta, timezone

import pytest

from services.chassis.bus import subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import Publisher
from services.topology.adapters.histories import Histories
from services.topology.reports import history
from tests.unit.topology.reports.test_history import line, report

HOUR = timedelta(hours=1)


def _now() -> datetime:
    return datetime.now(timezone.utc)


@pytest.fixture
def histories(bus: Bus) -> Histories:
    return Histories(bus, Publisher(bus))


async def _kept(histories: Histories, cluster: str, *, findings: int) -> datetime:
    """Keeps one; returns a moment before which it was stored, and after which the next will be."""
    found = report(line("a", findings=findings), at=_now(), cluster=cluster)
    await histories.store(*history.kept(found))
    await asyncio.sleep(0.005)  # two moments of the server's clock
    return _now()


async def test_what_was_kept_last_until_each_moment(histories: Histories) -> None:
    mark = secrets.token_hex(4)
    one, other, never = (f"{name}-{mark}" for name in ("one", "other", "never"))
    begin = _now()
    first = await _kept(histories, one, findings=0)
    second = await _kept(histories, other, findings=0)
    third = await _kept(histories, one, findings=1)
    moments = [begin - HOUR, begin, first, second, third, third + HOUR, None]
    found = await histories.sums([one, other, never], moments)
    failing = [
        {cluster: sums.groups[0].failing.get("findings", 0) for cluster, sums in column.items()}
        for column in found
    ]
    assert failing == [
        {},
        {},
        {one: 0},
        {one: 0, other: 0},
        *[{one: 1, other: 0}] * 3,
    ]
    before, after = await histories.workloads([one, other], [first, None])
    assert [one["became"] for one in history.changes(before, after)["changes"]] == ["failed"]
    last = await histories.last(one)
    assert last is not None
    assert last.groups[0].failing == {"findings": 1}
    assert await histories.last(never) is None
    assert await histories.sums([], [None]) == [{}]


async def test_hundreds_of_clusters_are_read_at_once(histories: Histories) -> None:
    mark = secrets.token_hex(4)
    names = [f"{mark}-{number}" for number in range(600)]
    publisher, sums = histories.publisher, history.kept(report(line("a")))[0]
    await asyncio.gather(
        *(
            publisher.raw(
                subjects.compliance(name, "sums"),
                sums.model_copy(update={"cluster": name}).model_dump_json().encode(),
                {"Content-Type": "application/json"},
                within=timedelta(seconds=30),
            )
            for name in names
        )
    )
    (found,) = await histories.sums(names, [None])
    assert found.keys() == set(names)


async def test_what_cannot_be_read_is_passed_over(histories: Histories, bus: Bus) -> None:
    cluster = f"odd-{secrets.token_hex(4)}"
    for body in (b"no JSON", b'{"schema_version": 7}', b"{}"):
        await bus.client.jetstream().publish(subjects.compliance(cluster, "sums"), body)
        assert await histories.last(cluster) is None
    await _kept(histories, cluster, findings=0)
    assert await histories.last(cluster) is not None


async def test_a_large_answer_comes_in_pieces(bus: Bus) -> None:
    """More than one answer holds: the rest is read as of the same moment."""
    histories, mark = Histories(bus, Publisher(bus)), secrets.token_hex(4)
    names = [f"{mark}-{number}" for number in range(120)]
    lines = [line(f"workload-{number}", team=secrets.token_hex(60)) for number in range(1500)]
    workloads = history.kept(report(*lines))[1]
    for name in names:
        found = report(at=_now(), cluster=name)
        told = workloads.model_copy(update={"cluster": name, "made": found.made})
        await histories.store(history.kept(found)[0], told)
    (read,) = await histories.workloads(names, [None])
    assert read.keys() == set(names)
    assert all(len(one.workloads) == 1500 for one in read.values())
