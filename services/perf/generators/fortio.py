"""fortio: its command line, and the reading of its output.

Every request is read from its access log (JSON lines with latency in seconds, the start in Unix
nanoseconds, thread and iteration). Calls are asked for by number wherever there is a rate: with
`-n` fortio makes exactly so many and no request to warm up, so counts equal those of the server. At
full speed it can only be told a time, and then makes one request for each connection beforehand,
which is not counted. (fortio 1.66, periodic/periodic.go and fhttp/httprunner.go.)

Three of its habits are worked around. With a duration it stretches n calls so that the last one
begins at the end, which is a lower rate than asked: the endless duration `-t -1s` switches that
off. Calls that do not divide evenly all go to its first thread: see `processes`. And its timeout
does not hold for gRPC: see `accesslogs`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from services.chassis.errors import LoadTestMalformed
from services.perf.definitions.loads import Load, Protocol
from services.perf.measurements.tallies import Tally

_OVERRUN = 0.01
"""So much longer than planned may a process take for the calls that are left over."""
_BUFFER_KIB = 1024
"""Longest answer, with its headers, that fortio's HTTP/1.1 client reads rightly."""


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
