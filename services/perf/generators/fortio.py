"""fortio: its command line, and what it writes.

Every request is read from its access log (JSON lines with latency in seconds, the start in Unix
nanoseconds, thread and iteration). Calls are asked for by number wherever there is a rate: with
`-n` fortio makes exactly so many and no request to warm up, so counts equal those of the server. At
full speed it can only be told a time, and then makes one request for each connection beforehand,
which is not counted. (fortio 1.66, periodic/periodic.go and fhttp/httprunner.go.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.chassis.errors import LoadTestMalformed
from services.perf.loads import Load, Protocol
from services.perf.tallies import Tally

_CODE = re.compile(r"-?\w{1,24}\Z")
NO_ANSWER = "-1"
_LEAST_CALLS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where the process finds what does not stand on its command line; "" for nothing."""

    log: str
    ca: str = ""
    body: str = ""


def check(load: Load) -> None:
    """Raises `LoadTestMalformed` for a load that fortio cannot make."""
    if load.rate > 0 and load.requests < _LEAST_CALLS:
        raise LoadTestMalformed(
            "a load of less than two requests cannot be made with fortio",
            remedy="raise the rate or the duration, or use fewer workers",
        )


def threads(load: Load) -> int:
    """Connections that are really used: fortio lowers them where calls are few."""
    if load.rate <= 0:
        return load.connections
    return max(1, min(load.connections, load.requests // 2))


def command(load: Load, *, program: str, paths: Paths) -> list[str]:
    """The process's arguments."""
    target = load.target
    words = [program, "load", "-quiet", "-json", "-", "-access-log-file", paths.log]
    words += ["-c", str(threads(load)), "-timeout", f"{target.timeout_s:g}s", "-uniform"]
    words += ["-log-errors=false", "-allow-initial-errors", "-p", "50"]
    if load.rate > 0:
        words += ["-qps", f"{load.rate:.9g}", "-n", str(load.requests)]
    else:
        words += ["-qps", "0", "-t", f"{load.duration_s:g}s"]
    if target.insecure:
        words.append("-k")
    if paths.ca:
        words += ["-cacert", paths.ca]
    match target.protocol:
        case Protocol.HTTP1 | Protocol.HTTP2:
            words += _http(load, paths)
        case Protocol.GRPC:
            words += ["-grpc", *_headers(load), target.url]
        case Protocol.TCP:
            if paths.body:
                words += ["-payload-file", paths.body]
            words.append(f"tcp://{target.url.removeprefix('tcp://')}")
    return words


def _http(load: Load, paths: Paths) -> list[str]:
    target = load.target
    words = _headers(load)
    if target.content_type:
        words += ["-content-type", target.content_type]
    if paths.body:
        words += ["-payload-file", paths.body]
    if target.protocol is Protocol.HTTP2:
        words.append("-h2")
    return [*words, target.url]


def _headers(load: Load) -> list[str]:
    return [
        word for name, value in load.target.headers.items() for word in ("-H", f"{name}:{value}")
    ]


@dataclass(slots=True)
class LogReader:
    """Counts the lines of an access log as they come."""

    load: Load
    tally: Tally
    began_ns: int
    """Unix time of the process's start."""
    offset_s: float = 0.0
    answered: int = 0
    counted: int = 0
    _rest: bytes = b""
    _firsts: dict[int, int] = field(default_factory=dict)
    """When each thread sent its first request."""
    _steps: dict[int, float] = field(default_factory=dict)
    """Nanoseconds from one request of a thread to its next one."""

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; whole lines are counted."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._count(orjson.loads(line))

    def _count(self, entry: dict[str, Any]) -> None:
        thread, start, iteration = entry["thread"], entry["timestamp"], entry["iter"]
        first = self._firsts.get(thread)
        if first is None:
            first = self._firsts[thread] = start
            self._steps[thread] = self._step_ns(thread)
        details, is_ok = entry["details"], entry["ok"]
        code = details if _CODE.match(details) else NO_ANSWER
        self.counted += 1
        self.answered += code != NO_ANSWER
        late_ns = start - first - iteration * self._steps[thread]
        self.tally.request(
            at_s=self.offset_s + (start - self.began_ns) / 1e9,
            duration_us=round(entry["latency"] * 1e6),
            late_us=int(late_ns / 1000) if self.load.rate > 0 else 0,
            code=code,
            is_ok=is_ok,
        )

    def _step_ns(self, thread: int) -> float:
        """fortio stretches n calls over the whole time, so that the last one begins at its end."""
        if self.load.rate <= 0:
            return 0.0
        count = threads(self.load)
        calls = self.load.requests // count
        if thread == 0:
            calls += self.load.requests % count
        stretch = 1 + 1 / (calls - 1) if calls > 1 else 1.0
        return 1e9 * stretch * count / self.load.rate


def add_summary(tally: Tally, output: bytes) -> None:
    """Takes sockets and bytes from fortio's final document, if it came to write one."""
    try:
        document = orjson.loads(output)
    except orjson.JSONDecodeError:
        return  # it was ended before
    sockets = document.get("SocketCount")
    tally.sockets += int(sockets) if sockets is not None else int(document.get("NumThreads") or 0)
    sizes = document.get("Sizes") or {}
    tally.bytes_received += int(sizes.get("Sum") or document.get("BytesReceived") or 0)
    tally.bytes_sent += int(document.get("BytesSent") or 0)


def host_of(load: Load) -> str:
    """Host and port of the target, without anything that may be secret."""
    address = load.target.url.partition("//")[2] or load.target.url
    return address.partition("/")[0].partition("?")[0].rpartition("@")[2]


def unread(stderr: Sequence[str]) -> str:
    """The messages of fortio's own log lines, without their JSON."""
    found = []
    for line in stderr:
        try:
            entry = orjson.loads(line)
            found.append(str(entry.get("msg", "")) + " " + str(entry.get("err", "")))
        except (orjson.JSONDecodeError, AttributeError):
            found.append(line)
    return "\n".join(found)
