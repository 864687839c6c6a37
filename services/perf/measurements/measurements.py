"""The measurement of a run: the merged counts of its shards, and what limits their meaning."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import Field

from services.chassis.messages.models import Message, Piece
from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.measurements.tallies import TallyMessage

_MOST_INTERVALS = 600


class Part(Piece):
    """Counts of one stage and target of one shard."""

    stage: int
    """Index of the stage, from 0."""
    target: int
    """Index of the target, from 0."""
    tally: TallyMessage


class MissingShard(Piece):
    """A hole in a result: a part of the load whose counts never came, and are not in it."""

    shard: int
    worker: str
    since_s: float = Field(serialization_alias="sinceS")
    """When it was last heard of, in seconds after the run's start."""
    reason: str


class StageResult(Piece):
    """One stage, over all targets."""

    rate: float
    """Asked requests per second; 0 means as fast as possible."""
    duration_s: float
    actual_rate: float
    tally: TallyMessage
    holds: bool | None = None
    """Whether the objective held; None without one."""
    reason: str = ""
    """Why it did not."""


class TargetResult(Piece):
    """One target, over all stages."""

    url: str
    """Without user information, query and fragment: they may hold secrets."""
    weight: float
    tally: TallyMessage

    @property
    def address(self) -> SplitResult:
        """The URL taken apart; of `host:port` as well, which has no scheme."""
        return urlsplit(self.url if "//" in self.url else f"//{self.url}")


class Measurement(Message):
    """One run. Everything that a result page, an export or a comparison needs, and no secret."""

    run: str
    name: str = ""
    generator: GeneratorName
    protocol: Protocol
    mesh: str = ""
    service: str = ""
    cluster: str = ""
    fingerprint: str = ""
    """Of the mesh's configuration when the run began; empty when it is not known."""
    labels: dict[str, str] = Field(default_factory=dict)
    started: datetime
    """When the first request was due."""
    duration_s: float
    """From the first request to the last answer of the shards that ran together."""
    requested_duration_s: float
    requested_rate: float
    """Of a single stage; with several, their average. 0 means as fast as possible."""
    connections: int
    workers: int
    rerun: list[int] = Field(default_factory=list)
    """Shards that were run a second time, after the others, because their worker died."""
    missing: list[MissingShard] = Field(default_factory=list)
    ended_early: int = 0
    """Shards whose generator failed in the middle; what they counted until then is in here."""
    warnings: list[str] = Field(default_factory=list)
    stages: list[StageResult] = Field(default_factory=list)
    targets: list[TargetResult] = Field(default_factory=list)
    tally: TallyMessage
    """Over everything."""
    saturation_rate: float | None = Field(default=None, serialization_alias="saturationRate")
    """Of a search: the highest rate that held the objective; 0 when none did."""
    correlation: dict[str, Any] | None = None
    """What the mesh's telemetry says about the run's window (`verdicts.Verdict`)."""

    @property
    def is_complete(self) -> bool:
        return not self.missing and not self.ended_early

    @property
    def actual_rate(self) -> float:
        return self.tally.requests / self.duration_s if self.duration_s > 0 else 0.0

    @property
    def services(self) -> list[str]:
        """The service under test; where the test names none, the hosts of the targets."""
        hosts = (target.address.hostname for target in self.targets)
        return [self.service] if self.service else [host for host in hosts if host]


def interval_of(duration_s: float) -> float:
    """Length of the intervals of a run: one second, and longer where those would be too many."""
    return float(max(1, math.ceil(duration_s / _MOST_INTERVALS)))
