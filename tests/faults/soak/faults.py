"""The faults of a soak: rows 1 to 7 of the fault matrix, one after the other in a seeded order.

Each service has two processes. The `steady` one is never killed or stopped, so that its memory can
be followed for hours; it meets every other fault. The `frail` one is killed and stopped.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import nats.js.errors

from services.chassis.bus import envelopes
from services.chassis.bus.connection import connect
from services.chassis.bus.streams import call_api
from tests.testbed.proxies import FaultProxy
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus

_PAUSE_S = 1.0
POISON = "poison"
"""Prefix of the operations of messages that no worker can read."""


@dataclass(slots=True, kw_only=True)
class Faults:
    """What happens to a stack."""

    stack: Stack
    proxy: FaultProxy
    """Between NATS and the frail processes."""
    clusters: tuple[str, ...]
    """Tokens of the clusters."""
    chance: random.Random
    ack_wait_s: float
    happened: Counter[str] = field(default_factory=Counter)
    poisoned: int = 0

    def kinds(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The faults by the names that the report gives them."""
        return {
            "1 worker killed": self.kill,
            "2 worker stopped beyond its claim": self.stop,
            "3 NATS killed": self.kill_nats,
            "4 NATS restarted in order": self.restart_nats,
            "5 partition from NATS": self.partition,
            "6 command published again": self.duplicate,
            "7 poison": self.poison,
        }

    async def run(self, *, every_s: float, until: asyncio.Event) -> None:
        """One fault after the other, `every_s` apart on average, until told to end."""
        kinds = self.kinds()
        while not until.is_set():
            pause = self.chance.uniform(0.5, 1.5) * every_s
            try:
                async with asyncio.timeout(pause):
                    await until.wait()
                return
            except TimeoutError:
                name = self.chance.choice(sorted(kinds))
            self.happened[name] += 1
            await kinds[name]()

    async def kill(self) -> None:
        """SIGKILL for a frail process; it comes back."""
        process = self.stack.processes[self._frail()]
        await asyncio.to_thread(process.kill)
        await asyncio.sleep(_PAUSE_S)
        process.start()

    async def stop(self) -> None:
        """SIGSTOP until another worker has what it held, then SIGCONT."""
        process = self.stack.processes[self._frail()]
        process.pause()
        try:
            await asyncio.sleep(self.ack_wait_s * 2)
        finally:
            process.resume()

    async def kill_nats(self) -> None:
        await asyncio.to_thread(self.stack.nats.kill)
        await asyncio.sleep(_PAUSE_S)
        await asyncio.to_thread(self.stack.nats.start)

    async def restart_nats(self) -> None:
        await asyncio.to_thread(self.stack.nats.stop)
        await asyncio.to_thread(self.stack.nats.start)

    async def partition(self) -> None:
        """The frail processes hear nothing from NATS for a while, and get it all later."""
        self.proxy.blackhole()
        try:
            await asyncio.sleep(self.chance.uniform(1.0, 3.0) * self.ack_wait_s)
        finally:
            self.proxy.heal()
        self.proxy.cut()

    async def duplicate(self) -> None:
        """Publishes the newest command once more, as a publisher does that got no answer."""
        async with admin_bus(self.stack) as bus:
            state = (await call_api(bus.client, "STREAM.INFO.CMD", {}))["state"]
            context = bus.client.jetstream()
            try:
                stored = await context.get_msg("CMD", int(state["last_seq"]))
            except nats.js.errors.NotFoundError:
                return  # it is done already
            headers = {n: v for n, v in (stored.headers or {}).items() if n != "Nats-TTL"}
            if envelopes.MESSAGE_ID in headers:
                answer = await context.publish(
                    stored.subject or "", stored.data or b"", headers=headers
                )
                assert answer.duplicate, "a copy of a command counts as a new one"

    async def poison(self) -> None:
        """Messages that no worker can read: each ends in DLQ, once."""
        bodies = (b"\xc1\xff not msgpack", b'{"operation": 1}', b"{}")
        bus = await connect(self.stack.settings("operator"), service="operator")
        try:
            for body in bodies:
                operation = f"{POISON}-{secrets.token_hex(6)}"
                cluster = self.chance.choice(self.clusters)
                await bus.client.jetstream().publish(
                    f"cmd.lifecycle.{cluster}.apply.{operation}", body
                )
                self.poisoned += 1
        finally:
            await bus.close()

    def _frail(self) -> str:
        return self.chance.choice(
            [name for name in self.stack.processes if name.endswith("-frail")]
        )
