"""Free ports on 127.0.0.1, and HTTP requests to it that no proxy setting can divert.

Ports are taken below the kernel's ephemeral range. A port from `bind(0)` lies inside that range:
while a server restarts on it, any outgoing connection of the machine may be given the same port,
and a client that polls it may even connect to itself. Between test runs a lock file per port
decides; the lock lives exactly as long as the process that took the port.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import random
import socket
import ssl
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Collection
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"

_LOWEST_PORT = 15_000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

_taken: dict[int, int] = {}
"""Port → descriptor of its locked file; held until this process ends, so no port is given twice."""
_taking = threading.Lock()


def take_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on and no other test run will be given."""
    folder = _lock_folder()
    candidates = list(range(_LOWEST_PORT, _first_ephemeral_port()))
    random.shuffle(candidates)
    with _taking:
        for port in candidates:
            if port not in _taken and _try_to_take(port, folder):
                return port
    raise OSError(f"no free TCP port from {_LOWEST_PORT} on; are old test runs still running?")


def _first_ephemeral_port() -> int:
    try:
        first = int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError):
        first = 32_768
    # Some machines make everything ephemeral; then the usual range still beats none.
    return first if first > _LOWEST_PORT + 1_000 else 32_768


def _lock_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"meshbus-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _try_to_take(port: int, folder: Path) -> bool:
    descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as probe:
            probe.bind((HOST, port))
    except OSError:
        os.close(descriptor)
        return False
    _taken[port] = descriptor
    return True


def fetch(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    timeout_s: float = 10.0,
) -> bytes:
    """Body of the answer; raises `urllib.error.HTTPError` or another OSError when there is none."""
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
    )
    try:
        with opener.open(request, timeout=timeout_s) as response:
            content: bytes = response.read()
            return content
    except urllib.error.HTTPError as error:
        # Who only waits for a server drops this error; the socket must not hang on it.
        with error:
            text = io.BytesIO(error.read())
        raise urllib.error.HTTPError(url, error.code, error.reason, error.headers, text) from None


def fetch_json(url: str, *, timeout_s: float = 10.0) -> Any:
    """Decoded JSON answer of a GET."""
    return json.loads(fetch(url, timeout_s=timeout_s))


def take_offset(ports: Collection[int]) -> int:
    """By how much all of `ports` can be moved so that each is free, and taken as by `take_port`."""
    folder = _lock_folder()
    last = _first_ephemeral_port() - max(ports)
    candidates = list(range(max(0, _LOWEST_PORT - min(ports)), last))
    random.shuffle(candidates)
    with _taking:
        for offset in candidates:
            moved = [port + offset for port in ports]
            if not any(port in _taken for port in moved) and all(
                _try_to_take(port, folder) for port in moved
            ):
                return offset
    raise OSError("the ports cannot be moved to free ones; are old test runs still running?")
