"""wrk2: its command line, and what it writes.

wrk2 speaks HTTP/1.1, holds a constant rate, and counts from the time at which each request was due,
so its latencies are response times; durations are not known and get the same figures. It tells its
counts at the end only, as percentiles of an HdrHistogram: from them come the counts of each step.
"""

from __future__ import annotations

import re

from services.chassis.errors import LoadTestMalformed
from services.perf.loads import Load, Protocol
from services.perf.tallies import Tally

_SPECTRUM = re.compile(r"^\s*(\d+\.\d+)\s+(\d\.\d+)\s+(\d+)\s+(?:\d+\.\d+|inf)\s*$", re.MULTILINE)
_REQUESTS = re.compile(r"^\s*(\d+) requests in [\d.]+\w+, ([\d.]+)([KMGT]?)B read", re.MULTILINE)
_REFUSED = re.compile(r"^\s*Non-2xx or 3xx responses: (\d+)", re.MULTILINE)
_SOCKETS = re.compile(
    r"^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", re.MULTILINE
)
REFUSED = "error"
"""Code of an answer other than 2xx and 3xx: wrk2 does not say which one."""
_SIZES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def check(load: Load) -> None:
    """Raises `LoadTestMalformed` for a load that wrk2 cannot make."""
    if load.target.protocol is not Protocol.HTTP1:
        raise LoadTestMalformed("wrk2 speaks HTTP/1.1 only", remedy="use the generator fortio")
    if load.rate <= 0:
        raise LoadTestMalformed("wrk2 needs a rate", remedy="set rps, or use the generator fortio")
    if load.target.body:
        raise LoadTestMalformed("wrk2 sends no body", remedy="use the generator fortio")


def command(load: Load, *, program: str) -> list[str]:
    """The process's arguments. wrk2 takes a time and no number of calls."""
    target = load.target
    words = [program, "-t", "1", "-c", str(load.connections), "-R", f"{load.rate:g}"]
    words += ["-d", f"{max(1, round(load.duration_s))}s", "-L"]
    words += ["--timeout", f"{max(1, round(target.timeout_s))}s"]
    words += [w for name, value in target.headers.items() for w in ("-H", f"{name}: {value}")]
    return [*words, target.url]


def read(output: str, tally: Tally, *, offset_s: float = 0.0) -> int:
    """Counts what wrk2 has written; returns how many requests were answered.

    A step of the spectrum says how many requests took at most so long. Which of them were refused
    is not told, nor when each was sent: all count for the first second.
    """
    seen = 0
    refused = int(found[1]) if (found := _REFUSED.search(output)) else 0
    steps = [(round(float(ms) * 1000), int(total)) for ms, _, total in _SPECTRUM.findall(output)]
    for latency_us, total in steps:
        for _ in range(total - seen):
            is_ok = seen >= refused
            tally.request(
                at_s=offset_s,
                duration_us=latency_us,
                late_us=0,
                code="200" if is_ok else REFUSED,
                is_ok=is_ok,
            )
            seen += 1
    unanswered = sum(map(int, found.groups())) if (found := _SOCKETS.search(output)) else 0
    if unanswered:
        tally.codes["-1"] += unanswered
    if found := _REQUESTS.search(output):
        tally.bytes_received += round(float(found[2]) * _SIZES[found[3]])
    return seen
