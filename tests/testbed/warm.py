"""Services that begin with their modules loaded: most of a start's processor time is imports.

`python -m tests.testbed.warm SERVICE ADDRESS` loads a service's modules; nothing else of it runs.
For each request it forks; the child takes the request's environment, log and folder and runs
`services.SERVICE` as Python would have: its settings, loop, threads and connections begin there.
The one that forks has a single thread and never made anything of gRPC, so nothing is
inherited that a fork would break. What is killed, paused or looked at is a process of its own, as
ever; the kernel kills it with the one that forked it, and that one with the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import json
import math
import os
import runpy
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from deploy.local.installations import ROOT
from deploy.local.processes import Process, wait_until

_PR_SET_PDEATHSIG = 1
_READY_WITHIN_S = 60.0
_LONGEST_REQUEST = 1 << 20
_POLL_S = 0.02


# --- the side of the tests ------------------------------------------------------------------------


class WarmProcess(Process):
    """A service's process that was forked from one with its modules."""

    def __init__(
        self, name: str, service: str, *, log: Path, environment: Mapping[str, str]
    ) -> None:
        super().__init__(name, [sys.executable], log=log, environment=environment, inherits=False)
        self._service = service

    def _spawn(self) -> subprocess.Popen[bytes]:
        request = {"environment": self._environment, "log": str(self.log), "folder": os.getcwd()}
        forked = _Forked(_address_of(self._service, folder=self.log.parent), request)
        return cast(subprocess.Popen[bytes], forked)


class _Forked:
    """What `Process` needs of a `subprocess.Popen`, for a child of another process."""

    def __init__(self, address: str, request: Mapping[str, Any]) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._lock = threading.Lock()
        self.returncode: int | None = None
        self._connection.connect(address)
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self._answers = self._connection.makefile("rb")
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a warm process", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        # As with Popen: it may end between the look and the signal.
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        slice_s = _POLL_S if timeout != 0.0 else 0.0
        while True:
            # The lock is held for moments: another thread may ask while one waits.
            with self._lock:
                if self.returncode is None and _is_readable(self._connection, slice_s):
                    # Nothing at all comes when the one that forked it died, and with it this one.
                    self.returncode = int(self._answers.readline() or -signal.SIGKILL)
                    self._close()
            if self.returncode is not None or time.monotonic() >= deadline:
                return self.returncode

    def _close(self) -> None:
        self._answers.close()
        self._connection.close()

    def __del__(self) -> None:
        self._close()


def _is_readable(connection: socket.socket, timeout: float | None) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(timeout))


_ADDRESSES: dict[tuple[str, int], str] = {}
"""Of the processes that fork, by the service and the process whose tests they serve."""


def _address_of(service: str, *, folder: Path) -> str:
    """Starts the one that forks `service`, if this process has none; it ends with this process."""
    known = _ADDRESSES.get((service, os.getpid()))
    if known is not None:
        return known
    # Without a file: the leading zero makes it a name that goes with the process.
    name = f"meshbus-warm-{secrets.token_hex(8)}"
    command = [sys.executable, "-m", "tests.testbed.warm", service, name]
    forking = Process(
        f"warm {service}",
        command,
        log=folder / f"warm-{service}.log",
        environment={"PYTHONPATH": str(ROOT)},
    )
    # What calls this is the thread that starts all processes; it cannot wait for itself.
    forking._popen = forking._spawn()
    atexit.register(forking.kill)

    def listens() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(f"\0{name}")
        return True

    wait_until(listens, timeout_s=_READY_WITHIN_S, what=f"a warm {service}", processes=[forking])
    return _ADDRESSES.setdefault((service, os.getpid()), f"\0{name}")


# --- the side of the service ----------------------------------------------------------------------


def _serve(service: str, name: str) -> dict[str, Any]:
    """Forks for each request; returns in the child alone, with its request."""
    importlib.import_module(f"services.{service}.__main__")
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would leave the other threads behind"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen()
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not listener:
                _report(selector, key)
                continue
            connection, _ = listener.accept()
            request = _request(connection)
            if request is None:
                connection.close()
                continue
            parent = os.getpid()
            child = os.fork()
            if child == 0:
                for other in selector.get_map().values():
                    if other.data is not None:
                        os.close(other.fd)
                        other.data[1].close()
                selector.close()
                listener.close()
                connection.close()
                _become(request, parent)
                return request
            connection.sendall(f"{child}\n".encode())
            selector.register(os.pidfd_open(child), selectors.EVENT_READ, (child, connection))


def _request(connection: socket.socket) -> dict[str, Any] | None:
    """None from whoever only asked whether somebody listens, and from another user."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    if int.from_bytes(credentials[4:8], sys.byteorder) != os.getuid():
        return None
    with connection.makefile("rb") as lines:
        line = lines.readline(_LONGEST_REQUEST)
    return cast(dict[str, Any], json.loads(line)) if line else None


def _report(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """Tells how a child has ended."""
    child, connection = key.data
    selector.unregister(key.fileobj)
    os.close(key.fd)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):  # Who asked for it may have gone.
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    connection.close()


def _become(request: dict[str, Any], parent: int) -> None:
    """The child's process group, leash, files, folder and environment."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])


if __name__ == "__main__":
    _service, _name = sys.argv[1:]
    _serve(_service, _name)
    sys.argv = [f"services.{_service}"]
    # It has been loaded as a module, and runs as the program now.
    del sys.modules[f"services.{_service}.__main__"]
    runpy.run_module(f"services.{_service}", run_name="__main__", alter_sys=True)
