"""`python -m services.perf`: the composition root of the perf worker."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import structlog

from services.chassis.bus.credentials import asking_to_forget
from services.chassis.bus.deadletters import DeadLetters
from services.chassis.bus.pulling import PullWorker, consuming
from services.chassis.bus.queries import answering
from services.chassis.bus.records import Bucket, Records
from services.chassis.bus.subjects import consumer
from services.chassis.errors import LoadTestMalformed
from services.chassis.messages import OperationRecord
from services.chassis.operations.running import Runner
from services.chassis.prometheus import Metrics, PrometheusApi
from services.chassis.regions import Regions
from services.chassis.service import Chassis, run
from services.chassis.settings import ChassisSettings
from services.perf.adapters.channels import BusChannels
from services.perf.adapters.drawing import drawn
from services.perf.adapters.generators import FortioGenerator, Wrk2Generator
from services.perf.adapters.objects import Objects
from services.perf.adapters.pages import Pages
from services.perf.adapters.targets import Targets
from services.perf.adapters.telemetry import cluster_metrics
from services.perf.comparison.baselines import BaselineRecord
from services.perf.definitions.allowance import Allowance, Ceilings
from services.perf.definitions.loads import GeneratorName
from services.perf.handlers import SERVICE, Handlers
from services.perf.operations.gate import GATE, PerformanceGate
from services.perf.operations.loadtest import TEST, PerformanceTest
from services.perf.queries import Answers
from services.perf.runs.assignments import Timeouts
from services.perf.runs.runs import Runs
from services.perf.runs.store import RunStore
from services.perf.runs.wire import RollAnswer
from services.perf.runs.work import Mesh, Operation
from services.perf.runs.worker import Generator, ShardWorker
from services.perf.settings import PerfSettings

HTTP_PORT = 9113

log = structlog.get_logger(__name__)


@asynccontextmanager
async def compose(chassis: Chassis[PerfSettings]) -> AsyncIterator[None]:
    """Builds the worker, advertises what it offers, and consumes until the context is left."""
    settings, own, bus = chassis.settings, chassis.own, chassis.bus
    store = RunStore(
        Bucket(bus, "perf"), Records(Bucket(bus, "baselines"), BaselineRecord), Objects(bus, "perf")
    )
    region = settings.region
    channels = BusChannels(bus, chassis.publisher, region)
    generators = installed(own)
    allowance = _allowance(settings, own)
    shards = ShardWorker(
        worker=settings.instance,
        generators=generators,
        channels=channels,
        store=store,
        metrics=chassis.metrics,
        ack_wait=settings.ack_wait,
        slots=own.slots,
        keys=bus.keys,
        admit=Targets(allowance, settings.address_policy).check,
    )
    runs = Runs(
        channels=channels,
        store=store,
        clock=time.time,
        timeouts=Timeouts(start_within=own.start_within, lost_after=own.lost_after),
        progress_every=own.progress,
        scrape_interval=own.prometheus_scrape_interval,
        metrics_of=lambda url: _metrics(url or own.prometheus, settings, own),
        metrics_of_cluster=partial(cluster_metrics, bus),
        allowance=allowance,
    )
    test, gate = PerformanceTest(runs, store), PerformanceGate(runs, store)
    operations = {
        TEST.name: Operation(TEST, test.run, lambda _command: "running the performance test"),
        GATE.name: Operation(GATE, gate.run, lambda _command: "gating the change"),
    }
    runner = Runner(
        chassis,
        operations,
        work=_handlers(chassis, channels).work,
        forget=asking_to_forget(bus),
        resumes=True,
    )
    letters = DeadLetters(chassis.publisher)
    commands, parts = (
        PullWorker(bus, "CMD", consumer(name, region), handle, letters.bury_delivery, slots=slots)
        for name, handle, slots in (
            (SERVICE, runner.handle, own.runs),
            ("perf-shards", shards.handle, max(1, own.slots)),
        )
    )
    if not region:
        # What is offered is the same everywhere.
        await runner.advertise()

    async def cancel(operation: str, cluster: str, kind: str) -> bool:
        is_running = await runner.claims.cancel(operation, cluster, kind=kind)
        await channels.cancel(operation, cluster)
        return is_running

    workers = [commands, parts] if own.slots else [commands]

    def present() -> RollAnswer:
        return RollAnswer(
            worker=settings.instance,
            free=shards.free,
            generators=sorted(generators),
            region=region,
        )

    answers = Answers(
        publisher=chassis.publisher,
        store=store,
        cancel_operation=cancel,
        drawn=drawn,
        allowance=allowance,
        regions=Regions(bus),
    )
    chassis.health.pages = Pages(store).answer
    async with (
        consuming(*workers, grace=settings.drain_grace),
        answering(
            bus,
            service=SERVICE,
            description="Runs load tests on any number of workers, compares and gates",
            # All of them can be answered from anywhere, so workers of no region do.
            queries=[] if region else answers.queries(),
            askers=chassis.askers,
            region=region,
        ),
        # A worker that drains takes no shards, so it answers no roll call.
        channels.answering(present),
    ):
        yield


def installed(own: PerfSettings) -> dict[GeneratorName, Generator]:
    """The generators whose programs are installed."""
    found: dict[GeneratorName, Generator] = {}
    for name, generator in (
        (GeneratorName.FORTIO, FortioGenerator(own.fortio)),
        (GeneratorName.WRK2, Wrk2Generator(own.wrk2)),
    ):
        if generator.is_installed:
            found[name] = generator
    if not found:
        log.warning("no_generators", fortio=own.fortio, wrk2=own.wrk2)
    return found


def _handlers(chassis: Chassis[PerfSettings], channels: BusChannels) -> Handlers:
    records = Records(Bucket(chassis.bus, "ops"), OperationRecord)
    return Handlers(
        mesh_of=lambda command: Mesh(
            bus=chassis.bus,
            publisher=chassis.publisher,
            records=records,
            command=command,
            within=chassis.own.gate_timeout,
        ),
        cancelling=channels.cancelling,
    )


def _allowance(settings: ChassisSettings, own: PerfSettings) -> Allowance:
    hosts = [
        urlsplit(f"//{url.partition('//')[2]}").hostname or ""
        for url in settings.nats_url.split(",")
    ]
    return Allowance.of(
        own.target_list,
        never=[host.partition(".")[0] for host in hosts if host[:1].isalpha()],
        ceilings=Ceilings(
            rate=own.most_rate,
            connections=own.most_connections,
            duration_s=own.longest.total_seconds(),
        ),
        takes_prometheus=own.prometheus_from_tests,
    )


def _metrics(url: str, settings: ChassisSettings, own: PerfSettings) -> Metrics | None:
    if not url:
        return None
    return PrometheusApi(
        url,
        timeout=own.prometheus_timeout,
        malformed=LoadTestMalformed,
        policy=settings.address_policy,
        ratio=settings.answer_ratio,
    )


if __name__ == "__main__":
    run(SERVICE, PerfSettings, compose, http_port=HTTP_PORT)
