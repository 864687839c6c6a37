"""Three nats-servers on loopback that keep every stream three times, as a cluster does that has to
survive the loss of a machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.chassis.bus.connection import Bus
from services.chassis.bus.streams import call_api
from tests.testbed import loopback
from tests.testbed.buses import DEFAULT_CONFIG, NatsServer
from tests.testbed.processes import Process
from tests.testbed.stack import Stack

REPLICAS = 3

# The shortest that the server accepts, so that a planned restart takes seconds in a test.
LAME_DUCK = """
lame_duck_duration: "30s"
lame_duck_grace_period: "1s"
"""


class NatsCluster:
    """Three servers with one address for all; each can be killed, ended and started alone."""

    def __init__(self, folder: Path, *, config: str = DEFAULT_CONFIG) -> None:
        """Chooses ports; nothing runs before `start`."""
        routes = [
            f"nats://{loopback.HOST}:{port}"
            for port in (loopback.take_port() for _ in range(REPLICAS))
        ]
        self.servers = [
            NatsServer(
                folder / f"n{number}",
                name=f"n{number}",
                config=config + LAME_DUCK,
                flags=[
                    "--cluster_name=bed",
                    f"--cluster={route}",
                    f"--routes={','.join(routes)}",
                    # Clients are told of each other's addresses else, past a proxy or a test.
                    "--no_advertise",
                ],
            )
            for number, route in enumerate(routes)
        ]

    def __enter__(self) -> NatsCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """All addresses, as `MESHBUS_NATS_URL` has them."""
        return ",".join(server.url for server in self.servers)

    @property
    def starts(self) -> int:
        return max(server.starts for server in self.servers)

    @property
    def process(self) -> Process:
        """One of the processes, for whoever wants a log; all have the same refusals to tell."""
        return self.servers[0].process

    def start(self) -> None:
        """All three at once: none is healthy before there is a majority."""
        for server in self.servers:
            server.launch()
        with ThreadPoolExecutor(REPLICAS) as pool:
            list(pool.map(NatsServer.wait_healthy, self.servers))

    def stop(self) -> None:
        for server in self.servers:
            server.process.kill()

    async def leader(self, bus: Bus, stream: str) -> NatsServer:
        """The server that takes the stream's messages now."""
        answer = await call_api(bus.client, f"STREAM.INFO.{stream}", {})
        name = answer["cluster"]["leader"]
        return next(server for server in self.servers if server.name == name)


class TrioStack(Stack):
    """Its streams are kept three times, by the configuration that Meshbus ships."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, services=("lifecycle", "translator", "gateway"))
        self.trio = NatsCluster(folder / "trio", config=self._nats_config(self.ring.nkeys))
        self.nats = self.trio  # type: ignore[assignment]  # started, stopped and read alike

    def apply_streams(self, *, replicas: int = REPLICAS) -> None:
        super().apply_streams(replicas=replicas)
