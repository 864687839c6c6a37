"""fortio's access log: every request of a process, counted as it is written.

A line is `{"latency":0.006220,"timestamp":1795515011359051923,"thread":0,"iter":0,"ok":true,
"details":"200"}`: seconds, the start in Unix nanoseconds, and the status code or what else the
runner has to say. Counting one takes 6 us, half of it in the tally; all lines of a chunk are read
as one JSON array, because a call for each line costs half as much again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.chassis.errors import GeneratorFailed
from services.perf.definitions.loads import Load, Protocol
from services.perf.generators.fortio import threads
from services.perf.measurements.tallies import Tally

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
