"""A stack with a region: a second NATS server with workers behind it, and a line that can break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local.processes import Process
from deploy.nats.config import Leaf, Server, render, render_leaf
from deploy.nats.keys import UserKey
from deploy.nats.permissions import User, link
from services.chassis.bus.connection import Bus, connect
from tests.testbed import loopback
from tests.testbed.buses import NatsServer
from tests.testbed.proxies import FaultProxy
from tests.testbed.stack import Stack

REGION = "east"


class RegionalStack(Stack):
    """One whose region `east` has a server of its own, by the configuration that Meshbus makes."""

    def __init__(
        self,
        folder: Path,
        *,
        regional: Sequence[str] = ("lifecycle",),
        services: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        people: Sequence[User] = (),
        is_taken_over: bool = False,
    ) -> None:
        """`services` are started beside the streams, `regional` are those of which workers may be
        added behind the line (`add_behind`). The region's server keeps nobody from anything when
        it `is_taken_over`."""
        self._leaf_port = loopback.take_port()
        links = {service: link(service, REGION) for service in regional}
        super().__init__(
            folder,
            services=services,
            settings=settings,
            people=(*people, *links.values()),
            warm=True,
        )
        self.line = FaultProxy(self._leaf_port)
        seeds = {name: self.ring.nkeys[user.name].seed for name, user in links.items()}
        keys = {name: self.ring.nkeys[name].public for name in regional}
        leaf = Leaf(url=f"nats-leaf://{self.line.address}", server=Server(store=None))
        config = render_leaf(keys, seeds=seeds, leaf=leaf)
        if is_taken_over:
            config = config.replace("allow: [", 'allow: [\n">"')
        self.leaf = NatsServer(folder / "leaf", name="leaf", config=config)

    def start(self) -> None:
        super().start()
        self.line.start()
        self.leaf.start()

    def stop(self, *, grace_s: float = 10.0) -> None:
        super().stop(grace_s=grace_s)
        self.leaf.stop()
        self.line.close()

    def add_behind(self, service: str) -> Process:
        """One more worker, connected to the region's server."""
        name = f"{service}-{REGION}"
        process = self.add(service, name=name, settings={"MESHBUS_NATS_URL": self.leaf.url})
        self.wait_ready(name)
        return process

    @asynccontextmanager
    async def bus_behind(self, service: str) -> AsyncIterator[Bus]:
        """A connection to the region's server with the key of a service."""
        settings = self.settings(service).model_copy(update={"nats_url": self.leaf.url})
        bus = await connect(settings, service=service)
        try:
            yield bus
        finally:
            await bus.close()

    def _nats_config(self, nkeys: Mapping[str, UserKey]) -> str:
        keys = {user: key.public for user, key in nkeys.items()}
        server = Server(store=None, leaf_port=self._leaf_port)
        return render(keys, server=server, users=self._users)
