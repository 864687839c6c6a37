"""wrk2: its command line, and the reading of its output.

wrk2 speaks HTTP/1.1 at a constant rate and tells everything at its end: percentiles of an
HdrHistogram, from whose steps come the counts. "Recorded" latencies begin when a request was
due, so they are the response times; "uncorrected" ones begin when it was sent and are the
durations. Where the latter are missing, both get the former.

Figures that wrk2 does not report are not made up, as far as that goes:

* when requests were sent: there are no intervals;
* which requests failed: they count with the mean duration, by "4xx or 5xx" instead of their code;
* the latencies of its first 10 s, in which it calibrates itself: the spectrum of the others stands
  for all, scaled to the number of requests, so that counts and rates hold.

A socket error is not a request: a dead target brings thousands. They count as failed requests up to
the number that was asked for. wrk2's "timeout" counts connections that look idle, at any rate under
one request each two seconds, so it is no count of anything here. (wrk2 4.0, src/wrk.c.)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from services.chassis.errors import LoadTestMalformed
from services.perf.definitions.loads import Load, Protocol
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.tallies import Tally

ANSWERED = "2xx or 3xx"
REFUSED = "4xx or 5xx"
NO_ANSWER = "-1"

_STEP = re.compile(r"^ +(\d+\.\d+) +\d\.\d+ +(\d+) +(?:\d+\.\d+|inf)$", re.MULTILINE)
_MOMENTS = re.compile(r"^#\[Mean += +([\d.]+), StdDeviation += +([\d.]+)\]", re.MULTILINE)
_PART = re.compile(r"^  Latency Distribution \(HdrHistogram - (Recorded|Uncorrected)", re.MULTILINE)
_REQUESTS = re.compile(r"^  (\d+) requests in [\d.]+\w+, ([\d.]+)([KMGTP]?)B read", re.MULTILINE)
_RATE = re.compile(r"^Requests/sec: +([\d.]+)$", re.MULTILINE)
_REFUSED = re.compile(r"^  Non-2xx or 3xx responses: (\d+)", re.MULTILINE)
_SOCKETS = re.compile(
    r"^  Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", re.MULTILINE
)
_SIZES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}


def check(load: Load) -> None:
    """Raises `LoadTestMalformed` for a load that wrk2 cannot make."""
    target = load.target
    what = ""
    if target.protocol is not Protocol.HTTP1:
        what = "wrk2 speaks HTTP/1.1 only"
    elif load.rate <= 0:
        what = "wrk2 needs a rate; it knows no full speed"
    elif round(load.rate) < 1:
        what = "wrk2 takes whole requests per second, at least one for each worker"
    elif target.body or target.content_type:
        what = "wrk2 sends no body"
    elif target.ca_certificate or (target.url.lower().startswith("https:") and not target.insecure):
        what = "wrk2 checks no certificate, so it takes https with insecure: true only"
    if what:
        raise LoadTestMalformed(what, remedy="use the generator fortio, or change the test")


def command(load: Load, *, program: str) -> list[str]:
    """The process's arguments: whole numbers only, and a time instead of a number of calls.

    One thread, because wrk2 drops connections that do not divide by its threads.
    """
    target = load.target
    words = [program, "-t", "1", "-c", str(load.connections), "-R", str(round(load.rate))]
    words += ["-d", f"{max(1, round(load.duration_s))}s", "--latency", "--u_latency"]
    words += ["--timeout", f"{max(1, math.ceil(target.timeout_s))}s"]
    words += [w for name, value in target.headers.items() for w in ("-H", f"{name}: {value}")]
    return [*words, target.url]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Latencies in microseconds. A step says how many requests took at most so long."""

    steps: tuple[tuple[int, int], ...] = ()
    mean_us: float = 0.0
    deviation_us: float = 0.0

    @classmethod
    def read(cls, text: str) -> Spectrum:
        steps = [(round(float(ms) * 1000), int(seen)) for ms, seen in _STEP.findall(text)]
        moments = _MOMENTS.search(text)
        if moments is None or not steps or not steps[-1][1]:
            return cls()
        return cls(tuple(steps), float(moments[1]) * 1000, float(moments[2]) * 1000)

    def histogram(self, requests: int) -> Histogram:
        """Stretched to so many requests. Mean and deviation are wrk2's own, over every value."""
        histogram = Histogram()
        taken = 0
        for latency_us, total in self.steps:
            share = total * requests // self.steps[-1][1]
            if share > taken:
                histogram.record(latency_us, share - taken)
            taken = share
        histogram.total_us = round(self.mean_us * requests)
        histogram.squares = round((self.mean_us**2 + self.deviation_us**2) * requests)
        return histogram


@dataclass(slots=True)
class Output:
    """The report that wrk2 writes at its end."""

    requests: int = 0
    """Answers of any status."""
    rate: float = 0.0
    refused: int = 0
    connect_errors: int = 0
    transfer_errors: int = 0
    """Of reading and writing."""
    bytes_received: int = 0
    recorded: Spectrum = field(default_factory=Spectrum)
    uncorrected: Spectrum = field(default_factory=Spectrum)

    @classmethod
    def read(cls, text: str) -> Output:
        output = cls()
        parts = _PART.split(text)
        for name, part in zip(parts[1::2], parts[2::2], strict=True):
            if name == "Recorded":
                output.recorded = Spectrum.read(part)
            else:
                output.uncorrected = Spectrum.read(part)
        if found := _REQUESTS.search(text):
            output.requests = int(found[1])
            output.bytes_received = round(float(found[2]) * _SIZES[found[3]])
        if found := _RATE.search(text):
            output.rate = float(found[1])
        if found := _REFUSED.search(text):
            output.refused = int(found[1])
        if found := _SOCKETS.search(text):
            output.connect_errors = int(found[1])
            output.transfer_errors = int(found[2]) + int(found[3])
        return output

    @property
    def has_latencies(self) -> bool:
        return bool(self.recorded.steps)

    def complaint(self) -> str:
        """The reason why no request was answered; a refused connection is on stderr before."""
        if self.connect_errors:
            return "TLS handshake failed"
        return "connection reset by peer" if self.transfer_errors else "timeout"

    def count(self, tally: Tally, *, asked: int, offset_s: float = 0.0) -> None:
        """Adds everything to `tally`; `asked` is how many requests the load was to make."""
        lost = min(self.connect_errors + self.transfer_errors, max(0, asked - self.requests))
        durations = (self.uncorrected if self.uncorrected.steps else self.recorded).histogram(
            self.requests
        )
        responses = self.recorded.histogram(self.requests)
        mean_us = round(durations.mean_us)
        if lost:
            durations.record(mean_us, lost)
            responses.record(round(responses.mean_us), lost)
        if failed := self.refused + lost:
            tally.failures.record(mean_us, failed)
        tally.durations.merge(durations)
        tally.responses.merge(responses)
        counts = {ANSWERED: self.requests - self.refused, REFUSED: self.refused, NO_ANSWER: lost}
        tally.codes.update({code: count for code, count in counts.items() if count})
        tally.bytes_received += self.bytes_received
        if self.rate:  # the time itself is written in minutes with two digits
            tally.ended_s = max(tally.ended_s, offset_s + self.requests / self.rate)
