"""A load test in the terms of this service: targets, stages, objectives.

A test is read from the forms that people send (`reading`) and cut into shards (`runs.sharding`).
All of it travels in messages, so these are pydantic models; every quantity has its unit in its
name.
"""

from __future__ import annotations

import math
from enum import StrEnum
from urllib.parse import SplitResult, urlsplit

from pydantic import Field

from services.chassis.messages.models import Message, Piece

LEAST_REQUESTS = 2
"""Of one process of a generator."""
LEAST_PRECISION = 0.001
"""Finer than this no load test can tell two rates apart."""


class Protocol(StrEnum):
    """Protocols of generators. SMP's HTTP is `http1` unless the options ask for HTTP/2."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"
    TCP = "tcp"


class GeneratorName(StrEnum):
    """Programs that make load; both send at a constant rate."""

    FORTIO = "fortio"
    WRK2 = "wrk2"


class LostWorker(StrEnum):
    """Fate of the shard of a worker that died: run again, or reported as missing."""

    RERUN = "rerun"
    REPORT = "report"


class Target(Piece):
    """One endpoint under test. Headers and body may hold secrets: no event or result has them."""

    url: str
    """`http://…`, `https://…`, or `host:port` for gRPC and TCP."""
    weight: float = 1.0
    """Share of the rate, relative to the other targets."""
    protocol: Protocol = Protocol.HTTP1
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    body: str = Field(default="", repr=False)
    content_type: str = ""
    insecure: bool = False
    """Takes any certificate of the target."""
    ca_certificate: str = Field(default="", repr=False)
    """PEM; empty means the system's authorities."""
    timeout_s: float = 10.0
    """How long one request may take."""

    @property
    def authority(self) -> str:
        """Host and port, without user information."""
        return self.address.netloc.rpartition("@")[2]

    @property
    def service(self) -> str:
        """`name.namespace` from a host of the form that Kubernetes gives to Services; else the
        host."""
        host = self.address.hostname or ""
        name = host.split(".")
        return ".".join(name[:2]) if len(name) > 2 and name[2] == "svc" else host

    @property
    def public_url(self) -> str:
        """The URL without the parts that may hold a secret: user information, query, fragment."""
        if "//" not in self.url:
            return self.url
        return self.address._replace(netloc=self.authority, query="", fragment="").geturl()

    @property
    def address(self) -> SplitResult:
        """The URL taken apart; of `host:port` as well, which has no scheme."""
        return urlsplit(self.url if "//" in self.url else f"//{self.url}")


class Stage(Piece):
    """A part of a test at one rate, over all targets and workers."""

    rate: float
    """Requests per second; 0 means as fast as the connections allow."""
    duration_s: float

    @property
    def requests(self) -> int:
        """How many requests it comes to; 0 where it has no rate."""
        return round(self.rate * self.duration_s)


class Objective(Piece):
    """Limits that the target must hold; a field that is None sets none."""

    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    error_ratio: float | None = 0.01
    """Failed requests among all, from 0 to 1."""
    rate_ratio: float = 0.95
    """Least share of the asked rate that must be reached."""


class Saturation(Piece):
    """The search for the highest rate that holds the objective, between two rates."""

    lowest: float
    highest: float
    step_duration_s: float = 10.0
    precision: float = 0.05
    """The search ends when the bounds differ by less than this share of the upper one."""

    @property
    def most_steps(self) -> int:
        """The search never takes more steps than this, however they come out.

        Doublings from the lowest to the highest rate, then halvings of a gap that is at most as
        wide as its lower bound; each rate at most twice.
        """
        upward = 1 + math.ceil(math.log2(max(1.0, self.highest / self.lowest)))
        halvings = math.ceil(math.log2(1 / max(LEAST_PRECISION, self.precision)))
        return 2 * (upward + max(0, halvings))


class LoadTest(Message):
    """One test, ready to be cut."""

    name: str = ""
    generator: GeneratorName = GeneratorName.FORTIO
    targets: list[Target] = Field(min_length=1)
    stages: list[Stage] = Field(default_factory=list)
    """One after the other; empty only with `saturation`."""
    saturation: Saturation | None = None
    objective: Objective | None = None
    connections: int = 4
    """Over all targets and workers; each sends one request at a time."""
    workers: int = 0
    """How many workers share the load; 0 takes those that are free."""
    on_lost_worker: LostWorker = LostWorker.RERUN
    labels: dict[str, str] = Field(default_factory=dict)
    mesh: str = "istio"
    """The service mesh under test, as Meshery names it."""
    prometheus: str = ""
    """Base URL of the Prometheus that scrapes the mesh; empty takes the setting."""
    service: str = ""
    """`name.namespace` of the service under test, for telemetry and baselines; empty guesses it
    from the first target's host."""
    baseline: str = ""
    """Name of the baseline to compare the result with; without one, the result becomes it."""
    replaces_baseline: bool = False
    """The result becomes the baseline, whatever it is."""

    @property
    def duration_s(self) -> float:
        """Of all stages; of a saturation, of one step."""
        if self.saturation is not None:
            return self.saturation.step_duration_s
        return sum(stage.duration_s for stage in self.stages)


class Load(Piece):
    """The load of one process of a generator: one target at one rate."""

    target: Target
    index: int = 0
    """Of the target in the test, from 0."""
    rate: float
    """Requests per second; 0 means as fast as the connections allow."""
    duration_s: float
    requests: int
    """Exactly so many; 0 where the rate is 0, then the duration ends it."""
    connections: int = Field(ge=1)


class Shard(Piece):
    """One worker's part of a run: loads that run side by side, stage after stage."""

    number: int
    """Counts from 1."""
    stages: list[list[Load]]

    @property
    def duration_s(self) -> float:
        return sum(max((load.duration_s for load in stage), default=0.0) for stage in self.stages)
