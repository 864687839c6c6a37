"""Measurements for the tests of what is made of them: usual ones, tiny ones, and hostile ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from services.perf.definitions.loads import GeneratorName, LoadTest, Protocol, Stage, Target
from services.perf.measurements.measurements import (
    Measurement,
    MissingShard,
    Part,
    StageResult,
    TargetResult,
)
from services.perf.measurements.tallies import Tally
from services.perf.runs.assignments import StepOutcome
from services.perf.runs.summing import measured_by

STARTED = datetime(2026, 9, 1, 12, 0, 0, 250_000, tzinfo=timezone.utc)
HOSTILE = "</title></svg><script src=//evil.example/x.js>alert('1')</script>&amp;\"$\\frac{1}{2}$ ☃"


def tally(
    *, seconds: int = 5, rate: int = 100, seed: int = 0, failing: int = 20, code: str = "503"
) -> Tally:
    """Requests of some milliseconds each; one of `failing` fails, none where that is 0."""
    chance = random.Random(seed)
    counted = Tally()
    for number in range(seconds * rate):
        is_ok = not failing or number % failing != 0
        counted.request(
            at_s=number / rate,
            duration_us=int(chance.lognormvariate(8, 0.7)),
            late_us=chance.randrange(-200, 400),
            code="200" if is_ok else code,
            is_ok=is_ok,
        )
    counted.sockets, counted.bytes_received, counted.bytes_sent = 4, 12_345, 678
    return counted


def measurement(counted: Tally | None = None, **changes: Any) -> Measurement:
    """A run of one stage and one target that counted this."""
    counted = tally() if counted is None else counted
    message = counted.message()
    values: dict[str, Any] = {
        "run": "run-1",
        "name": "checkout",
        "generator": GeneratorName.FORTIO,
        "protocol": Protocol.HTTP1,
        "mesh": "istio",
        "service": "checkout.shop",
        "cluster": "kind-a",
        "fingerprint": "f1b2",
        "labels": {"team": "shop"},
        "started": STARTED,
        "duration_s": 5.0,
        "requested_duration_s": 5.0,
        "requested_rate": 100.0,
        "connections": 8,
        "workers": 2,
        "stages": [StageResult(rate=100, duration_s=5, actual_rate=100, tally=message)],
        "targets": [TargetResult(url="http://checkout.shop:8080/cart", weight=1, tally=message)],
        "tally": message,
    }
    return Measurement(**values | changes)


def searched(steps: Sequence[Tally]) -> Measurement:
    """A search for saturation whose steps counted these, each from its own start."""
    stage = Stage(rate=1, duration_s=2)
    outcomes = [
        StepOutcome(
            start_at=STARTED.timestamp(),
            seconds=2.0,
            parts=[Part(stage=0, target=0, tally=step.message())],
            workers=["w"],
            rerun=[],
            missing=[],
            errors=[],
        )
        for step in steps
    ]
    return measured_by(
        LoadTest(targets=[Target(url="http://checkout.shop:8080/cart", protocol=Protocol.HTTP1)]),
        [([stage], outcome) for outcome in outcomes],
        run="run-1",
        cluster="",
        fingerprint="",
        saturation_rate=1.0,
        interval_s=1.0,
    )


def _one(code: str, *, is_ok: bool) -> Tally:
    counted = Tally()
    counted.request(at_s=0.2, duration_us=1500, late_us=0, code=code, is_ok=is_ok)
    return counted


def _without_intervals() -> Tally:
    counted = tally(seconds=2)
    counted.intervals.clear()
    return counted


def hostile() -> Measurement:
    """Everything that people or foreign programs may have written is an attack."""
    counted = _one(HOSTILE, is_ok=False)
    message = counted.message()
    return measurement(
        counted,
        run=HOSTILE,
        name=HOSTILE,
        service=HOSTILE,
        mesh=HOSTILE,
        cluster=HOSTILE,
        fingerprint=HOSTILE,
        labels={HOSTILE: HOSTILE},
        warnings=[HOSTILE],
        missing=[MissingShard(shard=1, worker=HOSTILE, since_s=1, reason=HOSTILE)],
        stages=[
            StageResult(
                rate=1, duration_s=1, actual_rate=1, tally=message, holds=False, reason=HOSTILE
            )
        ],
        targets=[TargetResult(url=HOSTILE, weight=1, tally=message)],
    )


UNUSUAL = {
    "no request": measurement(Tally(), requested_rate=0.0),
    "nothing at all": measurement(
        Tally(), duration_s=0.0, requested_duration_s=0.0, stages=[], targets=[], name=""
    ),
    "one request": measurement(_one("200", is_ok=True), duration_s=0.3),
    "one failure": measurement(_one("-1", is_ok=False), duration_s=0.3),
    "all failed": measurement(tally(failing=1)),
    "no intervals": measurement(_without_intervals()),
    "hostile": hostile(),
}
"""By what is odd about them."""
