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

_TEXTS = """
import asyncio
import sys

from services.chassis.memory import return_free_pages


def resident_mib():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


async def trimmed():
    task = asyncio.create_task(return_free_pages(every_s=0.01))
    await asyncio.sleep(0.2)
    task.cancel()


before, texts = resident_mib(), [b"x" * 20_000 for number in range(2_500)]
kept = texts[::10]
del texts
if sys.argv[1] == "ours":
    asyncio.run(trimmed())
print(resident_mib() - before - sum(map(len, kept)) / 2**20)
"""


def _left_mib(program: str, how: str) -> float:
    """MiB that a process has more after 50 MiB, among what stays, came and went."""
    done = subprocess.run(
        [sys.executable, "-c", program, how], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_buffers_of_connections_that_ended_are_given_back() -> None:
    assert _left_mib(_CONNECTIONS, "ours") < 5
    assert _left_mib(_CONNECTIONS, "glibc's own") > 25, "the test would not notice"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_texts_that_went_are_given_back_from_between_those_that_stay() -> None:
    assert _left_mib(_TEXTS, "ours") < 15
    assert _left_mib(_TEXTS, "glibc's own") > 25, "the test would not notice"
