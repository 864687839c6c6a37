"""Lays Cytoscape.js, the one library of the topology's page, beside the page: `make` runs this.

It comes from its npm package, through npm, and only when it is not there already; what came is
compared with the checksum below. Nothing is fetched when the service runs. The library in our own
tree was rejected (half a megabyte of other people's minified code in every diff of a release), and
so was a CDN: the page works where there is no way out, and nobody outside learns who looks at it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
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


PAGE = Package(
    "cytoscape",
    "3.34.4",
    "msY99tMY8iWTg+sIPGfSqDcPNOt4xcj+v/K/7qUFaCUxxlqnMkUYLBjRUzn9W5CU/R2hrmtJa5+UtovrEM2ctg==",
)
_FILES = {
    # The licence last: it stands for all being there.
    "package/dist/cytoscape.esm.min.mjs": "cytoscape.mjs",
    "package/LICENSE": "cytoscape-license.txt",
}
_PAGE = Path(__file__).parents[1] / "services" / "topology" / "page"


class VendoringError(Exception):
    """The library could not be laid out; the message has the reason and the remedy."""


def vendor(folder: Path = _PAGE / "vendor") -> None:
    """Makes the page's folder of foreign code complete."""
    archive = fetched(PAGE)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for member, name in _FILES.items():
            source = tar.extractfile(member)
            if source is None:
                raise VendoringError(f"{archive.name} has no file {member}")
            part = folder / f".{name}"
            part.write_bytes(source.read())
            part.rename(folder / name)


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


if __name__ == "__main__":
    try:
        vendor()
    except VendoringError as error:
        print(f"page: {error}", file=sys.stderr)
        sys.exit(1)
