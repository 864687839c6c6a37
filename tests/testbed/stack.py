"""NATS and the services of Meshbus as real processes: what the tests and the demo drive."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from services.chassis.bus.credentials import generate_keys
from tests.testbed import loopback
from tests.testbed.building import distributions_folder
from tests.testbed.buses import DEFAULT_CONFIG, NatsServer
from tests.testbed.processes import BedError, Process, wait_until

ROOT = Path(__file__).resolve().parents[2]


class Stack:
    """One NATS server, one gateway and any number of lifecycle workers, on free ports."""

    def __init__(
        self,
        folder: Path,
        *,
        otlp_endpoint: str | None = None,
        settings: Mapping[str, str] | None = None,
        nats_config: str = DEFAULT_CONFIG,
    ) -> None:
        """`settings` are further `MESHBUS_…` variables for all services."""
        self.folder = folder.resolve()
        self.nats = NatsServer(self.folder / "nats", config=nats_config)
        self.gateway_port = loopback.take_port()
        self.processes: dict[str, Process] = {}
        self._public_key, self._private_key = generate_keys()
        self._otlp_endpoint = otlp_endpoint
        self._settings = dict(settings or {})
        self._health: dict[str, int] = {}

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def gateway_address(self) -> str:
        return f"{loopback.HOST}:{self.gateway_port}"

    def health_url(self, name: str) -> str:
        """Base URL of a service's health and metrics."""
        return f"http://{loopback.HOST}:{self._health[name]}"

    def start(self) -> None:
        """NATS, its streams, one gateway and one lifecycle worker, all ready."""
        self.nats.start()
        self.apply_streams()
        self.add("lifecycle")
        self.add("gateway")
        for name in list(self.processes):
            self.wait_ready(name)

    def stop(self) -> None:
        """The services drain, then NATS ends."""
        for process in reversed(list(self.processes.values())):
            process.stop()
        self.nats.stop()

    def apply_streams(self) -> None:
        """The init job."""
        done = subprocess.run(
            [sys.executable, "-m", "services.chassis.bus", "apply"],
            cwd=ROOT,
            env={**_clean_environment(), **self._shared()},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise BedError(f"the streams could not be applied: {done.stderr.strip()}")

    def add(
        self, service: str, *, name: str = "", settings: Mapping[str, str] | None = None
    ) -> Process:
        """Starts one more process of `service`."""
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
            is_ready, timeout_s=30.0, what=f"{name} to be ready", processes=[self.processes[name]]
        )

    def log_text(self) -> str:
        """What all processes have logged, for searches."""
        return "".join(path.read_text(errors="replace") for path in self.folder.rglob("*.log"))

    def _shared(self) -> dict[str, str]:
        shared = {
            "MESHBUS_NATS_URL": self.nats.url,
            "MESHBUS_SEALING_PUBLIC_KEY": self._public_key,
            "MESHBUS_SEALING_PRIVATE_KEY": self._private_key,
            **self._settings,
        }
        if self._otlp_endpoint:
            shared["MESHBUS_OTLP_ENDPOINT"] = self._otlp_endpoint
        return shared

    def _own(self, service: str, *, http_port: int) -> dict[str, str]:
        own = {"MESHBUS_HTTP_PORT": str(http_port)}
        if service == "gateway":
            own["MESHBUS_GATEWAY_PORT"] = str(self.gateway_port)
        if service == "lifecycle":
            own["MESHBUS_LIFECYCLE_DISTRIBUTIONS"] = str(distributions_folder())
        return own


def _module(service: str) -> str:
    return f"services.{service}"


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MESHBUS_")}


def _assignments(environment: Mapping[str, str]) -> list[str]:
    merged = {**_clean_environment(), "PYTHONPATH": str(ROOT), **environment}
    return [f"{name}={value}" for name, value in merged.items()]
