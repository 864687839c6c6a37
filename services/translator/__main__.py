"""`python -m services.translator`: the composition root of the translator worker."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone

import structlog

from services.chassis.bus.connection import Bus
from services.chassis.bus.credentials import asking_to_forget
from services.chassis.bus.deadletters import DeadLetters
from services.chassis.bus.pulling import PullWorker, consuming
from services.chassis.bus.queries import answering
from services.chassis.messages import Command
from services.chassis.messages.following import KIND
from services.chassis.operations.progress import Progress
from services.chassis.operations.running import Runner
from services.chassis.service import Chassis, run
from services.translator.adapters.distributions import Distributions
from services.translator.adapters.followed import FollowedSources
from services.translator.adapters.lifecycle import ClusterOfCommand
from services.translator.adapters.published import followed_definitions
from services.translator.catalog import offered
from services.translator.following import authorize, following
from services.translator.handlers import SERVICE, Handlers, changes
from services.translator.queries import Answers
from services.translator.settings import TranslatorSettings
from services.translator.work import Definitions

HTTP_PORT = 9112

log = structlog.get_logger(__name__)


def now() -> datetime:
    return datetime.now(timezone.utc)


@asynccontextmanager
async def compose(chassis: Chassis[TranslatorSettings]) -> AsyncIterator[None]:
    """Builds the worker, advertises what it offers, and consumes until the context is left."""
    own, bus = chassis.own, chassis.bus
    # A rule that refuses a value is a finding; the library logs it as a warning as well.
    logging.getLogger("cel").setLevel(logging.ERROR)
    async with _definitions(bus, own) as definitions, _serving(chassis, definitions):
        yield


@asynccontextmanager
async def _definitions(bus: Bus, own: TranslatorSettings) -> AsyncIterator[Definitions]:
    """From the folder where one is named, else from the bus."""
    if own.distributions is None:
        async with followed_definitions(bus, own.gateway_api) as published:
            yield published
        return
    definitions = Distributions(own.distributions, own.gateway_api)
    if not definitions.versions():
        log.warning("no_definitions", folder=str(own.distributions))
    yield definitions


@asynccontextmanager
async def _serving(
    chassis: Chassis[TranslatorSettings], definitions: Definitions
) -> AsyncIterator[None]:
    settings, own, bus = chassis.settings, chassis.own, chassis.bus

    def cluster_of(command: Command, progress: Progress) -> ClusterOfCommand:
        return ClusterOfCommand(bus, command, own.facts_timeout, progress)

    def registered(token: str) -> ClusterOfCommand:
        question = Command(operation="question", kind="question", cluster=token)
        return ClusterOfCommand(bus, question, own.facts_timeout)

    offers = offered()
    operations = {**offers, KIND: following(offers, FollowedSources(bus).find)}
    runner = Runner(
        chassis,
        operations,
        work=Handlers(
            definitions=definitions, cluster_of=cluster_of, now=now, follows=own.follows
        ).work,
        changes=changes,
        forget=asking_to_forget(bus),
        authorize=authorize,
        is_exclusive=False,
    )
    letters = DeadLetters(chassis.publisher)
    worker = PullWorker(
        bus,
        "CMD",
        SERVICE,
        runner.handle,
        letters.bury_delivery,
        slots=max(own.in_hand, own.slots),
        waits_below=own.slots,
    )
    await runner.advertise()
    async with (
        consuming(worker, grace=settings.drain_grace),
        answering(
            bus,
            service=SERVICE,
            description="Translates SMI, Meshery designs and intents; validates Istio's objects",
            queries=Answers(definitions, registered).queries(),
            askers=chassis.askers,
        ),
    ):
        yield


if __name__ == "__main__":
    run(SERVICE, TranslatorSettings, compose, http_port=HTTP_PORT)
