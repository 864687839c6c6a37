"""Child processes of a perf worker: limited, read while they run, and never left behind.

A child gets a session of its own, so that it can be ended with all it started, and dies with its
worker even when that is killed: `setpriv` (util-linux) sets the parent-death signal before the
program starts. Without `setpriv` a killed worker's child runs until its own end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_KEPT_BYTES = 16 * 1024
_CHUNK_BYTES = 256 * 1024
_MOST_OUTPUT_BYTES = 8 * 1024 * 1024
_OPEN_FILES = 65_536
_INTERRUPT_GRACE_S = 0.3
_LEASH = ("setpriv", "--pdeathsig", "KILL")
_PASSED = ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "LANG")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    status: int
    """Exit status; negative for a signal."""
    output: bytes
    stderr: str
    """The beginning of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a child has to come to its end."""

    interrupt_after_s: float
    """Then it is asked to, by SIGINT."""
    kill_after_s: float
    """Then it is ended, with all that it started."""


@contextlib.contextmanager
def in_memory(content: str) -> Iterator[int]:
    """A file that is on no disk, as a descriptor that a child may inherit."""
    descriptor = os.memfd_create("meshbus", 0)
    try:
        os.write(descriptor, content.encode())
        yield descriptor
    finally:
        os.close(descriptor)


async def carried_out(
    arguments: Sequence[str],
    *,
    limits: Limits,
    heard: Callable[[bytes], None] | None = None,
    pipe: tuple[int, int] = (-1, -1),
    files: Sequence[int] = (),
) -> Ended:
    """Runs a program to its end. Cancelled, it is ended before this returns.

    What the child writes into the second descriptor of `pipe` is read from the first one and handed
    to `heard` chunk by chunk; both are closed in the end. `files` are further descriptors for the
    child.
    """
    reading, writing = pipe
    try:
        process = await asyncio.create_subprocess_exec(
            *_leashed(arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[descriptor for descriptor in (*files, writing) if descriptor >= 0],
            env={name: value for name, value in os.environ.items() if name in _PASSED},
            start_new_session=True,
        )
    except BaseException:
        if reading >= 0:
            os.close(reading)
        raise
    finally:
        if writing >= 0:
            os.close(writing)  # the child has its own: the pipe ends with it
    try:
        _limit(process.pid)
        return await _watched(process, limits, reading, heard)
    except BaseException:
        await _end(process)
        raise


async def _watched(
    process: asyncio.subprocess.Process,
    limits: Limits,
    reading: int,
    heard: Callable[[bytes], None] | None,
) -> Ended:
    assert process.stdout is not None
    assert process.stderr is not None
    loop = asyncio.get_running_loop()
    timers = [
        loop.call_later(limits.interrupt_after_s, _signal, process.pid, signal.SIGINT),
        loop.call_later(limits.kill_after_s, _signal, process.pid, signal.SIGKILL),
    ]
    try:
        async with asyncio.TaskGroup() as group:
            output = group.create_task(_bounded(process.stdout, _MOST_OUTPUT_BYTES))
            errors = group.create_task(_bounded(process.stderr, _KEPT_BYTES))
            if heard is not None:
                group.create_task(_listened(reading, heard))
            status = await process.wait()
    finally:
        for timer in timers:
            timer.cancel()
    return Ended(status, output.result(), errors.result().decode(errors="replace"))


async def _listened(descriptor: int, heard: Callable[[bytes], None]) -> None:
    """Reads a pipe to its end; takes the descriptor over."""
    reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            heard(chunk)
    finally:
        transport.close()


async def _bounded(reader: asyncio.StreamReader, most: int) -> bytes:
    """All of a stream is read, and its first `most` bytes are kept."""
    kept = bytearray()
    while chunk := await reader.read(_CHUNK_BYTES):
        kept += chunk[: most - len(kept)]
    return bytes(kept)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends the child and its session; it is asked first, so that it closes its connections."""
    _signal(process.pid, signal.SIGINT)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_INTERRUPT_GRACE_S):
            await process.wait()
    _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _leashed(arguments: Sequence[str]) -> list[str]:
    return [*(_LEASH if shutil.which(_LEASH[0]) else ()), *arguments]


def _limit(pid: int) -> None:
    """Many connections, and no core dump: headers and bodies would be in it."""
    prlimit = getattr(resource, "prlimit", None)
    if prlimit is None:
        return  # not Linux
    with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):
        prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
        prlimit(pid, resource.RLIMIT_NOFILE, (files, most))
