"""A real nats-server of a test, on free ports."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from deploy.local import servers
from services.chassis.bus.connection import Bus, connect
from services.chassis.settings import ChassisSettings
from tests.testbed import loopback

DEFAULT_CONFIG = """\
# A publish is acknowledged only when it is on the disk: what was acknowledged survives kill -9.
jetstream { sync_interval: always }
feature_flags { js_ack_fc_v2: false }
"""


@asynccontextmanager
async def connected(
    url: str, *, service: str = "tests", watchdog: timedelta = timedelta(seconds=5)
) -> AsyncIterator[Bus]:
    """A connection as services have it."""
    bus = await connect(ChassisSettings(nats_url=url), service=service, watchdog=watchdog)
    try:
        yield bus
    finally:
        await bus.close()


def stored_text(store: Path) -> str:
    """What the files of a server hold, for searches. One that is renamed meanwhile is read by
    either name, or by none: the next search has it."""
    found = []
    for path in store.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found.append(path.read_bytes().decode("latin-1"))
    return "".join(found)


class NatsServer(servers.NatsServer):
    """The launcher's, on ports of its own.

    Addresses and the store's folder come from the command line, which wins over the config, so the
    config that Meshbus ships can be tested as it is.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "nats",
        config: str = DEFAULT_CONFIG,
        flags: Sequence[str] = (),
        store: Path | None = None,
        within: Sequence[str] = (),
    ) -> None:
        super().__init__(
            folder,
            port=loopback.take_port(),
            monitoring_port=loopback.take_port(),
            config=config,
            name=name,
            flags=flags,
            store=store,
            within=within,
        )
