"""A stack with a region: a second NATS server with workers behind it, and a line that can break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from pydantic import SecretStr

from deploy.local.processes import Process
from deploy.nats import permissions
from deploy.nats.config import Leaf, Server, render, render_leaf
from deploy.nats.keys import UserKey
from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.streams import Region
from tests.testbed import loopback
from tests.testbed.buses import NatsServer
from tests.testbed.proxies import FaultProxy
from tests.testbed.stack import Stack

REGION = "east"


def in_region(kubeconfig: str, region: str = REGION) -> str:
    """A kubeconfig whose cluster says that it is in a region."""
    document = yaml.safe_load(kubeconfig)
    labels = {"name": "meshbus.io/labels", "extension": {"region": region}}
    document["contexts"][0]["context"]["extensions"] = [labels]
    return yaml.safe_dump(document)


class RegionalStack(Stack):
    """One whose region `east` has a server of its own, by the configuration that Meshbus makes."""

    def __init__(
        self,
        folder: Path,
        *,
        regional: Sequence[str] = ("lifecycle",),
        services: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        people: Sequence[permissions.User] = (),
        is_taken_over: bool = False,
    ) -> None:
        """`services` are started beside the streams, `regional` are those of which workers may be
        added behind the line (`add_behind`). The region's server keeps nobody from anything when
        it `is_taken_over`."""
        self._leaf_port = loopback.take_port()
        self._regions = [Region(REGION, tuple(regional))]
        workers = [permissions.regional(service, REGION) for service in regional]
        super().__init__(
            folder,
            services=services,
            settings=settings,
            people=(*people, *workers),
            warm=True,
        )
        self.line = FaultProxy(self._leaf_port)
        seeds = {user.name: self.ring.nkeys[user.name].seed for user in workers}
        keys = {user.name: self.ring.nkeys[user.name].public for user in workers}
        leaf = Leaf(url=f"nats-leaf://{self.line.address}", server=Server(store=None))
        config = render_leaf(keys, users=workers, seeds=seeds, leaf=leaf)
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
        """One more worker, of the region and connected to its server."""
        name = f"{service}-{REGION}"
        user = permissions.regional(service, REGION).name
        settings = {
            "MESHBUS_NATS_URL": self.leaf.url,
            "MESHBUS_NATS_SEED": self.ring.nkeys[user].seed,
            "MESHBUS_REGION": REGION,
        }
        process = self.add(service, name=name, settings=settings)
        self.wait_ready(name)
        return process

    @asynccontextmanager
    async def bus_behind(self, service: str) -> AsyncIterator[Bus]:
        """A connection to the region's server with the key of a service's workers there."""
        user = permissions.regional(service, REGION).name
        there = {
            "nats_url": self.leaf.url,
            "nats_seed": SecretStr(self.ring.nkeys[user].seed),
            "region": REGION,
        }
        settings = self.settings(service).model_copy(update=there)
        bus = await connect(settings, service=service)
        try:
            yield bus
        finally:
            await bus.close()

    def _nats_config(self, nkeys: Mapping[str, UserKey]) -> str:
        keys = {user: key.public for user, key in nkeys.items()}
        server = Server(store=None, leaf_port=self._leaf_port)
        return render(keys, server=server, users=self._users)
