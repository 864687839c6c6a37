"""One npm package, as an archive whose hash is known: what tests hold our contracts against.

It comes through npm, and only when it is not in the cache that all checkouts of a user share; what
came is compared with the hash. The page's own libraries come by its lock (`bundling.py`).
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Package:
    """One version of an npm package, as it was looked at here."""

    name: str
    version: str
    sha512: str
    """Of the archive, in base64."""

    @property
    def file(self) -> str:
        """What npm calls the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


class VendoringError(Exception):
    """The archive is not there; the message has the reason and the remedy."""


def fetched(package: Package) -> Path:
    """The package's archive, checked; from the cache that all checkouts of one user share."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = Path(base) / "meshbus" / "npm"
    archive = cache / package.file
    if archive.is_file() and _digest(archive) == package.sha512:
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    _fetch(package, cache)
    if not archive.is_file() or _digest(archive) != package.sha512:
        archive.unlink(missing_ok=True)
        raise VendoringError(
            f"what npm gave for {package.name} {package.version} is not the package that was "
            "pinned here: its SHA-512 differs; look at the registry or mirror that npm is set to"
        )
    return archive


def _fetch(package: Package, folder: Path) -> None:
    wanted = f"{package.name}@{package.version}"
    npm = shutil.which("npm")
    if npm is None:
        raise VendoringError(
            f"{wanted} comes by npm, but there is none on PATH; install Node.js, or put the "
            f"package's archive as {package.file} into {folder}"
        )
    command = [npm, "pack", wanted, "--pack-destination", str(folder), "--silent"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())[-300:]
        raise VendoringError(f"npm could not fetch {wanted}: {words}")


def _digest(path: Path) -> str:
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
