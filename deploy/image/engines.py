"""What builds images: Docker, Podman or Buildah. The Containerfile is the same for all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONTAINERFILE = Path(__file__).with_name("Containerfile")
_DAEMON_TIMEOUT_S = 20.0


class EngineError(Exception):
    """No engine is there, or it refused; the message has its words."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One of them. Buildah needs no daemon; its images stand in a store of our own."""

    name: str
    options: tuple[str, ...] = ()
    """What stands before every command."""

    def build(self, context: Path, *, tag: str, arguments: Mapping[str, str], epoch: int) -> None:
        """Builds the image in `context`; all in it is from the time `epoch`."""
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        command = ["build", f"--file={CONTAINERFILE}", f"--tag={tag}", *given]
        if self.name == "buildah":
            command += ["--isolation=chroot", "--layers=false"]
        if self.name != "docker":
            command.append(f"--timestamp={epoch}")
        self.run(*command, str(context), environment={"SOURCE_DATE_EPOCH": str(epoch)})

    def load(self, archive: Path, *, tag: str, epoch: int) -> None:
        """Makes an image with nothing but a root file system out of its archive."""
        if self.name != "buildah":
            self.run("import", str(archive), tag)
            return
        container = self.run("from", "scratch").strip()
        self.run("add", "--quiet", container, str(archive), "/")
        self.run("commit", "--quiet", "--rm", f"--timestamp={epoch}", container, tag)

    def save(self, tag: str, file: Path) -> None:
        """Writes the image as an archive that each of the engines loads."""
        file.unlink(missing_ok=True)
        if self.name == "buildah":
            self.run("push", "--quiet", tag, f"docker-archive:{file}:{tag}")
        else:
            self.run("save", f"--output={file}", tag)

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """What it prints; raises `EngineError` with its last words."""
        done = subprocess.run(
            [self.name, *self.options, *arguments],
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            words = (done.stderr or done.stdout).strip()[-800:]
            raise EngineError(f"{self.name} {arguments[0]} failed: {words}")
        return done.stdout


def engine(name: str | None, *, store: Path) -> Engine:
    """The engine of that name, or the first that works here."""
    for each in [name] if name else ["docker", "podman", "buildah"]:
        if shutil.which(each) is None:
            continue
        if each == "docker" and not name and not _has_daemon():
            continue
        if each != "buildah":
            return Engine(each)
        # A file system on top of another needs rights that a build in a container has not.
        folders = (f"--root={store}/root", f"--runroot={store}/run", "--storage-driver=vfs")
        return Engine(each, folders)
    raise EngineError(
        f"there is no {name or 'docker (with its daemon), podman or buildah'}; install one, on "
        "Debian by `apt-get install buildah`"
    )


def _has_daemon() -> bool:
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=_DAEMON_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
