"""A disk of a few megabytes that can be filled: a tmpfs in a mount namespace of its own.

Nothing is mounted where others see it, and when the process that holds the namespace is gone, so
is the disk. Needs the right to make a namespace: root's, or the kernel's leave for everybody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.testbed.processes import Process, wait_until

_CHUNK = bytes(256 * 1024)


def is_possible() -> bool:
    """Whether this user may mount in a namespace here."""
    try:
        command = [*_unshare(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def _unshare() -> list[str]:
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    return [shutil.which("unshare") or "unshare", *mapped, "--mount", "--"]


class SmallDisk:
    """A tmpfs of `megabytes` at `folder`, seen only by what runs within it."""

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ready = self.folder.with_name("disk-is-ready")
        script = (
            f"mount -t tmpfs -o size={megabytes}m tmpfs '{self.folder}' "
            f"&& touch '{self._ready}' && exec sleep infinity"
        )
        self._holder = Process(
            "disk", [*_unshare(), "sh", "-c", script], log=self.folder.with_name("disk.log")
        )

    def __enter__(self) -> SmallDisk:
        self._holder.start()
        wait_until(self._ready.exists, timeout_s=30.0, what="the disk", processes=[self._holder])
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()

    @property
    def within(self) -> list[str]:
        """A command in front of another: it runs where the disk is."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        nsenter = shutil.which("nsenter") or "nsenter"
        return [nsenter, f"--target={self._holder.pid}", *user, "--mount", "--"]

    def fill(self) -> None:
        """Until not a byte fits any more."""
        with self._ballast.open("ab", buffering=0) as ballast:
            size = len(_CHUNK)
            while size:
                try:
                    ballast.write(_CHUNK[:size])
                except OSError:
                    size //= 2

    def relieve(self) -> None:
        """Takes away what `fill` wrote."""
        self._ballast.unlink()

    @property
    def _ballast(self) -> Path:
        # The folder as the holder sees it.
        return Path(f"/proc/{self._holder.pid}/root{self.folder}") / "ballast"
