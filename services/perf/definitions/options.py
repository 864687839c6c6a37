"""Options that SMP has no field for, in a document beside the test, as LifecycleOptions are.

apiVersion: meshbus.io/v1
kind: PerformanceOptions
spec:
  workers: 4                  # those that are free where not set
  onLostWorker: rerun         # or report
  http2: false
  timeoutSeconds: 10
  insecure: false             # takes any certificate
  targets: [{url: "http://checkout.shop.svc/", weight: 3}]
  stages: [{rate: 50, durationSeconds: 60}]
  ramp: {from: 50, to: 500, steps: 10, durationSeconds: 300}
  saturation: {lowest: 50, highest: 5000, stepSeconds: 15, precision: 0.05}
  objective: {p99Ms: 250, errorRatio: 0.01, rateRatio: 0.95}
  prometheus: http://prometheus.istio-system.svc:9090   # where the operator allows it
  service: checkout.shop
  baseline: nightly
  replaceBaseline: false      # true begins the baseline anew with this run
  change: |                   # of a gate: the manifest that is tried
    …
  threshold: 0.1
  settleSeconds: 5
  repeats: 3
  furtherPairs: 3
  alternate: true
  rollback: true

It is read here and not by `bodies.read_options`, which tells the first problem only and has the
translator's code and guide in its error.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from services.perf.definitions.fields import (
    LONGEST_S,
    MOST_RATE,
    MOST_TARGETS,
    Milliseconds,
    Number,
    Rate,
    Seconds,
    checked_url,
)
from services.perf.definitions.loads import LEAST_REQUESTS, Objective, Saturation, Stage

KIND = "PerformanceOptions"
_MOST_STAGES = 256
_MOST_WORKERS = 256
_LEAST_PRECISION = 0.005
_CHANGE_LIMIT = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SERVICE = re.compile(rf"{_LABEL}\.{_LABEL}")


class Written(BaseModel):
    """A part of a test as people write it: an unknown field is an error, and no error quotes a
    value, because it may be a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _base_url(text: str) -> str:
    if not text:
        return text
    if urlsplit(checked_url(text)).query:
        raise ValueError("must be a base URL without a query")
    return text


def _service(text: str) -> str:
    if text and not _SERVICE.fullmatch(text):
        raise ValueError("must be name.namespace, such as checkout.shop")
    return text


def _baseline(text: str) -> str:
    if text and not _NAME.fullmatch(text):
        raise ValueError("must be a name of at most 63 letters, digits and . _ -")
    return text


def checked_stage(rate: float, duration_s: float) -> Stage:
    """Raises `ValueError` for a stage that generators cannot make exactly."""
    stage = Stage(rate=rate, duration_s=duration_s)
    if rate and stage.requests < LEAST_REQUESTS:
        raise ValueError(
            f"the rate and the duration come to fewer than {LEAST_REQUESTS} requests, which is the "
            "least that a generator makes"
        )
    return stage


class TargetOption(Written):
    """One of several endpoints; protocol, headers and body are the client's."""

    url: str
    weight: Number = Field(default=1.0, ge=1e-6, le=1e6)


class StageOption(Written):
    rate: Number = Field(ge=0, le=MOST_RATE)
    """0 means as fast as the connections allow."""
    durationSeconds: Seconds  # noqa: N815

    @model_validator(mode="after")
    def _makes_requests(self) -> StageOption:
        self.stage()
        return self

    def stage(self) -> Stage:
        return checked_stage(self.rate, self.durationSeconds)


class RampOption(Written):
    """Stages of one length, from one rate to another in even steps."""

    first: Rate = Field(alias="from")
    to: Rate
    steps: int = Field(default=10, ge=2, le=_MOST_STAGES)
    durationSeconds: Seconds  # noqa: N815
    """Of all steps together."""

    @model_validator(mode="after")
    def _steps_are_long_enough(self) -> RampOption:
        if self.durationSeconds < self.steps:
            raise ValueError("each step must last a second or more")
        self.stages()
        return self

    def stages(self) -> list[Stage]:
        rise = (self.to - self.first) / (self.steps - 1)
        duration_s = self.durationSeconds / self.steps
        rates = [round(self.first + rise * step, 6) for step in range(self.steps)]
        return [checked_stage(rate, duration_s) for rate in rates]


class SaturationOption(Written):
    lowest: Rate
    highest: Rate
    stepSeconds: Seconds = 10.0  # noqa: N815
    precision: Number = Field(default=0.05, ge=_LEAST_PRECISION, le=0.5)

    @model_validator(mode="after")
    def _can_be_searched(self) -> SaturationOption:
        if self.highest <= self.lowest:
            raise ValueError("highest must be above lowest")
        checked_stage(self.lowest, self.stepSeconds)
        longest_s = self.bounds().most_steps * self.stepSeconds
        if longest_s > LONGEST_S:
            raise ValueError(
                f"the search could take {longest_s:g} s, the limit is {LONGEST_S:g} s; shorten "
                "the steps, narrow the bounds or ask for less precision"
            )
        return self

    def bounds(self) -> Saturation:
        return Saturation(
            lowest=self.lowest,
            highest=self.highest,
            step_duration_s=self.stepSeconds,
            precision=self.precision,
        )


class ObjectiveOption(Written):
    p50Ms: Milliseconds | None = None  # noqa: N815
    p90Ms: Milliseconds | None = None  # noqa: N815
    p99Ms: Milliseconds | None = None  # noqa: N815
    errorRatio: Annotated[Number, Field(ge=0, le=1)] | None = 0.01  # noqa: N815
    """null where errors do not matter."""
    rateRatio: Number = Field(default=0.95, ge=0, le=1)  # noqa: N815

    def wanted(self) -> Objective:
        return Objective(
            p50_ms=self.p50Ms,
            p90_ms=self.p90Ms,
            p99_ms=self.p99Ms,
            error_ratio=self.errorRatio,
            rate_ratio=self.rateRatio,
        )


class PerformanceOptions(Written):
    """Checked options. Field names are the document's."""

    workers: int = Field(default=0, ge=0, le=_MOST_WORKERS)
    """0 takes those that are free."""
    onLostWorker: Literal["rerun", "report"] = "rerun"  # noqa: N815
    http2: bool = False
    timeoutSeconds: Number = Field(default=10.0, ge=0.001, le=3600)  # noqa: N815
    """Of one request."""
    insecure: bool = False
    targets: list[TargetOption] = Field(default_factory=list, max_length=MOST_TARGETS)
    """Instead of the test's own URLs."""
    stages: list[StageOption] = Field(default_factory=list, max_length=_MOST_STAGES)
    """Instead of the test's own rate and duration, as `ramp` and `saturation` are."""
    ramp: RampOption | None = None
    saturation: SaturationOption | None = None
    objective: ObjectiveOption | None = None
    prometheus: Annotated[str, AfterValidator(_base_url)] = ""
    service: Annotated[str, AfterValidator(_service)] = ""
    """`name.namespace`."""
    baseline: Annotated[str, AfterValidator(_baseline)] = ""
    replaceBaseline: bool = False  # noqa: N815
    """Begins the baseline anew with this run, whatever it measured."""
    change: str = Field(default="", max_length=_CHANGE_LIMIT, repr=False)
    """Manifest that a gate tries."""
    threshold: Number = Field(default=0.1, gt=0, le=10)
    """The share by which a figure may get worse."""
    settleSeconds: Number = Field(default=5.0, ge=0, le=3600)  # noqa: N815
    """From each switch of the mesh to the next run."""
    rollback: bool = True
    repeats: int = Field(default=3, ge=1, le=10)
    """Pairs of runs, one before the change and one after it. Fewer than three tell nothing."""
    furtherPairs: int = Field(default=3, ge=0, le=10)  # noqa: N815
    """Pairs that are added, one by one, while the comparison is inconclusive."""
    alternate: bool = True
    """Runs before and after the change take turns; false makes all those before first."""

    @model_validator(mode="after")
    def _names_the_baseline(self) -> PerformanceOptions:
        if self.replaceBaseline and not self.baseline:
            raise ValueError("replaceBaseline needs the name of a baseline")
        return self

    @model_validator(mode="after")
    def _has_one_course(self) -> PerformanceOptions:
        if bool(self.stages) + (self.ramp is not None) + (self.saturation is not None) > 1:
            raise ValueError("stages, ramp and saturation exclude each other")
        if sum(stage.durationSeconds for stage in self.stages) > LONGEST_S:
            raise ValueError(f"the stages last longer than {LONGEST_S:g} s together")
        return self

    @property
    def course(self) -> list[Stage]:
        """The stages that stand here, written out; empty where the test's own count."""
        if self.ramp is not None:
            return self.ramp.stages()
        return [stage.stage() for stage in self.stages]
