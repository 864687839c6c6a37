"""Debian packages of the bed: programs that run here as Debian built them.

Installing one must not start its service: the bed starts the program itself, on ports and with a
configuration of its own. Debian asks /usr/sbin/policy-rc.d before any package starts a service;
where there is none, one that forbids all stands there while the package is installed. The
environment variable RUNLEVEL was rejected: it stops init scripts, but nothing under systemd.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.testbed.recipe import PACKAGES, Package

_POLICY = Path("/usr/sbin/policy-rc.d")
_FORBID_ALL = "#!/bin/sh\nexit 101\n"
_INSTALL = (
    "apt-get",
    "--yes",
    "--quiet=2",
    "--no-install-recommends",
    "--option=DPkg::Lock::Timeout=120",
    "--option=Dpkg::Use-Pty=0",
    "install",
)


class PackageMissing(Exception):
    """A program of a Debian package is not there; the message says what to do."""


def is_there(package: Package) -> bool:
    """Whether the package's program can be run."""
    return os.access(package.program, os.X_OK)


def program(name: str) -> Path:
    """Path of the program that the package `name` brings."""
    package = next(p for p in PACKAGES if p.name == name)
    if not is_there(package):
        raise _missing(package, f"there is no {package.program}")
    return Path(package.program)


def install(package: Package) -> None:
    """Installs a package; the lists of packages are fetched only when it does not go without."""
    if shutil.which("apt-get") is None:
        raise _missing(package, "there is no apt-get on PATH")
    if os.geteuid() != 0:
        raise _missing(package, "only root may install packages")
    with _no_service_starts():
        failure = _run(*_INSTALL, package.name)
        if failure:
            failure = _run("apt-get", "--quiet=2", "update") or _run(*_INSTALL, package.name)
    if failure or not is_there(package):
        raise _missing(package, failure or f"the package brought no {package.program}")


def unpack(names: Sequence[str], folder: Path) -> None:
    """Fetches packages and lays out their files below `folder`, whole or not at all. Nothing of
    them is installed, and none of their scripts runs."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".debian-", dir=folder.parent) as scratch:
        fetched, laid_out = Path(scratch) / "fetched", Path(scratch) / "laid-out"
        fetched.mkdir()
        # apt gives its own user to a download otherwise, who may not write here.
        fetch = ("apt-get", "--quiet=2", "--option=APT::Sandbox::User=root", "download", *names)
        failure = _run(*fetch, folder=fetched)
        if failure:
            failure = _run("apt-get", "--quiet=2", "update") or _run(*fetch, folder=fetched)
        for archive in sorted(fetched.glob("*.deb")):
            failure = failure or _run("dpkg-deb", "--extract", str(archive), str(laid_out))
        if failure:
            raise PackageMissing(f"Debian's packages {' '.join(names)} cannot be had: {failure}")
        for source in ("iptables", "ip6tables"):
            for end in ("", "-save", "-restore"):
                # Debian's own scripts make these links when a package is installed.
                link = laid_out / "usr" / "sbin" / f"{source}{end}"
                link.symlink_to("xtables-nft-multi")
        laid_out.rename(folder)


def _missing(package: Package, why: str) -> PackageMissing:
    return PackageMissing(
        f"the bed needs Debian's package {package.name}, but {why}; "
        f"run `sudo apt-get install --no-install-recommends {package.name}` once"
    )


def _run(*command: str, folder: Path | None = None) -> str:
    """Empty when the command succeeded; otherwise the end of what it said."""
    if shutil.which(command[0]) is None:
        return f"there is no {command[0]} on PATH"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode == 0:
        return ""
    return f"`{' '.join(command)}` failed: {' '.join(done.stdout.split())[-400:]}"


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """A policy that is there already is the machine's own, and stays."""
    try:
        with _POLICY.open("x") as file:
            file.write(_FORBID_ALL)
    except FileExistsError:
        yield
        return
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink()
