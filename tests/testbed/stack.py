"""NATS and the services of Meshbus as real processes: what the tests and the demo drive.

They are started as `make up` starts them (`deploy/local`), on free ports. A refusal of NATS to a
service is a defect, of its code or of its rights, and ends the stack with an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from deploy.local.households import Household
from deploy.local.installations import ROOT, SERVICES, Installation, clean_environment
from deploy.local.keyrings import KeyRing
from deploy.local.processes import Process
from deploy.nats.config import Server, render
from deploy.nats.keys import UserKey, seed_file, write_keys
from deploy.nats.permissions import USERS, User
from services.chassis.sealing import RECEIVERS, Keys
from tests.testbed import loopback
from tests.testbed.building import binary, distributions_folder, gateway_api_folder
from tests.testbed.buses import NatsServer
from tests.testbed.processes import BedError
from tests.testbed.warm import WarmProcess

__all__ = ["ROOT", "SERVICES", "Stack"]

_REFUSAL = re.compile(r'"\w+/nkey:(?P<key>U\w+)" - (?P<what>\w+ Violation - .*)')

_LATE_ANSWER = ('Publish Violation - Subject "_INBOX_', 'Publish Violation - Subject "_R_.')


class Stack(Installation):
    """One NATS server, one gateway and any number of workers, on free ports."""

    _callers = "test"

    def __init__(
        self,
        folder: Path,
        *,
        services: Sequence[str] = SERVICES,
        otlp_endpoint: str | None = None,
        settings: Mapping[str, str] | None = None,
        people: Sequence[User] = (),
        warm: bool = False,
    ) -> None:
        """`start` starts `services`; `settings` are further `MESHBUS_…` variables for all.

        `people` are NATS users beside the shipped ones. The services of a `warm` stack begin with
        their modules loaded (`tests/testbed/warm.py`).
        """
        self._is_warm = warm
        self._services = services
        self._users = (*USERS, *people)
        self._former_nkeys: dict[str, UserKey] = {}
        traced = {"MESHBUS_OTLP_ENDPOINT": otlp_endpoint} if otlp_endpoint else {}
        ring = KeyRing.fresh(user.name for user in self._users)
        super().__init__(
            folder,
            nats=NatsServer(folder / "nats", config=self._nats_config(ring.nkeys)),
            keys=ring,
            gateway_port=loopback.take_port(),
            settings={**(settings or {}), **traced},
        )
        self._generation = 1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self.stop()
        refusals = [refusal for name in SERVICES for refusal in self.refusals(name)]
        if refusals and failure is None:
            raise BedError(f"NATS refused what a service needs: {'; '.join(refusals)}")

    @property
    def household(self) -> Household:
        return self.ring.household

    def start(self) -> None:
        """NATS, its streams, and one process of each service, all ready."""
        self.nats.start()
        self.apply_streams()
        for service in self._services:
            self.add(service)
        for name in list(self.processes):
            self.wait_ready(name)

    def run_init_job(self) -> None:
        """The same by the command that Meshbus ships."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "services.chassis.bus", "apply"),
                *(f"--region={one.name}={','.join(one.services)}" for one in self._regions),
            ],
            cwd=ROOT,
            env={**clean_environment(), **self.admin_settings()},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise BedError(f"the streams could not be applied: {done.stderr.strip()}")

    def admin_settings(self) -> dict[str, str]:
        """The `MESHBUS_…` variables of the init job."""
        return {
            **self._shared(),
            **self.household.environment("admin"),
            "MESHBUS_NATS_SEED": self.admin_seed,
        }

    def add(
        self,
        service: str,
        *,
        name: str = "",
        settings: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> Process:
        """Starts one more process of `service`; `under` is a command that runs another one."""
        return self.launch(
            service,
            http_port=loopback.take_port(),
            name=name,
            settings=settings,
            under=under,
        )

    def _process(
        self, service: str, *, name: str, environment: Mapping[str, str], under: Sequence[str]
    ) -> Process:
        # What Python itself reads at its start takes a start of Python.
        if self._is_warm and not under and environment["PYTHONPATH"] == str(ROOT):
            log = self.folder / f"{name}.log"
            return WarmProcess(name, service, log=log, environment=environment)
        return super()._process(service, name=name, environment=environment, under=under)

    def replace(
        self,
        service: str,
        *,
        settings: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """A new process with the keys of now in the place of a running one, without a gap; of the
        gateway there is one after the other, for its port."""
        old = self.processes.pop(service)
        if service == "gateway":
            old.stop()
        self._generation += 1
        name = f"{service}-{self._generation}"
        self.add(service, name=name, settings=settings, under=under)
        self.wait_ready(name)
        self.processes[service] = self.processes.pop(name)
        self._http[service] = self._http.pop(name)
        old.stop()

    # --- NATS users -----------------------------------------------------------------------------

    def renew_nkeys(self, *users: str) -> None:
        """New keys, which the server takes beside the former ones at once; with them all users get
        the rights of this version."""
        for user in users:
            self._former_nkeys[user] = self.ring.nkeys[user]
            self.ring.nkeys[user] = UserKey.fresh()
        self.nats.reload(self._nats_config(self.ring.nkeys))

    def forget_nkeys(self) -> dict[str, str]:
        """Former keys count no more from now on; returns their seeds."""
        former, self._former_nkeys = self._former_nkeys, {}
        self.nats.reload(self._nats_config(self.ring.nkeys))
        return {user: key.seed for user, key in former.items()}

    def _nats_config(self, nkeys: Mapping[str, UserKey]) -> str:
        """The addresses of the configuration give way to the command line's."""
        former = self._former_nkeys
        accepted = {
            user: [key.public, *([former[user].public] if user in former else [])]
            for user, key in nkeys.items()
        }
        return render(accepted, server=Server(store=None), users=self._users)

    @property
    def admin_seed(self) -> str:
        """Of the user that may create streams and correct records: the tests' own hands."""
        return self.ring.nkeys["admin"].seed

    @property
    def operator_seed(self) -> str:
        """Of the user for people with the nats CLI."""
        return self.ring.nkeys["operator"].seed

    @property
    def keys(self) -> Keys:
        """Opens what was sealed to any of the services: a test's own eyes."""
        return self.household.keys(*RECEIVERS)

    def nats_command(self, *arguments: str, user: str = "operator") -> list[str]:
        """The command line of the nats CLI as `user`; its seed stands in a file of its own."""
        folder = self.folder / "nkeys"
        if not seed_file(folder, user).exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_keys(folder, {user: self.ring.nkeys[user]})
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
        key = self.ring.nkeys[user].public
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

    def _own(self, service: str, *, http_port: int) -> dict[str, str]:
        own = super()._own(service, http_port=http_port)
        if service == "lifecycle":
            own["MESHBUS_LIFECYCLE_DISTRIBUTIONS"] = str(distributions_folder())
            # No test goes out; those of releases have a server of their own.
            own["MESHBUS_LIFECYCLE_RELEASES"] = "off"
        if service == "translator":
            if "lifecycle" not in self._services:
                # Nobody publishes definitions, or not from the beginning.
                own["MESHBUS_TRANSLATOR_DISTRIBUTIONS"] = str(distributions_folder())
            own["MESHBUS_TRANSLATOR_GATEWAY_API"] = str(gateway_api_folder())
        if service == "perf":
            own["MESHBUS_PERF_FORTIO"] = str(binary("fortio"))
        return own
