"""fortio: its command line, and the reading of its output.

Every request is read from its access log as it is written. A line is
`{"latency":0.006220,"timestamp":1795515011359051923,"thread":0,"iter":0,"ok":true,"details":"200"}`:
seconds, the start in Unix nanoseconds, and the status code or the runner's error. Counting one
takes 6 us, half of it in the tally; all lines of a chunk are read as one JSON array, because a call
for each line costs half as much again.

Calls are asked for by number wherever there is a rate: with `-n` fortio makes exactly so many and
no request to warm up, so counts equal those of the server. At full speed it can only be told a
time, and then makes one request for each connection beforehand, which is not counted. (fortio 1.66,
periodic/periodic.go and fhttp/httprunner.go.)

Three of its habits are worked around. With a duration it stretches n calls so that the last one
begins at the end, which is a lower rate than asked: the endless duration `-t -1s` switches that
off. Calls that do not divide evenly all go to its first thread: see `processes`. And its timeout
does not hold for gRPC: see `LogReader`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.chassis.errors import GeneratorFailed, LoadTestMalformed
from services.perf.definitions.loads import Load, Protocol
from services.perf.measurements.tallies import Tally

_OVERRUN = 0.01
"""So much longer than planned may a process take for the calls that are left over."""
_BUFFER_KIB = 1024
"""Longest answer, with its headers, that fortio's HTTP/1.1 client reads rightly."""
NO_ANSWER = "-1"
OTHER_ECHO = "MISMATCH"
"""Code of a TCP answer that differs from the bytes sent."""
TOO_LATE = "DEADLINE_EXCEEDED"

_CODE = re.compile(r"-?\w{1,24}\Z")
_RPC_ERROR = re.compile(r"rpc error: code = (\w+) desc = (.*)", re.DOTALL)
_NEVER_SENT = (
    "connection error",
    "error reading from server",
    "name resolver error",
    "dns:",
    "transport",
    "the connection is draining",
    "the client connection is closing",
)
"""How gRPC's own words begin where no server has answered; a server's UNAVAILABLE is an answer."""
_WORD_BREAK = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LINE = re.compile(
    rb'\{"latency":([\d.]+),"timestamp":(\d+),"thread":(\d+),"iter":(\d+),'
    rb'"ok":(true|false),"details":"(.*)"\}'
)
_MOST_DETAILS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The files of a process: content that must not be on its command line; "" for none."""

    log: str
    ca: str = ""
    body: str = ""


def check(load: Load) -> None:
    """Raises `LoadTestMalformed` for a load that fortio cannot make."""
    target = load.target
    if load.rate > 0 and load.requests < 1:
        raise LoadTestMalformed(
            "a load of no requests", remedy="raise the rate or the duration, or use fewer workers"
        )
    if target.protocol is Protocol.GRPC and target.body:
        raise LoadTestMalformed(
            "fortio calls gRPC's health check, which takes no body", remedy="leave the body out"
        )
    if target.protocol is Protocol.TCP and (target.headers or target.ca_certificate):
        raise LoadTestMalformed(
            "fortio's TCP knows neither headers nor TLS", remedy="leave them out, or use HTTP"
        )


def threads(load: Load) -> int:
    """Connections that are really used: fortio lowers them where calls are few."""
    if load.rate <= 0:
        return load.connections
    return max(1, min(load.connections, load.requests // 2))


def processes(load: Load) -> list[Load]:
    """The loads of the processes that make `load` together: one, and seldom two.

    Of 50 calls over 8 connections, fortio has the first one make 8 and the others 6, at the same
    rate: 5 seconds become 6.7. Then one process makes those of the connections with 6 calls, and
    another one those of the two that make 7. Connections, calls and rate stay what they are in all.
    """
    count = threads(load)
    calls, left = divmod(load.requests, count)
    # The first thread's last call is due so many calls after the end.
    if load.rate <= 0 or (left - 1) * count - left <= _OVERRUN * load.requests:
        return [load]
    return [
        load.model_copy(
            update={
                "connections": connections,
                "requests": connections * each,
                "rate": load.rate * connections * each / load.requests,
            }
        )
        for connections, each in ((count - left, calls), (left, calls + 1))
    ]


def command(load: Load, *, program: str, paths: Paths) -> list[str]:
    """The arguments of one process."""
    target = load.target
    words = [program, "load", "-quiet", "-json", "-", "-access-log-file", paths.log]
    words += ["-c", str(threads(load)), "-timeout", f"{math.ceil(target.timeout_s * 1000)}ms"]
    words += ["-uniform", "-log-errors=false", "-allow-initial-errors"]
    if load.rate > 0:
        words += ["-qps", f"{load.rate:.9g}", "-n", str(load.requests), "-t", "-1s"]
    else:
        words += ["-qps", "0", "-t", f"{math.ceil(load.duration_s * 1000)}ms"]
    if target.insecure:
        words.append("-k")
    if paths.ca:
        words += ["-cacert", paths.ca]
    if paths.body:
        words += ["-payload-file", paths.body]
    match target.protocol:
        case Protocol.GRPC:
            return [*words, "-grpc", *_headers(load), target.url]
        case Protocol.TCP:
            return [*words, f"tcp://{target.url.removeprefix('tcp://')}"]
    words += ["-h2"] if target.protocol is Protocol.HTTP2 else ["-httpbufferkb", str(_BUFFER_KIB)]
    if target.content_type:
        words += ["-content-type", target.content_type]
    return [*words, *_headers(load), target.url]


def _headers(load: Load) -> list[str]:
    return [
        word for name, value in load.target.headers.items() for word in ("-H", f"{name}:{value}")
    ]


def add_summary(tally: Tally, output: bytes) -> int | None:
    """Takes sockets and bytes from fortio's final document; returns how many calls it tells of.

    None when it was ended before. HTTP tells no bytes sent; bytes received are with the headers for
    HTTP/1.1 and without them for HTTP/2. gRPC tells neither bytes nor sockets: each thread has one.
    """
    try:
        document = orjson.loads(output)
    except orjson.JSONDecodeError:
        return None
    sockets = document.get("SocketCount")
    tally.sockets += int(sockets) if sockets is not None else int(document.get("NumThreads") or 0)
    sizes = document.get("Sizes") or {}
    tally.bytes_received += max(0, int(sizes.get("Sum") or document.get("BytesReceived") or 0))
    tally.bytes_sent += int(document.get("BytesSent") or 0)
    return int((document.get("DurationHistogram") or {}).get("Count") or 0)


def unread(stderr: Sequence[str]) -> list[str]:
    """The complaints on stderr: messages of its log, and the reason why it aborted."""
    found = []
    for line in stderr:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            if line.startswith(("Aborting because of", "panic:", "fatal error:", "flag ")):
                found.append(line)
            continue
        if isinstance(entry, dict):
            found.append(f"{entry.get('msg', '')}: {entry.get('err', '')}".removesuffix(": "))
    return found


# --- the access log ------------------------------------------------------------------------------


@dataclass(slots=True)
class LogReader:
    """Counts the lines of one process's access log as they come."""

    load: Load
    tally: Tally
    began_ns: int
    """Unix time at which the load began; the first interval begins with it."""
    offset_s: float = 0.0
    answered: int = 0
    counted: int = 0
    complaint: str = ""
    """Why the first request without an answer got none, where the log has words for it."""
    _rest: bytes = b""
    _starts: dict[int, int] = field(default_factory=dict)
    """When each thread began its schedule, as far as known."""
    _step_ns: float = field(init=False)
    """From one request of a thread to its next one."""
    _limit_us: float = field(init=False)
    _codes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rate = self.load.rate
        self._step_ns = 1e9 * threads(self.load) / rate if rate > 0 else 0.0
        target = self.load.target
        is_bounded = target.protocol is not Protocol.GRPC
        self._limit_us = math.inf if is_bounded else target.timeout_s * 1e6

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; whole lines are counted."""
        whole, _, self._rest = (self._rest + chunk).rpartition(b"\n")
        if whole:
            for entry in _entries(whole):
                self._count(entry)

    def _count(self, entry: dict[str, Any]) -> None:
        start = entry["timestamp"]
        duration_us, is_ok = round(entry["latency"] * 1e6), entry["ok"]
        code = self._code(entry["details"])
        if duration_us > self._limit_us:
            code, is_ok = TOO_LATE, False
            self.complaint = self.complaint or "deadline exceeded"
        elif code != NO_ANSWER:
            self.answered += 1
        self.counted += 1
        self.tally.request(
            at_s=self.offset_s + (start - self.began_ns) / 1e9,
            duration_us=duration_us,
            late_us=self._late_us(entry["thread"], start, entry["iter"]),
            code=code,
            is_ok=is_ok,
        )

    def _late_us(self, thread: int, start: int, iteration: int) -> int:
        """How long after its time a request was sent.

        No request is ever sent early, so the thread's schedule began no later than any of its
        requests says.
        """
        if not self._step_ns:
            return 0
        begin = start - int(iteration * self._step_ns)
        known = self._starts.setdefault(thread, begin)
        if begin < known:
            self._starts[thread] = known = begin
        return (begin - known) // 1000

    def _code(self, details: str) -> str:
        code = self._codes.get(details)
        if code is None:
            code = code_of(details)
            if code == NO_ANSWER != details:
                self.complaint = self.complaint or details
            if len(self._codes) < _MOST_DETAILS:  # errors may name a port each
                self._codes[details] = code
        return code


def code_of(details: str) -> str:
    """Status code from the details of a request: of HTTP, of gRPC or of its health check."""
    if _CODE.match(details):
        return details
    if found := _RPC_ERROR.match(details):
        if found[2].startswith(_NEVER_SENT):
            return NO_ANSWER
        return _WORD_BREAK.sub("_", found[1]).upper().replace("CANCELED", "CANCELLED")
    return OTHER_ECHO if details == "read not echoing writes" else NO_ANSWER


def _entries(lines: bytes) -> Iterable[dict[str, Any]]:
    """Reads lines at once; one by one when fortio's quotes are not those of JSON."""
    try:
        entries: list[dict[str, Any]] = orjson.loads(b"[" + lines.replace(b"\n", b",") + b"]")
    except orjson.JSONDecodeError:
        return map(_entry, lines.split(b"\n"))
    return entries


def _entry(line: bytes) -> dict[str, Any]:
    found = _LINE.match(line)
    if found is None:
        raise GeneratorFailed("a line of fortio's access log cannot be read")
    latency, timestamp, thread, iteration, is_ok, details = found.groups()
    return {
        "latency": float(latency),
        "timestamp": int(timestamp),
        "thread": int(thread),
        "iter": int(iteration),
        "ok": is_ok == b"true",
        "details": details.decode(errors="replace").replace('\\"', '"'),
    }
