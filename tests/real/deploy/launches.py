"""`python -m deploy.local up` as a person has it in a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.local.addresses import Ports
from deploy.local.installations import ROOT, clean_environment
from tests.testbed import loopback
from tests.testbed.building import binary, distributions_folder

WITHIN_S = 150.0


class Launched:
    """A launcher in a process of its own; what it says is read line by line."""

    def __init__(self, folder: Path, *, offset: int) -> None:
        self.folder = folder
        self.environment = {
            **clean_environment(),
            "MESHBUS_PORT_OFFSET": str(offset),
            "MESHBUS_LIFECYCLE_DISTRIBUTIONS": str(distributions_folder()),
            "MESHBUS_PERF_FORTIO": str(binary("fortio")),
        }
        self.lines: list[str] = []
        self._popen: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._said = threading.Condition()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "deploy.local", *arguments, "--folder", str(self.folder)]

    def start(self, *, clusters: Sequence[str] = ()) -> None:
        """Returns once it says that it is ready."""
        self._popen = subprocess.Popen(
            self.command("up", *(f"--cluster={cluster}" for cluster in clusters)),
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._popen,), daemon=True)
        self._reader.start()
        self.hear("ready after")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command in the same folder, to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
        )

    def hear(self, *words: str) -> str:
        """The first line with all of these words, now or later."""
        with self._said:
            while True:
                for line in self.lines:
                    if all(word in line for word in words):
                        return line
                has_ended = self._popen is None or self._popen.poll() is not None
                if has_ended or not self._said.wait(WITHIN_S):
                    raise AssertionError(f"never said {words}:\n{self.text}")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def addresses(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads((self.folder / "addresses.json").read_text())
        return found

    def end(self, number: signal.Signals) -> int:
        """Sends a signal; the launcher's exit status."""
        assert self._popen is not None
        self._popen.send_signal(number)
        return self._popen.wait(WITHIN_S)

    def children(self) -> dict[str, int]:
        """Pids of NATS and of the services, by name."""
        assert self._popen is not None
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if parent == self._popen.pid:
                name = next((w for w in words if w.startswith("services.")), Path(words[0]).name)
                found[name.removeprefix("services.")] = int(entry.name)
        return found

    def close(self) -> None:
        """Nothing of it is left, however the test ended."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        if self._reader is not None:
            self._reader.join()

    def _read(self, popen: subprocess.Popen[str]) -> None:
        assert popen.stdout is not None
        with popen.stdout as output:
            for line in output:
                with self._said:
                    self.lines.append(line.rstrip())
                    self._said.notify_all()
        popen.wait()
        with self._said:
            self._said.notify_all()


def free_offset() -> int:
    """By how much all ports can be moved to free ones."""
    return loopback.take_offset(list(Ports.moved(0).named().values()))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state not in "ZX"
