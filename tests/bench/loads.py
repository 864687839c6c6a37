"""Performance tests, measured: what they add to the generator alone, merging, and more workers."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from nats.aio.msg import Msg

from services.chassis.messages import Event
from services.perf.measurements.measurements import Measurement
from services.perf.measurements.tallies import Tally, TallyMessage, merged
from services.perf.results.fortio import fortio_result
from tests.bench.scales import Scale
from tests.testbed import loopback
from tests.testbed.backends import Backend, Backends
from tests.testbed.building import binary
from tests.testbed.perfrigs import Rig, rigged, smp
from tests.testbed.waiting import eventually

RATE = 100
CONNECTIONS = 4
_DELAY_S = 0.01
SHARDS, INTERVALS = 64, 60
_PERCENTILES = (50.0, 99.0)


METHOD = (
    "The same load in turns by `fortio load`, by Meshbus with one worker, and by fortio again, "
    "against fortio's own server with a delay of 10 ms. Meshbus' time runs from the question "
    "`mesh.perf.run` to the run's last event, with the result stored. More workers on the same "
    "processors make no more load: they share them with the target."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number and what it should be at most; without a bar it is only told."""

    name: str
    value: float
    unit: str
    bar: float | None = None

    def row(self) -> str:
        number = f"{self.value:.0f}" if self.value >= 1000 else f"{self.value:.3g}"
        value = f"{number} {self.unit}".strip()
        if self.bar is None:
            return f"| {self.name} | {value} | | |"
        verdict = "reached" if self.value <= self.bar else "**not reached**"
        bar = f"≤ {self.bar:.3g} {self.unit}".strip()
        return f"| {self.name} | {value} | {bar} | {verdict} |"


async def figures(folder: Path, *, scale: Scale) -> list[Figure]:
    """All of them."""
    with Backends() as servers, _server() as port:
        target = servers.add("target", delay_s=_DELAY_S)
        async with rigged(folder, workers=1, perf_start_within="60s") as rig:
            url = f"http://{loopback.HOST}:{port}/?delay={_DELAY_S * 1000:g}ms"
            found = await _overhead(rig, url, seconds=scale.load_s, turns=scale.load_turns)
            found.append(_merge())
            found += await _scaling(rig, target, scale)
    return found


async def _overhead(rig: Rig, url: str, *, seconds: int, turns: int) -> list[Figure]:
    """The same load by fortio alone, by Meshbus, and by fortio again, in turns."""
    body = smp(url, rps=RATE, duration=f"{seconds}s", connections=CONNECTIONS)
    extra, ours, theirs = [], [], []
    for _ in range(turns):
        first_s, first = await _fortio(url, seconds)
        began = time.monotonic()
        run = await _ended(rig, body, within_s=seconds + 60)
        took_s = time.monotonic() - began
        measurement = await rig.measurement(run)
        second_s, second = await _fortio(url, seconds)
        extra.append(took_s - (first_s + second_s) / 2)
        ours.append(_ms(fortio_result(measurement)["DurationHistogram"]))
        theirs += [first, second]
    results = [
        Figure(
            name=f"Longer than `fortio load` itself, {seconds} s at {RATE} requests/s",
            value=statistics.median(extra),
            unit="s",
            bar=0.5,
        )
    ]
    for index, percentile in enumerate(_PERCENTILES):
        values = [each[index] for each in theirs]
        middle = statistics.median(values)
        results.append(
            Figure(
                name=(
                    f"p{percentile:g} of Meshbus beside fortio's {middle:.3g} ms; the bar is how "
                    f"far {len(values)} runs of fortio lie apart"
                ),
                value=abs(statistics.median(each[index] for each in ours) - middle),
                unit="ms",
                bar=max(values) - min(values),
            )
        )
    return results


async def _ended(rig: Rig, body: str, *, within_s: float) -> str:
    """Runs a test and waits for its last event. Asking again and again would keep the machine
    awake, which makes every timer on it more punctual than it is for the other tool."""
    ended = asyncio.Event()

    async def heard(message: Msg) -> None:
        if Event.model_validate_json(message.data).is_final:
            ended.set()

    events = await rig.bus.client.subscribe("live.evt.perf.>", cb=heard)
    run = await rig.start(body)
    async with asyncio.timeout(within_s):
        await ended.wait()
    await events.unsubscribe()
    return run


async def _fortio(url: str, seconds: int) -> tuple[float, list[float]]:
    """Wall time of the whole process, and its percentiles."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        str(binary("fortio")),
        *("load", "-quiet", "-uniform", "-json", "-", "-qps", str(RATE), "-c", str(CONNECTIONS)),
        # Its buckets are fine at their lower end only: that is laid where the answers begin.
        *("-t", f"{seconds}s", "-offset", f"{_DELAY_S:g}s", "-r", "0.00002"),
        *("-p", ",".join(map(str, _PERCENTILES)), url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    return time.monotonic() - began, _ms(json.loads(output)["DurationHistogram"])


def _ms(histogram: dict[str, list[dict[str, float]]]) -> list[float]:
    values = {each["Percentile"]: each["Value"] * 1000 for each in histogram["Percentiles"]}
    return [values[percentile] for percentile in _PERCENTILES]


def _merge() -> Figure:
    """Shards of a minute, each with 6 000 requests around 20 ms."""
    merge = merging(SHARDS)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        merge()
        took.append(time.perf_counter() - began)
    return Figure(
        name=f"Merging {SHARDS} shards with {INTERVALS} intervals each",
        value=statistics.median(took) * 1000,
        unit="ms",
        bar=50,
    )


def merging(shards: int) -> Callable[[], None]:
    """Merges that many shards, whenever it is called."""
    messages = [_tally(Random(seed)) for seed in range(shards)]

    def merge() -> None:
        total = merged(messages, interval_s=1.0)
        assert total.requests == shards * INTERVALS * RATE

    return merge


def _tally(random: Random) -> TallyMessage:
    tally = Tally()
    for second in range(INTERVALS):
        for number in range(RATE):
            duration_us = int(random.lognormvariate(9.9, 0.25))
            tally.request(
                at_s=second + number / RATE,
                duration_us=duration_us,
                late_us=0,
                code="200",
                is_ok=True,
            )
    return tally.message()


async def _scaling(rig: Rig, target: Backend, scale: Scale) -> list[Figure]:
    """Workers that are started because a run waits for them, and stopped in the middle of it."""
    url = f"http://{loopback.HOST}:{target.port}/"
    target.requests.clear()
    body = smp(url, rps=RATE, duration=f"{scale.scaling_s}s", connections=6, workers=3)
    run = await rig.start(body)
    await rig.until(run, "waiting")
    began = time.monotonic()
    await asyncio.to_thread(rig.add, 2, first=2)
    await eventually(lambda: target.requests.total() > 0, what="load", within_s=60)
    up_s = time.monotonic() - began
    await eventually(lambda: target.requests.total() > RATE, what="more load", within_s=60)
    began = time.monotonic()
    await asyncio.to_thread(rig.remove, "perf-2", "perf-3")
    down_s = time.monotonic() - began
    await rig.until(run, "done", within_s=60)
    measurement = await rig.measurement(run)
    lost = target.requests.total() - _requests(measurement)
    return [
        Figure(
            name="From starting two more workers to the load of all three", value=up_s, unit="s"
        ),
        Figure(
            name="From asking two workers to stop in the middle of a run to their end",
            value=down_s,
            unit="s",
        ),
        Figure(
            name="Requests of that run that its result does not have",
            value=abs(lost) + abs(scale.scaling_s * RATE - _requests(measurement)),
            unit="",
            bar=0,
        ),
        *await _rates(rig, scale),
    ]


async def _rates(rig: Rig, scale: Scale) -> list[Figure]:
    """As fast as possible, by one, two and four workers, against fortio's own server."""
    found = []
    with _server() as port:
        for workers in (1, 2, 4):
            missing = workers - len(rig.stack.processes)
            if missing > 0:
                await asyncio.to_thread(rig.add, missing, first=10 + workers)
            body = smp(
                f"http://{loopback.HOST}:{port}/",
                rps=0,
                duration=f"{scale.rate_s}s",
                connections=16,
                workers=workers,
            )
            measurement = await rig.measured(body)
            found.append(
                Figure(
                    name=f"As fast as possible, workers: {workers}, processors: {os.cpu_count()}",
                    value=measurement.actual_rate,
                    unit="requests/s",
                )
            )
    return found


@contextmanager
def _server() -> Iterator[int]:
    """fortio's echo server on a port of its own."""
    port = loopback.take_port()
    process = subprocess.Popen(
        [
            str(binary("fortio")),
            *("server", "-http-port", f"{loopback.HOST}:{port}", "-grpc-port", "disabled"),
            *("-tcp-port", "disabled", "-udp-port", "disabled", "-redirect-port", "disabled"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _requests(measurement: Measurement) -> int:
    return sum(measurement.tally.durations.counts)
