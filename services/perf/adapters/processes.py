"""Child processes of a perf worker: limited, read while they run, and never left behind.

A child gets a session of its own, so that it can be ended with all it started, and dies with its
worker even when that is killed. For that it is started through a few lines of Python that ask the
kernel for it and then become the program: about 20 ms. A `preexec_fn` can deadlock in a process
with threads, and `setpriv` is not in every image and does not see a worker that died before it.
Elsewhere than on Linux a killed worker's child runs until its own end.

What a child is given or tells beside its standard streams goes over descriptors, never over a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

_KEPT_BYTES = 8 * 1024
"""Of stderr's beginning, and as much of its end."""
_STARTING_S = 5.0
_CHUNK_BYTES = 64 * 1024
_PIPE_BYTES = 1024 * 1024
"""A child that waits for its reader measures nothing: this is half a second of 20 000 lines/s."""
_MOST_OUTPUT_BYTES = 8 * 1024 * 1024
_INTERRUPT_GRACE_S = 0.3
_PASSED = ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "LANG", "LD_LIBRARY_PATH")

# Beside the leash: no core dump, because headers and bodies would be in it, as many open files as
# are allowed, and when memory runs out the kernel is to take this process and not its worker.
_LEASH = """
import ctypes, os, resource, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the worker is gone")
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    status: int
    """Exit status; negative for a signal."""
    output: bytes
    stderr: str
    """Its beginning and its end."""
    was_overdue: bool
    """Whether its time was up and it had to be ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a child has to come to its end, from the first word in its pipe on. A program may take
    seconds to come up on a busy machine: without a word it gets as much more."""

    interrupt_after_s: float
    """Then it is asked to, by SIGINT."""
    kill_after_s: float
    """Then it is ended, with all that it started."""


@contextlib.contextmanager
def in_memory(content: str) -> Iterator[int]:
    """A file that is on no disk, as a descriptor that a child may inherit."""
    descriptor = os.memfd_create("meshbus")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content.encode())
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Pipe:
    """Hands the output of a child to `heard`, chunk by chunk."""

    heard: Callable[[bytes], None]
    reading: int = field(init=False)
    writing: int = field(init=False)

    def __enter__(self) -> Pipe:
        self.reading, self.writing = os.pipe()
        with contextlib.suppress(OSError, AttributeError):  # as large as the system allows
            fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return self

    def __exit__(self, *_: object) -> None:
        self.close_writing()
        self._close("reading")

    def close_writing(self) -> None:
        """The child has its own: the pipe ends with it."""
        self._close("writing")

    async def read(self, begun: Callable[[], None]) -> None:
        """Reads to the end; calls `begun` when the first word comes."""
        reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
        descriptor, self.reading = self.reading, -1
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
        )
        try:
            chunk = await reader.read(_CHUNK_BYTES)
            begun()
            while chunk:
                self.heard(chunk)
                chunk = await reader.read(_CHUNK_BYTES)
        finally:
            transport.close()

    def _close(self, end: str) -> None:
        descriptor = getattr(self, end)
        if descriptor >= 0:
            os.close(descriptor)
            setattr(self, end, -1)


async def carried_out(
    arguments: Sequence[str],
    *,
    limits: Limits,
    pipe: Pipe | None = None,
    files: Sequence[int] = (),
) -> Ended:
    """Runs a program, named by its path, to its end. Cancelled, it is ended before this returns.

    `files` are descriptors that the child inherits. Of this process's environment it sees only what
    a program needs to find libraries and authorities.
    """
    inherited = [*files, *([pipe.writing] if pipe else [])]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=inherited,
        env={name: value for name, value in os.environ.items() if name in _PASSED},
        start_new_session=True,
    )
    try:
        return await _watched(process, limits, pipe)
    finally:
        await _end(process)


async def _watched(process: asyncio.subprocess.Process, limits: Limits, pipe: Pipe | None) -> Ended:
    assert process.stdout is not None
    assert process.stderr is not None
    loop = asyncio.get_running_loop()
    overdue = False

    def kill() -> None:
        nonlocal overdue
        overdue = True
        _signal(process.pid, signal.SIGKILL)

    timers: list[asyncio.TimerHandle] = []

    def begin(later_s: float = 0.0) -> None:
        for timer in timers:
            timer.cancel()
        interrupt_s, kill_s = limits.interrupt_after_s + later_s, limits.kill_after_s + later_s
        timers[:] = [
            loop.call_later(interrupt_s, _signal, process.pid, signal.SIGINT),
            loop.call_later(kill_s, kill),
        ]

    begin(_STARTING_S if pipe is not None else 0.0)
    try:
        async with asyncio.TaskGroup() as group:
            output = group.create_task(_bounded(process.stdout, _MOST_OUTPUT_BYTES))
            errors = group.create_task(_bounded(process.stderr, _KEPT_BYTES, _KEPT_BYTES))
            if pipe is not None:
                pipe.close_writing()
                group.create_task(pipe.read(begin))
            status = await process.wait()
    finally:
        for timer in timers:
            timer.cancel()
    return Ended(status, output.result(), errors.result().decode(errors="replace"), overdue)


async def _bounded(reader: asyncio.StreamReader, first: int, last: int = 0) -> bytes:
    """Reads a stream to its end, and keeps so many bytes of its beginning and its end."""
    head, tail = bytearray(), b""
    while chunk := await reader.read(_CHUNK_BYTES):
        room = first - len(head)
        head += chunk[:room]
        if last and len(chunk) > room:
            tail = (tail + chunk[room:])[-last:]
    return bytes(head) + tail


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends the child and its session; it is asked first, so that it closes its connections."""
    if process.returncode is not None:
        return
    try:
        _signal(process.pid, signal.SIGINT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INTERRUPT_GRACE_S):
                await process.wait()
    finally:  # cancelled again, it is not waited for, and ended nevertheless
        if process.returncode is None:
            _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
