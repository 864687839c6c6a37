"""The connections that a port of this process has, seen through its own descriptors.

gRPC tells its handlers a remote address and port and nothing of the connection's life, and neither
it nor aiohttp bounds how many connections one address holds. The kernel knows both: each socket has
a cookie that no later one gets, also where the address and port come again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

import structlog

from services.chassis.telemetry.metrics import CONNECTIONS_CUT, Metrics

_SO_COOKIE = 57
_LOOK_EVERY_S = 1.0
_MOST_FILES = 65_536
_FILES = "/proc/self/fd"

log = structlog.get_logger(__name__)


def raise_file_limit() -> int:
    """Takes as many open files as the system allows (65 536 at most); returns the limit.

    Shells and containers start programs with 1 024 often, so that a thousand connections that say
    nothing would leave none for NATS or for health.
    """
    soft, hard = getrlimit(RLIMIT_NOFILE)
    wanted = min(hard, _MOST_FILES)
    if soft < wanted:
        with suppress(OSError, ValueError):
            setrlimit(RLIMIT_NOFILE, (wanted, hard))
    return getrlimit(RLIMIT_NOFILE)[0]


def affordable(wanted: int) -> int:
    """How many connections a port may have: a quarter of all files stays for everything else."""
    return max(1, min(wanted, getrlimit(RLIMIT_NOFILE)[0] * 3 // 4))


@dataclass(frozen=True, slots=True)
class Connection:
    """An accepted connection that is open at the moment."""

    descriptor: int
    cookie: int
    """The kernel's own number of the socket; no other one ever has it."""
    address: str
    port: int
    """Of the remote end."""


@dataclass(slots=True)
class Connections:
    """The connections to one port. Linux only; elsewhere there are none to be seen."""

    port: int
    most_per_address: int
    metrics: Metrics
    _used: set[tuple[str, int]] = field(default_factory=set)
    """Remote ends that have made a call: they go last."""
    _first_seen: dict[int, float] = field(default_factory=dict)

    def of(self, address: str, port: int) -> Connection | None:
        """The connection from this remote end that is open now."""
        address = _plain(address)
        found = (c for c in self._open() if c.address == address and c.port == port)
        return next(found, None)

    def used(self, address: str, port: int) -> None:
        """A call came from this remote end."""
        self._used.add((_plain(address), port))

    async def bound(self) -> None:
        """Cuts the connections that one address has beyond its share, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.cut_excess()

    def cut_excess(self) -> int:
        """Ends those that never made a call first, the oldest of them first; returns how many."""
        if max(len(_descriptors()), len(self._used)) <= self.most_per_address:
            return 0
        by_address: dict[str, list[Connection]] = defaultdict(list)
        for connection in self._open():
            by_address[connection.address].append(connection)
        self._forget(by_address)
        cut = 0
        for address, connections in by_address.items():
            excess = len(connections) - self.most_per_address
            if excess <= 0:
                continue
            for connection in sorted(connections, key=self._worth)[:excess]:
                cut += _shut(connection)
            log.warning("connections_cut", address=address, port=self.port, count=excess)
        self.metrics.count(CONNECTIONS_CUT, times=cut)
        return cut

    def _worth(self, connection: Connection) -> tuple[bool, float]:
        is_used = (connection.address, connection.port) in self._used
        return is_used, self._first_seen[connection.cookie]

    def _forget(self, by_address: dict[str, list[Connection]]) -> None:
        now = asyncio.get_running_loop().time()
        alive = [connection for group in by_address.values() for connection in group]
        self._used &= {(connection.address, connection.port) for connection in alive}
        seen = self._first_seen
        self._first_seen = {c.cookie: seen.get(c.cookie, now) for c in alive}

    def _open(self) -> Iterator[Connection]:
        for descriptor in _descriptors():
            connection = _looked_at(descriptor, port=self.port)
            if connection is not None:
                yield connection


def _descriptors() -> Sequence[int]:
    """Of this process. Where no file is left to list them with, all that there may be."""
    if not os.path.isdir(_FILES):
        return ()
    try:
        return [int(name) for name in os.listdir(_FILES)]
    except OSError:
        return range(getrlimit(RLIMIT_NOFILE)[0])


def _looked_at(descriptor: int, *, port: int) -> Connection | None:
    """The connection behind a descriptor, if it is one to `port`.

    gRPC's threads may close the descriptor and open another one under its number meanwhile; the
    cookie before and after tells.
    """
    try:
        looking = socket.socket(fileno=descriptor)
    except OSError:
        return None  # no socket, or not any more
    try:
        if looking.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        before = _cookie(looking)
        if looking.getsockname()[1] != port:
            return None
        address, remote_port = looking.getpeername()[:2]
        if _cookie(looking) != before:
            return None
        return Connection(descriptor, before, _plain(address), remote_port)
    except OSError:
        return None
    finally:
        looking.detach()


def _shut(connection: Connection) -> bool:
    """Ends the connection; its owner reads an end and closes it as it closes all others."""
    try:
        # A copy: its owner may close the descriptor meanwhile, and another one gets its number.
        descriptor = os.dup(connection.descriptor)
    except OSError:
        descriptor = connection.descriptor  # no file is left for a copy
    held: socket.socket | None = None
    try:
        held = socket.socket(fileno=descriptor)
        if _cookie(held) != connection.cookie:
            return False
        held.shutdown(socket.SHUT_RDWR)
        return True
    except OSError:
        return False
    finally:
        if held is not None and held.detach() != connection.descriptor:
            os.close(descriptor)


def _cookie(of: socket.socket) -> int:
    return int.from_bytes(of.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), "little")


def _plain(address: str) -> str:
    """IPv4 in one form: a port that serves both kinds sees ::ffff:192.0.2.1."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
