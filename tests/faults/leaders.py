"""`make leaders MINUTES=10`: operations at a rate on three NATS servers, while their leaders are
killed and then each is restarted in turn; writes docs/reference/three-servers.md.

`python -m tests.faults.leaders --minutes 1 --output leaders.md` tries it. The status is 1 when an
accepted operation has not ended once.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import platform
import secrets
import shutil
import statistics
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import grpc

from tests.faults.soak.invariants import finals_of
from tests.testbed import building
from tests.testbed.bodies import config_map
from tests.testbed.busclusters import TrioStack
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery, Received
from tests.testbed.stack import ROOT
from tests.testbed.stored import admin_bus
from tests.testbed.waiting import eventually

PAGE = ROOT / "docs" / "reference" / "three-servers.md"
LED = ("CMD", "EVT", "KV_ops")
"""Streams whose leader is killed, one after the other: commands, events, records."""
_END_WITHIN_S = 180.0
_PAUSE_S = 1.0
_LATER = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is told."""

    kills: int
    every_s: float
    """From one kill to the next; a third of it the server stays away."""
    rate: float
    """Operations a second."""


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Objects that are applied and deleted again, at a rate that does not wait for answers."""

    meshery: Meshery
    rate: float
    accepted: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    """When one was accepted, while there was more to come; loop time."""
    ends: list[float] = field(default_factory=list)
    """When an end came to the client, while there was more to come."""
    spans: list[float] = field(default_factory=list)
    """Seconds from the answer to the end."""
    waits: list[float] = field(default_factory=list)
    """Seconds from the first call to the answer, tries in between among them."""
    refused: int = 0
    """Calls that were told to wait: the quota, while nothing ended, or no answer in time."""
    took_s: float = 0.0
    _ended: dict[str, asyncio.Event] = field(default_factory=dict)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Asks during the block; afterwards each operation has ended for the client, too."""
        is_over = asyncio.Event()
        began = asyncio.get_running_loop().time()
        self.meshery.listeners.append(self._hear)
        asking = asyncio.create_task(self._ask(is_over))
        try:
            await self.until_accepted(1)
            yield
            # What waited while a server was away is through before the last gap is measured.
            await self.until_accepted(len(self.accepted) + 1)
        finally:
            self.took_s = asyncio.get_running_loop().time() - began
            is_over.set()
            await asking
            self.meshery.listeners.remove(self._hear)

    async def until_accepted(self, count: int) -> None:
        await eventually(
            lambda: len(self.accepted) >= count,
            what=f"{count} operations to be accepted",
            within_s=_END_WITHIN_S,
        )

    async def _ask(self, is_over: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as rounds:
            while not is_over.is_set():
                rounds.create_task(self._there_and_back())
                due += 2 / self.rate
                await asyncio.sleep(max(0.0, due - loop.time()))

    async def _there_and_back(self) -> None:
        body = config_map(f"l{secrets.token_hex(5)}")
        for delete in (False, True):
            begun = asyncio.get_running_loop().time()
            operation = await self._accepted(body, delete=delete)
            answered = asyncio.get_running_loop().time()
            if not self.took_s:
                self.answers.append(answered)
            self.waits.append(answered - begun)
            self.accepted.append(operation)
            async with asyncio.timeout(_END_WITHIN_S):
                await self._end_of(operation).wait()
            del self._ended[operation]
            self.spans.append(asyncio.get_running_loop().time() - answered)

    async def _accepted(self, body: str, *, delete: bool) -> str:
        """Asks with one id until the gateway has it, as a client does that is told to wait."""
        operation = str(uuid.uuid4())
        while True:
            try:
                return await self.meshery.accepted(
                    "custom",
                    body=body,
                    delete=delete,
                    operation=operation,
                    within_s=_END_WITHIN_S,
                )
            except grpc.aio.AioRpcError as refused:
                if refused.code() not in _LATER:
                    raise
                self.refused += 1
                await asyncio.sleep(_PAUSE_S)

    def _hear(self, received: Received) -> None:
        # Thousands of operations: nobody looks through all events again.
        self.meshery.events.clear()
        operation = received.event.operation_id
        if received.is_final:
            if not self.took_s:
                self.ends.append(asyncio.get_running_loop().time())
            self._end_of(operation).set()
            if received.failed:
                self.failed.append(f"{operation}: {received.event.summary}")

    def _end_of(self, operation: str) -> asyncio.Event:
        return self._ended.setdefault(operation, asyncio.Event())


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of one phase."""

    what: str
    faults: str
    traffic: Traffic
    ends: Counter[str]
    """How often each operation has ended, by the stream."""

    @property
    def violations(self) -> list[str]:
        """What does not hold; empty when all that was accepted has ended once."""
        found = [f"{failed} ({self.what})" for failed in self.traffic.failed]
        for operation in self.traffic.accepted:
            if self.ends[operation] != 1:
                found.append(f"{operation} has {self.ends[operation]} ends ({self.what})")
        return found


async def leaders_killed(stack: TrioStack, traffic: Traffic, plan: Plan) -> Finding:
    """Kills the leader of one stream after the other; each comes back before the next goes."""
    killed: Counter[str] = Counter()
    async with traffic.flowing():
        for stream in itertools.islice(itertools.cycle(LED), plan.kills):
            async with admin_bus(stack) as bus:
                leader = await stack.trio.leader(bus, stream)
            leader.kill()
            killed[stream] += 1
            await asyncio.sleep(plan.every_s / 3)
            await asyncio.to_thread(leader.start)
            await asyncio.sleep(plan.every_s * 2 / 3)
    times = ", ".join(f"{stream} {count}" for stream, count in killed.items())
    return await _finding(stack, traffic, "leaders killed", f"every {plan.every_s:g} s: {times}")


async def each_restarted(stack: TrioStack, traffic: Traffic) -> Finding:
    """Restarts each server in turn; the next when the one before is healthy again."""
    async with traffic.flowing():
        for server in stack.trio.servers:
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await traffic.until_accepted(len(traffic.accepted) + 1)
    return await _finding(stack, traffic, "each restarted in turn", "one time each")


async def _finding(stack: TrioStack, traffic: Traffic, what: str, faults: str) -> Finding:
    async with admin_bus(stack) as bus:
        ends = await finals_of(bus)
    counted = Counter({operation: count for (operation, _), count in ends.items()})
    return Finding(what=what, faults=faults, traffic=traffic, ends=counted)


def page(plan: Plan, findings: Sequence[Finding]) -> str:
    """The report."""
    return "\n".join(_lines(plan, findings)) + "\n"


def _lines(plan: Plan, findings: Sequence[Finding]) -> Iterator[str]:
    yield "# Three NATS servers"
    yield ""
    yield (
        "Written by `make leaders`: operations at a rate, each an object that is applied or "
        "deleted through gateway, translator and lifecycle, on streams that three servers keep. "
        "First the leader of commands, events and records is killed in turn, and comes back after "
        "a third of the time; then each server is restarted in turn. Ends are counted in EVT."
    )
    yield ""
    yield (
        f"{datetime.now(timezone.utc).date().isoformat()}, {plan.rate:g} operations a second asked "
        f"for, {os.cpu_count() or 1} cores for all processes, which others used as well (load "
        f"{os.getloadavg()[2]:.0f} over the last 15 minutes), Python {platform.python_version()}."
    )
    yield ""
    yield "| | " + " | ".join(finding.what for finding in findings) + " |"
    yield "|---|" + "---|" * len(findings)
    for name, cells in _rows(findings):
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    violations = [violation for finding in findings for violation in finding.violations]
    yield from (f"* **Violated:** {violation}" for violation in violations)
    if not violations:
        yield "Everything that was accepted has ended, each once, and none of it failed."


def _rows(findings: Sequence[Finding]) -> Iterator[tuple[str, list[str]]]:
    yield "faults", [finding.faults for finding in findings]
    flows = [finding.traffic for finding in findings]
    yield "minutes", [f"{flow.took_s / 60:.1f}" for flow in flows]
    yield "accepted", [str(len(flow.accepted)) for flow in flows]
    yield "accepted a second", [f"{len(flow.accepted) / flow.took_s:.1f}" for flow in flows]
    yield "calls told to wait (quota)", [str(flow.refused) for flow in flows]
    yield "ended once", [str(_ended_once(finding)) for finding in findings]
    yield "longest time without an acceptance", [f"{_gap_s(f.answers):.1f} s" for f in flows]
    yield "longest time without an end", [f"{_gap_s(f.ends):.1f} s" for f in flows]
    cuts = [statistics.quantiles(flow.waits, n=100) for flow in flows]
    yield "call to answer, p50", [f"{cut[49] * 1000:.0f} ms" for cut in cuts]
    yield "call to answer, p99", [f"{cut[98]:.1f} s" for cut in cuts]
    cuts = [statistics.quantiles(flow.spans, n=100) for flow in flows]
    yield "answer to end, p50", [f"{cut[49] * 1000:.0f} ms" for cut in cuts]
    yield "answer to end, p99", [f"{cut[98]:.1f} s" for cut in cuts]
    yield "answer to end, longest", [f"{max(flow.spans):.1f} s" for flow in flows]


def _ended_once(finding: Finding) -> int:
    return sum(finding.ends[operation] == 1 for operation in finding.traffic.accepted)


def _gap_s(moments: Sequence[float]) -> float:
    """The longest time between one and the next."""
    return max((later - before for before, later in itertools.pairwise(moments)), default=0.0)


async def run(plan: Plan, folder: Path) -> list[Finding]:
    """Both phases; everything that it started has ended when it returns."""
    with Cluster(folder / "cluster") as cluster, TrioStack(folder / "stack") as stack:
        async with Meshery(stack.gateway_address, [cluster.kubeconfig_text]).connected() as meshery:
            flows = [Traffic(meshery=meshery, rate=plan.rate) for _ in range(2)]
            return [
                await leaders_killed(stack, flows[0], plan),
                await each_restarted(stack, flows[1]),
            ]


def main(arguments: Sequence[str]) -> int:
    """Returns the status for the shell."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.leaders", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long leaders are killed")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two kills")
    parser.add_argument("--rate", type=float, default=20.0, help="operations a second")
    parser.add_argument("--output", type=Path, default=PAGE, help="where the report goes")
    chosen = parser.parse_args(arguments)
    building.build_all()
    folder = Path(tempfile.mkdtemp(prefix="meshbus-leaders-"))
    kills = max(1, round(chosen.minutes * 60 / chosen.every))
    plan = Plan(kills=kills, every_s=chosen.every, rate=chosen.rate)
    findings = asyncio.run(run(plan, folder))
    text = page(plan, findings)
    chosen.output.write_text(text)
    print(text)
    if any(finding.violations for finding in findings):
        print(f"leaders: what it left is in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
