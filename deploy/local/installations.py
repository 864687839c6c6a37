"""NATS and the services on one machine: what `make up`, the demo and the tests start.

The server runs with the configuration that Meshbus ships, so each service has its own NATS user and
its rights only. How a service gets its keys and addresses stands here and nowhere else: what the
tests have tried is what a user starts.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local.keyrings import KeyRing
from deploy.local.probing import HOST, fetch
from deploy.local.processes import Process, wait_until
from deploy.local.servers import NatsServer
from services.chassis.bus import streams
from services.chassis.bus.connection import connect
from services.chassis.settings import PREFIX, ChassisSettings

SERVICES = ("lifecycle", "translator", "perf", "topology", "gateway")
"""In the order in which they are started: the gateway, which takes work, last."""

ROOT = Path(__file__).resolve().parents[2]
_READY_WITHIN_S = 120.0


class Installation:
    """One NATS server and any number of processes of each service, on loopback."""

    _callers = "launcher"
    """Before the user's name in the names of connections made here."""
    _regions: Sequence[streams.Region] = ()

    def __init__(
        self,
        folder: Path,
        *,
        nats: NatsServer,
        keys: KeyRing,
        gateway_port: int,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing runs before `start`; `settings` are `MESHBUS_…` variables for all services."""
        self.folder = folder.resolve()
        self.nats = nats
        self.ring = keys
        self.gateway_port = gateway_port
        self.processes: dict[str, Process] = {}
        self._common = dict(settings or {})
        self._http: dict[str, int] = {}

    @property
    def gateway_address(self) -> str:
        return f"{HOST}:{self.gateway_port}"

    def health_url(self, name: str) -> str:
        """Base URL of a service's health, metrics and pages."""
        return f"http://{HOST}:{self._http[name]}"

    def apply_streams(self, *, replicas: int = 1) -> None:
        """What the init job does, without the second that a process takes to come up."""
        settings = self.settings("admin")

        async def apply() -> None:
            bus = await connect(settings, service="admin")
            try:
                await streams.reconcile(
                    bus.client,
                    ack_wait=settings.ack_wait,
                    lease_ttl=settings.lease_ttl,
                    replicas=replicas,
                    regions=self._regions,
                )
            finally:
                await bus.close()

        # In a thread of its own: the caller may be inside an event loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, apply()).result()

    def launch(
        self,
        service: str,
        *,
        http_port: int,
        name: str = "",
        settings: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> Process:
        """Starts one more process of `service`; `under` is a command that runs another one."""
        name = name or service
        self._http[name] = http_port
        environment = {
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            **self._shared(),
            **self._own(service, http_port=http_port),
            f"{PREFIX}INSTANCE": name,
            **(settings or {}),
        }
        process = self._process(service, name=name, environment=environment, under=under)
        process.start()
        self.processes[name] = process
        return process

    def _process(
        self, service: str, *, name: str, environment: Mapping[str, str], under: Sequence[str]
    ) -> Process:
        return Process(
            name,
            [*under, sys.executable, "-m", f"services.{service}"],
            log=self.folder / f"{name}.log",
            # Never on the command line, which all users of a machine can read.
            environment=environment,
            inherits=False,
        )

    def wait_ready(self, name: str) -> None:
        """Until the service says that it takes work."""

        def is_ready() -> bool:
            return fetch(f"{self.health_url(name)}/readyz").startswith(b"ok\n")

        wait_until(
            is_ready,
            timeout_s=_READY_WITHIN_S,
            what=f"{name} to be ready",
            processes=[self.processes[name]],
        )

    def stop(self, *, grace_s: float = 10.0) -> None:
        """The services drain side by side, then NATS ends. What takes longer is killed."""
        for process in self.processes.values():
            process.ask_to_end()
        deadline = time.monotonic() + grace_s
        for process in self.processes.values():
            process.stop(grace_s=max(0.1, deadline - time.monotonic()))
        self.nats.stop()

    def kill(self) -> None:
        """SIGKILL to all: what was acknowledged is on the disk."""
        for process in (*self.processes.values(), self.nats.process):
            process.kill()

    def settings(self, user: str) -> ChassisSettings:
        """For a connection as `user`: `connect(installation.settings(user), service=user)`."""
        variables = {
            **self._shared(),
            **self.ring.household.environment(user),
            f"{PREFIX}NATS_SEED": self.ring.nkeys[user].seed,
            f"{PREFIX}INSTANCE": f"{self._callers}-{user}",
        }
        known = ChassisSettings.model_fields
        shared = {name.removeprefix(PREFIX).lower(): value for name, value in variables.items()}
        return ChassisSettings.model_validate({n: v for n, v in shared.items() if n in known})

    def _shared(self) -> dict[str, str]:
        return {
            f"{PREFIX}NATS_URL": self.nats.url,
            f"{PREFIX}SIGNING_PUBLIC_KEYS": self.ring.checking_key,
            **self._common,
        }

    def _own(self, service: str, *, http_port: int) -> dict[str, str]:
        own = {
            f"{PREFIX}HTTP_PORT": str(http_port),
            f"{PREFIX}NATS_SEED": self.ring.nkeys[service].seed,
            **self.ring.household.environment(service),
        }
        if service == "gateway":
            own[f"{PREFIX}GATEWAY_PORT"] = str(self.gateway_port)
            own[f"{PREFIX}SIGNING_KEY"] = self.ring.signing_key
        return own


def clean_environment() -> dict[str, str]:
    """This process' environment without settings of Meshbus."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
