"""What is freed goes back to the kernel, in a process of its own: allocators have a past."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_CONNECTIONS = """
import sys

from services.chassis.memory import return_large_blocks


def resident_mib():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


if sys.argv[1] == "ours":
    return_large_blocks()
bytearray(300_000)  # the first one that goes makes glibc keep the next ones
before, buffers, kept = resident_mib(), [], []
for number in range(200):
    buffers.append(bytearray(b"x" * 256 * 1024))
    kept.append(b"y" * 50_000)
buffers.clear()
print(resident_mib() - before - sum(map(len, kept)) / 2**20)
"""


def _left_mib(how: str) -> float:
    """MiB that a process has more after 50 MiB of buffers, among what stays, came and went."""
    done = subprocess.run(
        [sys.executable, "-c", _CONNECTIONS, how], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_buffers_of_connections_that_ended_are_given_back() -> None:
    assert _left_mib("ours") < 5
    assert _left_mib("glibc's own") > 25, "the test would not notice"
