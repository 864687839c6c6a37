"""NATS and the services of Meshbus as real processes: what the tests and the demo drive.

The server runs with the configuration that Meshbus ships, so each service has its own NATS user and
its rights only. A refusal to a service is a defect, of its code or of its rights, and ends the
stack with an error.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.nats.config import Server, render
from deploy.nats.keys import UserKey, seed_file, write_keys
from deploy.nats.permissions import USERS, User
from services.chassis.bus import streams
from services.chassis.bus.connection import connect
from services.chassis.granting import generate_signing_keys
from services.chassis.sealing import RECEIVERS, Keys
from services.chassis.settings import ChassisSettings
from tests.testbed import loopback
from tests.testbed.building import binary, distributions_folder, gateway_api_folder
from tests.testbed.buses import NatsServer
from tests.testbed.households import Household
from tests.testbed.processes import BedError, Process, wait_until

SERVICES = ("lifecycle", "translator", "perf", "topology", "gateway")

ROOT = Path(__file__).resolve().parents[2]
_REFUSAL = re.compile(r'"\w+/nkey:(?P<key>U\w+)" - (?P<what>\w+ Violation - .*)')

_LATE_ANSWER = 'Publish Violation - Subject "_INBOX_'


class Stack:
    """One NATS server, one gateway and any number of workers, on free ports."""

    def __init__(
        self,
        folder: Path,
        *,
        services: Sequence[str] = SERVICES,
        otlp_endpoint: str | None = None,
        settings: Mapping[str, str] | None = None,
        people: Sequence[User] = (),
    ) -> None:
        """`start` starts `services`; `settings` are further `MESHBUS_…` variables for all.

        `people` are NATS users beside the shipped ones.
        """
        self._services = services
        self.folder = folder.resolve()
        self._users = (*USERS, *people)
        self._nkeys = {user.name: UserKey.fresh() for user in self._users}
        self._former_nkeys: dict[str, UserKey] = {}
        self.nats = NatsServer(self.folder / "nats", config=self._nats_config())
        self.gateway_port = loopback.take_port()
        self.processes: dict[str, Process] = {}
        self.household = Household()
        self.checking_key, self.signing_key = generate_signing_keys()
        self._otlp_endpoint = otlp_endpoint
        self._settings = dict(settings or {})
        self._health: dict[str, int] = {}
        self._generation = 1

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self.stop()
        refusals = [refusal for name in SERVICES for refusal in self.refusals(name)]
        if refusals and failure is None:
            raise BedError(f"NATS refused what a service needs: {'; '.join(refusals)}")

    @property
    def gateway_address(self) -> str:
        return f"{loopback.HOST}:{self.gateway_port}"

    def health_url(self, name: str) -> str:
        """Base URL of a service's health and metrics."""
        return f"http://{loopback.HOST}:{self._health[name]}"

    def start(self) -> None:
        """NATS, its streams, and one process of each service, all ready."""
        self.nats.start()
        self.apply_streams()
        for service in self._services:
            self.add(service)
        for name in list(self.processes):
            self.wait_ready(name)

    def stop(self) -> None:
        """The services drain, then NATS ends."""
        for process in reversed(list(self.processes.values())):
            process.stop()
        self.nats.stop()

    def apply_streams(self) -> None:
        """What the init job does, without the second that a process takes to come up."""
        settings = self.settings("admin")

        async def apply() -> None:
            bus = await connect(settings, service="admin")
            try:
                await streams.reconcile(
                    bus.client, ack_wait=settings.ack_wait, lease_ttl=settings.lease_ttl
                )
            finally:
                await bus.close()

        # In a thread of its own: the caller may be inside an event loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, apply()).result()

    def run_init_job(self) -> None:
        """The same by the command that Meshbus ships."""
        done = subprocess.run(
            [sys.executable, "-m", "services.chassis.bus", "apply"],
            cwd=ROOT,
            env={
                **_clean_environment(),
                **self._shared(),
                **self.household.environment("admin"),
                "MESHBUS_NATS_SEED": self.admin_seed,
            },
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise BedError(f"the streams could not be applied: {done.stderr.strip()}")

    def add(
        self,
        service: str,
        *,
        name: str = "",
        settings: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> Process:
        """Starts one more process of `service`; `under` is a command that runs another one."""
        name = name or service
        index = loopback.take_port()
        self._health[name] = index
        environment = {
            **self._shared(),
            **self._own(service, http_port=index),
            "MESHBUS_INSTANCE": name,
            **(settings or {}),
        }
        process = Process(
            name,
            # `env -i` keeps the caller's own MESHBUS_ variables away.
            [
                "/usr/bin/env",
                "-i",
                *_assignments(environment),
                *under,
                sys.executable,
                "-m",
                _module(service),
            ],
            log=self.folder / f"{name}.log",
        )
        process.start()
        self.processes[name] = process
        return process

    def wait_ready(self, name: str) -> None:
        """Until the service says that it takes work."""

        def is_ready() -> bool:
            return loopback.fetch(f"{self.health_url(name)}/readyz", timeout_s=2.0) == b"ok\n"

        wait_until(
            is_ready, timeout_s=120.0, what=f"{name} to be ready", processes=[self.processes[name]]
        )

    def replace(self, service: str) -> None:
        """A new process with the keys of now in the place of a running one, without a gap; of the
        gateway there is one after the other, for its port."""
        old = self.processes.pop(service)
        if service == "gateway":
            old.stop()
        self._generation += 1
        name = f"{service}-{self._generation}"
        self.add(service, name=name)
        self.wait_ready(name)
        self.processes[service] = self.processes.pop(name)
        self._health[service] = self._health.pop(name)
        old.stop()

    # --- NATS users -----------------------------------------------------------------------------

    def renew_nkeys(self, *users: str) -> None:
        """New keys, which the server takes beside the former ones at once."""
        for user in users:
            self._former_nkeys[user] = self._nkeys[user]
            self._nkeys[user] = UserKey.fresh()
        self.nats.reload(self._nats_config())

    def forget_nkeys(self) -> dict[str, str]:
        """Former keys count no more from now on; returns their seeds."""
        former, self._former_nkeys = self._former_nkeys, {}
        self.nats.reload(self._nats_config())
        return {user: key.seed for user, key in former.items()}

    def _nats_config(self) -> str:
        """The addresses of the configuration give way to the command line's."""
        former = self._former_nkeys
        accepted = {
            user: [key.public, *([former[user].public] if user in former else [])]
            for user, key in self._nkeys.items()
        }
        return render(accepted, server=Server(store=None), users=self._users)

    @property
    def admin_seed(self) -> str:
        """Of the user that may create streams and correct records: the tests' own hands."""
        return self._nkeys["admin"].seed

    @property
    def operator_seed(self) -> str:
        """Of the user for people with the nats CLI."""
        return self._nkeys["operator"].seed

    @property
    def keys(self) -> Keys:
        """Opens what was sealed to any of the services: a test's own eyes."""
        return self.household.keys(*RECEIVERS)

    def settings(self, user: str) -> ChassisSettings:
        """For a connection as `user`: `connect(stack.settings(user), service=user)`."""
        shared = {
            name.removeprefix("MESHBUS_").lower(): value
            for name, value in {
                **self._shared(),
                **self.household.environment(user),
                "MESHBUS_NATS_SEED": self._nkeys[user].seed,
                "MESHBUS_INSTANCE": f"test-{user}",
            }.items()
        }
        known = ChassisSettings.model_fields
        return ChassisSettings.model_validate({n: v for n, v in shared.items() if n in known})

    def nats_command(self, *arguments: str, user: str = "operator") -> list[str]:
        """The command line of the nats CLI as `user`; its seed stands in a file of its own."""
        folder = self.folder / "nkeys"
        if not seed_file(folder, user).exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_keys(folder, {user: self._nkeys[user]})
        return [
            str(binary("nats")),
            "--no-context",
            f"--server={self.nats.url}",
            f"--nkey={seed_file(folder, user)}",
            f"--inbox-prefix=_INBOX_{user}",
            *arguments,
        ]

    def nats_environment(self) -> dict[str, str]:
        """Keeps the CLI from what the caller has set up for it."""
        environment = {n: v for n, v in os.environ.items() if not n.startswith("NATS_")}
        return environment | {"XDG_CONFIG_HOME": str(self.folder / "nats-cli")}

    def nats_cli(
        self,
        *arguments: str,
        stdin: str | None = None,
        timeout_s: float = 30.0,
        user: str = "operator",
    ) -> str:
        """What the nats CLI prints; raises `BedError` with its words when it fails."""
        done = subprocess.run(
            self.nats_command(*arguments, user=user),
            env=self.nats_environment(),
            input=stdin or "",
            capture_output=True,
            text=True,
            # It prints bodies as they are, and dead letters are sealed.
            errors="replace",
            timeout=timeout_s,
        )
        if done.returncode != 0:
            words = f"{done.stderr.strip()} {done.stdout.strip()}"
            raise BedError(f"`nats {' '.join(arguments)}` ended with {done.returncode}: {words}")
        return done.stdout

    def refusals(self, user: str) -> list[str]:
        """What the server has refused to `user`, in its own words."""
        key = self._nkeys[user].public
        found = _REFUSAL.finditer(self.nats.process.log.read_text(errors="replace"))
        told = [refusal["what"] for refusal in found if refusal["key"] == key]
        if self.nats.starts > 1:
            # An answer to a question from before the restart: the right to it went with the server.
            told = [what for what in told if not what.startswith(_LATE_ANSWER)]
        return [f"{user}: {what}" for what in told]

    # --- the rest -------------------------------------------------------------------------------

    def log_text(self) -> str:
        """What all processes have logged, for searches."""
        return "".join(path.read_text(errors="replace") for path in self.folder.rglob("*.log"))

    def _shared(self) -> dict[str, str]:
        shared = {
            "MESHBUS_NATS_URL": self.nats.url,
            "MESHBUS_SIGNING_PUBLIC_KEYS": self.checking_key,
            **self._settings,
        }
        if self._otlp_endpoint:
            shared["MESHBUS_OTLP_ENDPOINT"] = self._otlp_endpoint
        return shared

    def _own(self, service: str, *, http_port: int) -> dict[str, str]:
        own = {
            "MESHBUS_HTTP_PORT": str(http_port),
            "MESHBUS_NATS_SEED": self._nkeys[service].seed,
            **self.household.environment(service),
        }
        if service == "gateway":
            own["MESHBUS_GATEWAY_PORT"] = str(self.gateway_port)
            own["MESHBUS_SIGNING_KEY"] = self.signing_key
        if service in ("lifecycle", "translator"):
            own[f"MESHBUS_{service.upper()}_DISTRIBUTIONS"] = str(distributions_folder())
        if service == "translator":
            own["MESHBUS_TRANSLATOR_GATEWAY_API"] = str(gateway_api_folder())
        if service == "perf":
            own["MESHBUS_PERF_FORTIO"] = str(binary("fortio"))
        return own


def _module(service: str) -> str:
    return f"services.{service}"


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MESHBUS_")}


def _assignments(environment: Mapping[str, str]) -> list[str]:
    merged = {**_clean_environment(), "PYTHONPATH": str(ROOT), **environment}
    return [f"{name}={value}" for name, value in merged.items()]
