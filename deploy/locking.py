"""Whether the locks can be installed from wheels alone, for each Python and machine that we name.

A lock that resolves is not yet one that installs: a package may have no wheel for a new Python.
`make lock` asks after every change; uv looks up what there is and installs nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
LOCKS = {"runtime.lock": "manylinux_2_28", "requirements.lock": "manylinux_2_31"}
"""With the oldest C library that each is for: Envoy, which only tests need, wants a newer one."""

SOURCES = {"nkeys": MACHINES, "hdrhistogram": ("aarch64",)}
"""Packages without a wheel, by machine: the first is Python alone; the second is compiled, so there
a C compiler and Python's headers are needed."""


def problem(lock: str, *, python: str, machine: str) -> str:
    """Why it cannot be installed there; "" when it can."""
    built = [f"--no-binary={name}" for name, on in SOURCES.items() if machine in on]
    platform = f"{machine}-{LOCKS[lock]}"
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--quiet"),
                *("--target", nowhere, "--python-version", python, "--python-platform", platform),
                *("--only-binary", ":all:", *built, "--require-hashes", "-r", str(ROOT / lock)),
            ],
            capture_output=True,
            text=True,
        )
    return "" if done.returncode == 0 else done.stderr.strip()


def main() -> int:
    found = 0
    for lock in LOCKS:
        for python in PYTHONS:
            for machine in MACHINES:
                why = problem(lock, python=python, machine=machine)
                print(f"{'ok  ' if not why else 'fail'} {lock} Python {python} {machine} {why}")
                found += bool(why)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
