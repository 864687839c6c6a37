"""Builds the console's page from its sources, where they have changed: `make page` runs this.

Libraries come from their npm packages, at the versions and hashes of `package-lock.json`, and run
no script when they are installed; types are checked, and all becomes a few files in `built`.
Nothing is fetched when the service runs. The built files in our own tree were rejected (half a
megabyte of other people's minified code in every diff of a release), and so was a CDN: the page
works where there is no way out, and nobody outside learns who looks at it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "services" / "topology" / "page"
BUILT = PAGE / "built"
_STAMP = "sources.sha256"
_NODE_MAJOR = 20
_INSTALL_S, _BUILD_S = 900.0, 300.0
_MADE = frozenset({"node_modules", "built", "built.part", "built.old", "built.tests", "tests"})


class BundlingError(Exception):
    """The page could not be built; the message has the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Library:
    """An npm package that ends up in the page."""

    name: str
    version: str
    integrity: str
    """As npm writes it: `sha512-` and the hash of the archive in base64."""


def libraries() -> list[Library]:
    """What is in the page, by the lock: libraries and what they ask for, no tools."""
    packages = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    return sorted(
        (
            Library(path.rpartition("node_modules/")[2], entry["version"], entry["integrity"])
            for path, entry in packages.items()
            if path and not entry.get("dev") and not entry.get("devOptional")
        ),
        key=lambda library: library.name,
    )


def bundle() -> bool:
    """Makes `built` what the sources say; False where it was already."""
    wanted = _digest()
    stamp = BUILT / _STAMP
    with _alone():
        if stamp.is_file() and stamp.read_text() == wanted:
            return False
        _install()
        _ran([_program("node"), "build.mjs"], _BUILD_S, "the page does not build")
        stamp.write_text(wanted)
    return True


def tested() -> None:
    """Runs the tests of the page's own logic."""
    with _alone():
        _install()
        _ran([_program("node"), "build.mjs", "test"], _BUILD_S, "tests of the page fail")


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time in this tree: the workers of a test run begin together."""
    with (PAGE / "build.mjs").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install() -> None:
    """`node_modules` as the lock says; nothing where it is so already."""
    lock = PAGE / "package-lock.json"
    done = PAGE / "node_modules" / ".meshbus-installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if done.is_file() and done.read_text() == wanted:
        return
    version = subprocess.run([_program("node"), "--version"], capture_output=True, text=True)
    if int(version.stdout.strip().lstrip("v").partition(".")[0] or 0) < _NODE_MAJOR:
        raise BundlingError(
            f"Node.js {version.stdout.strip()} is too old; install {_NODE_MAJOR} or newer"
        )
    command = [_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    _ran(command, _INSTALL_S, "npm could not fetch the page's libraries")
    done.write_text(wanted)


def _ran(command: list[str], within_s: float, what: str) -> None:
    environment = {**os.environ, "NODE_ENV": ""}
    try:
        done = subprocess.run(
            command, cwd=PAGE, env=environment, capture_output=True, text=True, timeout=within_s
        )
    except subprocess.TimeoutExpired:
        raise BundlingError(f"{what} within {within_s:.0f} s") from None
    if done.returncode != 0:
        words = (done.stdout + done.stderr).strip()[-3000:]
        raise BundlingError(f"{what}: {words}")
    if done.stdout.strip():
        print(done.stdout.strip())


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BundlingError(
            f"there is no {name} on PATH; install Node.js {_NODE_MAJOR} or newer. Without the page "
            "all services work, and questions and reports are answered; only the console is missing"
        )
    return found


def _sources() -> Iterator[Path]:
    for path in sorted(PAGE.rglob("*")):
        parts = path.relative_to(PAGE).parts
        if path.is_file() and not _MADE.intersection(parts[:1]) and path.name != "bus.ts":
            yield path
    yield ROOT / "proto" / "bus.schema.json"


def _digest() -> str:
    found = hashlib.sha256()
    for path in _sources():
        content = path.read_bytes()
        found.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return found.hexdigest()


if __name__ == "__main__":
    try:
        tested() if sys.argv[1:] == ["test"] else bundle()
    except BundlingError as error:
        print(f"page: {error}", file=sys.stderr)
        sys.exit(1)
