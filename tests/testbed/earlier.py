"""An earlier version of Meshbus, unpacked from its recording and run beside this one.

Its code runs with the libraries of today: what differs is what travels, not how Python is set up.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.installations import clean_environment
from tests.testbed.processes import BedError

PARTS = ("services", "proto", "deploy")
"""What is kept of a version's code."""
_LATER_SETTINGS = ("MESHBUS_LIFECYCLE_RELEASES",)
_RENDER = (
    "import json, sys; from deploy.nats.config import Server, render; "
    "print(render(json.load(sys.stdin), server=Server(store=None)))"
)


@dataclass(frozen=True, slots=True)
class Earlier:
    """The code of one version in a folder of its own."""

    folder: Path

    @classmethod
    def of(cls, code: Path, folder: Path) -> Earlier:
        """Unpacks `code`, an archive that `tests.faults.recording` made."""
        with tarfile.open(code) as packed:
            packed.extractall(folder, filter="data")
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which `python -m services.<service>` is the earlier one."""
        # The current folder would come before the path.
        return {"PYTHONPATH": str(self.folder), "PYTHONSAFEPATH": "1"}

    @property
    def under(self) -> list[str]:
        """The command that starts it without settings that the stack gives and it refuses."""
        return ["/usr/bin/env", *(f"--unset={name}" for name in _LATER_SETTINGS)]

    def nats_config(self, keys: Mapping[str, str]) -> str:
        """Its NATS configuration, with each user's public key."""
        return self._run("-c", _RENDER, stdin=json.dumps(dict(keys)))

    def apply_streams(self, settings: Mapping[str, str]) -> None:
        """Its init job; `settings` are the `MESHBUS_…` variables of the user admin."""
        self._run("-m", "services.chassis.bus", "apply", settings=settings)

    def _run(
        self, *command: str, settings: Mapping[str, str] | None = None, stdin: str = ""
    ) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={**clean_environment(), **self.environment, **(settings or {})},
            input=stdin,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise BedError(f"`python {' '.join(command[:2])}` of {self.folder}: {done.stderr}")
        return done.stdout
