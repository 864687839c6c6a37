"""`python -m services.lifecycle`: the composition root of the lifecycle worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timezone

import structlog

from services.chassis.addresses import AddressPolicy
from services.chassis.bus.credentials import Opener, Sealer, forgetting
from services.chassis.bus.deadletters import DeadLetters, Mover
from services.chassis.bus.leases import Leases
from services.chassis.bus.pulling import PullWorker, consuming
from services.chassis.bus.queries import answering
from services.chassis.bus.records import Bucket, Records
from services.chassis.bus.subjects import consumer
from services.chassis.granting import Checker
from services.chassis.kube.definitions import BUCKET
from services.chassis.messages import ClusterRecord, Followed, OperationRecord, RequestRecord
from services.chassis.operations.retries import Retries
from services.chassis.operations.running import Runner
from services.chassis.service import Chassis, run
from services.lifecycle.adapters.archives import Archives
from services.lifecycle.adapters.istioctl import Distributions
from services.lifecycle.adapters.questions import asking
from services.lifecycle.adapters.rendered import RenderedFolder
from services.lifecycle.adapters.reports import upgrade_report
from services.lifecycle.ambient.steps import Ambient
from services.lifecycle.applications.deploying import Applications
from services.lifecycle.applications.samples import Samples
from services.lifecycle.authority import Authority
from services.lifecycle.cluster.connections import Connections
from services.lifecycle.cluster.registrations import Registrations
from services.lifecycle.handlers import SERVICE, Handlers, changes
from services.lifecycle.manifests.following import Followings
from services.lifecycle.mesh.installing import Installer
from services.lifecycle.mesh.rendering import Rendering
from services.lifecycle.multicluster.roots import BUCKET as ROOTS
from services.lifecycle.multicluster.roots import Roots
from services.lifecycle.multicluster.steps import MultiCluster
from services.lifecycle.operations import offered, waiting
from services.lifecycle.queries import Answers
from services.lifecycle.releases.fetching import Releases
from services.lifecycle.releases.publishing import DefinitionsOnBus
from services.lifecycle.releases.unpacking import Bounds
from services.lifecycle.rollouts.conducting import Conductors
from services.lifecycle.rollouts.gates import Gates
from services.lifecycle.rollouts.records import BUCKET as ROLLOUTS
from services.lifecycle.rollouts.steps import Rollouts
from services.lifecycle.rollouts.store import Store
from services.lifecycle.settings import LifecycleSettings
from services.lifecycle.slots import Slots

HTTP_PORT = 9111

log = structlog.get_logger(__name__)


@asynccontextmanager
async def compose(chassis: Chassis[LifecycleSettings]) -> AsyncIterator[None]:
    """Builds the worker, advertises its operations, and consumes commands until the end."""
    settings, own, bus = chassis.settings, chassis.own, chassis.bus
    region = settings.region
    credentials = Bucket(bus, "credentials")
    opener = Opener(credentials)
    intents = Bucket(bus, "intents")
    leases = Leases(Bucket(bus, "leases"), settings.instance, settings.lease_ttl / 6)
    followings = Followings(
        Records(Bucket(bus, "following"), Followed), Bucket(bus, "clusters"), leases
    )
    authority = Authority(Checker.of(settings.signing_public_keys), intents, followings)
    distributions = Distributions(own.distributions, own.render_timeout)
    definitions = DefinitionsOnBus(Bucket(bus, BUCKET), own.distributions)

    advertised: list[str] | None = None

    async def used(version: str) -> None:
        await definitions.publish([version])
        await advertise()

    async def advertise() -> None:
        nonlocal advertised
        # What is offered is the same everywhere, and workers of no region say it.
        if not region and advertised != (offered_now := releases.offered()):
            await runner.advertise(versions=offered_now)
            advertised = offered_now

    releases = Releases(
        here=distributions.versions,
        folder=own.distributions,
        source=_source(own, settings.address_policy) if own.fetches else None,
        leases=leases,
        known=own.releases_known,
        most=own.releases_kept,
        bounds=Bounds(unpacked_bytes=own.release_unpacked_bytes, members=own.release_members),
        used=used,
    )
    registrations = Registrations(
        Records(Bucket(bus, "clusters"), ClusterRecord),
        Sealer(credentials),
        own.clusters_per_identity,
        own.register_clusters,
    )
    connections = Connections(
        opener=opener,
        registrations=registrations,
        metrics=chassis.metrics,
        idle=own.client_idle,
        first_contact=own.first_contact,
        allow_insecure=settings.insecure_kubeconfigs,
        policy=settings.address_policy,
        bounds=settings.answer_bounds,
    )
    slots = Slots(own.slots, min(own.slots_per_cluster, max(1, own.slots - 1)))
    installer = Installer(
        Rendering(distributions.render, own.hub, _kept(own)), releases, upgrade_report(bus)
    )
    operations = Bucket(bus, "ops")
    rollouts = Store(Bucket(bus, ROLLOUTS), Records(operations, OperationRecord))
    samples = Samples(own.distributions)
    requests = Records(operations, RequestRecord)
    rolling = waiting(
        Rollouts(
            store=rollouts,
            requests=requests,
            installer=installer,
            perf=asking(bus, "perf"),
            policy=chassis.askers.policy,
            enrolled=lambda: conductors.look(),
        ),
        MultiCluster(
            store=rollouts,
            requests=requests,
            installer=installer,
            samples=samples,
            roots=Roots(Bucket(bus, ROOTS)),
            enrolled=lambda: conductors.look(),
        ),
        Ambient(store=rollouts, requests=requests, enrolled=lambda: conductors.look()),
    )
    handlers = Handlers(
        connections=connections,
        slots=slots,
        leases=leases,
        operations=offered(
            installer=installer,
            applications=Applications(samples, releases),
        ),
        waiting=rolling,
        parallel_writes=own.parallel_writes,
        applied=intents,
        followings=followings,
    )
    runner = Runner(
        chassis,
        {**handlers.operations, **rolling},
        work=handlers.work,
        changes=changes,
        planned=handlers.planned,
        authorize=authority.judge,
        forget=forgetting(credentials),
    )
    conductors = Conductors(
        store=rollouts,
        leases=replace(leases, beats=True),
        claims=runner.claims,
        publisher=chassis.publisher,
        judge=Gates(asking(bus, "topology")).judge,
        fail=runner.fail,
        allowance=settings.lease_ttl * 0.9,
        now=lambda: datetime.now(timezone.utc),
    )
    letters = DeadLetters(chassis.publisher)
    worker = PullWorker(
        bus,
        "CMD",
        consumer(SERVICE, region),
        runner.handle,
        letters.bury_delivery,
        slots=max(own.in_hand, own.slots),
        waits_below=own.slots,
    )
    mover = PullWorker(
        bus,
        "ADV",
        "dlq-mover",
        Mover(letters, runner.fail_exhausted).handle,
        letters.bury_delivery,
        slots=1,
    )
    if not releases.offered():
        log.warning("no_distributions", folder=str(own.distributions))
    answers = Answers(
        connections,
        registrations,
        runner.claims,
        authority,
        credentials,
        releases,
        Retries(letters, runner.claims, SERVICE),
        handlers.applied,
        followings,
        rollouts,
    )
    await definitions.publish(releases.here())
    await advertise()
    try:
        async with (
            # What is about clusters of all regions is for workers of none.
            consuming(*([worker] if region else [worker, mover]), grace=settings.drain_grace),
            contextlib.nullcontext() if region else conductors.conducting(),
            answering(
                bus,
                service=SERVICE,
                description="Installs, upgrades and removes Istio; applies manifests",
                queries=answers.about_clusters() if region else answers.queries(),
                askers=chassis.askers,
                region=region,
            ),
        ):
            yield
    finally:
        await connections.close()


def _kept(own: LifecycleSettings) -> RenderedFolder | None:
    folder = own.rendered_folder
    return RenderedFolder(folder, own.distributions) if folder is not None else None


def _source(own: LifecycleSettings, policy: AddressPolicy) -> Archives:
    return Archives(
        base=own.releases,
        policy=policy,
        within=own.release_timeout,
        most_bytes=own.release_bytes,
    )


if __name__ == "__main__":
    run("lifecycle", LifecycleSettings, compose, http_port=HTTP_PORT)
