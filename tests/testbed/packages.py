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
from collections.abc import Iterator
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


def _missing(package: Package, why: str) -> PackageMissing:
    return PackageMissing(
        f"the bed needs Debian's package {package.name}, but {why}; "
        f"run `sudo apt-get install --no-install-recommends {package.name}` once"
    )


def _run(*command: str) -> str:
    """Empty when the command succeeded; otherwise the end of what it said."""
    done = subprocess.run(
        command,
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
