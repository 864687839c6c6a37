"""`python -m services.topology`: the composition root of the topology worker."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from services.chassis.bus import subjects
from services.chassis.bus.credentials import Opener
from services.chassis.bus.leases import Leases
from services.chassis.bus.pulling import finished
from services.chassis.bus.queries import answering, ask
from services.chassis.bus.records import Bucket, Records
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.labelling import region_of
from services.chassis.kube.resources import Resources
from services.chassis.messages import ClusterRecord
from services.chassis.prometheus import PrometheusApi
from services.chassis.regions import Regions
from services.chassis.service import Chassis, run
from services.chassis.telemetry import redaction
from services.topology.adapters.applied import ClusterApplied
from services.topology.adapters.console.issuers import Issuer
from services.topology.adapters.console.pages import Pages
from services.topology.adapters.console.questions import Questions
from services.topology.adapters.console.sessions import POSTS, Sessions
from services.topology.adapters.console.stores import Stores
from services.topology.adapters.console.told import TOPIC, Told
from services.topology.adapters.envoys import EnvoyAdmins, PodProxies
from services.topology.adapters.feeds import Feed, change_times, past_view
from services.topology.adapters.followed import ClusterFollowed
from services.topology.adapters.forwarding import Forwarding
from services.topology.adapters.histories import Histories
from services.topology.adapters.istiods import ClusterProxies
from services.topology.adapters.owners import Owners
from services.topology.adapters.replicas import Replicas
from services.topology.adapters.services import ServicePrometheus
from services.topology.adapters.watches import ClusterWatch
from services.topology.analysis.engine import Analysis
from services.topology.analysis.rules import RULES
from services.topology.cluster.objects import Change
from services.topology.cluster.state import State
from services.topology.drift.following import Followings
from services.topology.drift.intents import is_of
from services.topology.drift.watching import Drifts
from services.topology.feed.deltas import DRIFT_PART, SERVICE
from services.topology.feed.followers import Numbered
from services.topology.feed.neighbours import Neighbours
from services.topology.feed.views import Views
from services.topology.graph.graph import Graph
from services.topology.handlers import (
    Handlers,
    Owned,
    OwnerHandlers,
    compliance_of,
    queries,
)
from services.topology.mesh.meshes import istio_name
from services.topology.observing import Observer
from services.topology.proxies.surveys import Survey
from services.topology.recording import Recording
from services.topology.renewing import Renewal
from services.topology.settings import TopologySettings
from services.topology.surveying import Surveying
from services.topology.telemetry.discovering import Discovered
from services.topology.telemetry.envoy import EnvoyTelemetry
from services.topology.telemetry.identities import proxied_pods, waypoints_of
from services.topology.telemetry.places import Registered, concerns, places_of
from services.topology.telemetry.prometheus import PrometheusTelemetry
from services.topology.telemetry.selecting import Selected
from services.topology.telemetry.traffic import Telemetry

HTTP_PORT = 9114
# Every watch holds a connection: the kinds of a mesh, and those of what was applied.
_CONNECTIONS = 96
_ASK_WITHIN = timedelta(seconds=10)
_MOST_ANSWER_BYTES = 128 * 1024 * 1024


@asynccontextmanager
async def compose(chassis: Chassis[TopologySettings]) -> AsyncIterator[None]:
    """Builds the worker, watches and answers until the context is left."""
    settings, own, bus = chassis.settings, chassis.own, chassis.bus
    if own.prometheus.get_secret_value():
        # A wrong address ends the start, and not each cluster's watching.
        PrometheusApi(own.prometheus.get_secret_value())
    opener = Opener(Bucket(bus, "credentials"))
    views = Views()
    owner_handlers = OwnerHandlers(team_label=own.team_label)
    forwarding = Forwarding(bus=bus, handlers=owner_handlers)
    handlers = Handlers(
        views=views,
        ask=forwarding.ask,
        past=partial(past_view, bus),
        moments=partial(change_times, bus),
        kept=Histories(bus, chassis.publisher),
        policy=chassis.policy,
        window_s=int(own.telemetry_window.total_seconds()),
    )
    neighbours = Neighbours(views)
    observing = _ClusterObservation(
        chassis=chassis, opener=opener, owned=owner_handlers.owned, neighbours=neighbours
    )
    leases = Leases(Bucket(bus, "leases"), settings.instance, settings.lease_ttl / 6, beats=True)
    owners = Owners(
        bus=bus,
        views=views,
        leases=leases,
        replicas=Replicas(bus=bus, leases=leases, ttl=settings.lease_ttl, most=own.most_clusters),
        clusters=Records(Bucket(bus, "clusters"), ClusterRecord),
        observe=observing.observe,
        fingerprint=observing.fingerprint,
        ask=forwarding.ask,
        handing_over=owner_handlers.handing_over,
        allowance=settings.lease_ttl,
        calm=settings.lease_ttl / 2,
        leave_within=settings.drain_grace * 0.75,
        most=own.most_clusters,
        metrics=chassis.metrics,
    )
    operations = Numbered(TOPIC)
    pages = Pages(
        handlers=handlers,
        questions=Questions(
            lambda service, verb, question: ask(
                bus, question, service=service, verb=verb, within=_ASK_WITHIN
            ),
            {"bus.state": Stores(bus).told, "topology.versions": partial(handlers.versions, {})},
        ),
        sessions=_sessions(chassis),
        operations=operations,
        traces_url=own.traces_url,
        folder=Path(str(resources.files("services.topology") / "page" / "built")),
        most_streams=own.most_streams,
    )
    pages.start()
    forget_neighbours = neighbours.start()
    tending = asyncio.create_task(owners.run(), name="owners")
    telling = asyncio.create_task(Told(bus, operations).run(), name="operations-told")

    async def tends() -> str:
        return "the clusters are not tended any more" if tending.done() else ""

    chassis.health.checks["clusters"] = tends
    chassis.health.pages = pages.answer
    chassis.health.posts = POSTS
    # To the end, since other replicas ask for the clusters of one that stops.
    async with forwarding.answering():
        try:
            async with answering(
                bus,
                service=SERVICE,
                description=(
                    "The live graph of every registered cluster, its drift and its findings"
                ),
                queries=queries(handlers),
                askers=chassis.askers,
            ):
                yield
        finally:
            pages.close()
            forget_neighbours()
            tending.cancel()
            telling.cancel()
            await finished([tending, telling], within=settings.drain_grace)


def _sessions(chassis: Chassis[TopologySettings]) -> Sessions:
    own, bus = chassis.own, chassis.bus

    async def carry(verb: str, question: dict[str, Any], authorization: str) -> Any:
        return await ask(
            bus,
            question,
            service="gateway",
            verb=verb,
            within=_ASK_WITHIN,
            authorization=authorization,
        )

    issuer = Issuer(
        name=own.oidc_issuer,
        client_id=own.oidc_client_id,
        client_secret=own.oidc_client_secret.get_secret_value(),
        scopes=own.oidc_scopes,
        console_url=own.console_url,
        policy=chassis.settings.address_policy,
    )
    return Sessions(
        carry=carry,
        console_url=own.console_url,
        issuer=issuer if own.oidc_issuer else None,
    )


@dataclass(slots=True, kw_only=True)
class _ClusterObservation:
    """Builds the watches, the graph, the analysis and the drift of one cluster, and runs them."""

    chassis: Chassis[TopologySettings]
    opener: Opener
    owned: dict[str, Owned]
    neighbours: Neighbours

    async def fingerprint(self, cluster: str) -> str:
        return hashlib.sha256((await self._kubeconfig(cluster)).encode()).hexdigest()

    async def observe(self, record: ClusterRecord, feed: Feed) -> None:
        """Watches a cluster and publishes its feed, until it is cancelled."""
        settings, metrics = self.chassis.settings, self.chassis.metrics
        config = parse_kubeconfig(
            await self._kubeconfig(record.cluster), allow_insecure=settings.insecure_kubeconfigs
        )
        redaction.register(config.secrets)
        try:
            async with KubeClient(
                config,
                counted=metrics,
                connections=_CONNECTIONS,
                policy=settings.address_policy,
                bounds=settings.answer_bounds,
                is_read_only=True,
            ) as client:
                await self._watched(record, feed, client)
        finally:
            redaction.forget(config.secrets)
            self.owned.pop(record.cluster, None)

    async def _watched(self, record: ClusterRecord, feed: Feed, client: KubeClient) -> None:
        bus, own = self.chassis.bus, self.chassis.own
        state = State(record.cluster, record.name)
        observer = Observer(
            state=state,
            graph=Graph(state),
            analysis=Analysis(state, RULES),
            metrics=self.chassis.metrics,
        )
        found = Resources(client)
        region = partial(Regions(bus).serving, "lifecycle", region_of(record.labels))
        applied = ClusterApplied(
            cluster=record.cluster,
            name=record.name,
            bus=bus,
            client=client,
            resources=found,
            publisher=self.chassis.publisher,
            region=region,
        )
        drifts = Drifts(
            applied=applied,
            publish=observer.drifted,
            mode=own.drift,
            heal_attempts=own.heal_attempts,
        )
        followed = ClusterFollowed(
            cluster=record.cluster,
            bus=bus,
            resources=found,
            publisher=self.chassis.publisher,
            region=region,
        )
        followings = Followings(
            state=state,
            sources=followed,
            metrics=self.chassis.metrics,
            settle_s=own.follow_settle.total_seconds(),
            attempts=own.follow_attempts,
        )
        registered = self._registered(client)
        soon = asyncio.Event()

        def changed(changes: list[Change]) -> None:
            followings.changed(changes)
            if concerns(changes, state, registered):
                soon.set()

        observer.on_change = changed
        survey = Survey(state, clock=time.monotonic, now=_now)
        surveying = Surveying(
            survey=survey,
            source=ClusterProxies(client),
            observer=observer,
            every=own.proxies_every,
        )
        recording = Recording(
            cluster=record.cluster,
            report=partial(compliance_of, observer, own.team_label),
            histories=Histories(bus, self.chassis.publisher),
            every=own.compliance_every,
            now=_now,
        )
        watch = ClusterWatch(
            client=client,
            resources=found,
            observer=observer,
            drifts=drifts,
            on_definitions=followings.redefined,
        )
        feed.watches = watch

        async def follow_intents() -> None:
            await observer.begun.wait()
            drifts.adopt(feed.view.decoded(DRIFT_PART))
            async for intent in applied.followed():
                # A cluster that was built anew behind the same address has nothing of the old one.
                if intent.applied is None or is_of(intent.applied, state):
                    drifts.intended(intent.key, intent.applied)

        async def follow_translations() -> None:
            await observer.begun.wait()
            async for kept in followed.changes():
                if kept.record is not None:
                    followings.kept(kept.record, kept.revision)
                else:
                    followings.ended(kept.source)

        async def keep_compliance() -> None:
            await observer.begun.wait()
            await recording.run()

        async def translate_again() -> None:
            await observer.begun.wait()
            await followings.run()

        async def survey_proxies() -> None:
            await watch.first_lists()
            await surveying.run()

        async with AsyncExitStack() as stack:
            stack.callback(self.neighbours.listen(record.cluster, observer.neighbours))
            telemetry = self._telemetry(stack, client, state, registered)
            renewal = Renewal(
                telemetry=telemetry,
                observer=observer,
                every=own.telemetry_every,
                window=own.telemetry_window,
                now=_now,
                soon=soon,
            )

            async def renew() -> None:
                await watch.first_lists()
                await renewal.run()

            async def publish() -> None:
                await (watch.all_lists() if feed.is_beside else watch.first_lists())
                self.owned[record.cluster] = Owned(observer, drifts, telemetry, survey)
                await observer.run(feed)

            await _together(
                [
                    watch.run(),
                    follow_intents(),
                    drifts.run(),
                    follow_translations(),
                    translate_again(),
                    publish(),
                    renew(),
                    survey_proxies(),
                    keep_compliance(),
                ]
            )

    def _registered(self, client: KubeClient) -> Registered:
        """What the kubeconfig says of the cluster's Prometheus, as far as it may."""
        registered = Registered.of(client.config.extensions)
        if registered.url and not self.chassis.own.prometheus_from_clusters:
            return Registered(
                problem="the address named at the registration is not asked, unless "
                "MESHBUS_TOPOLOGY_PROMETHEUS_FROM_CLUSTERS allows it"
            )
        return registered

    def _telemetry(
        self, stack: AsyncExitStack, client: KubeClient, state: State, registered: Registered
    ) -> Telemetry:
        """A registration goes before the setting, and both before what is found."""
        own = self.chassis.own
        url = registered.url or own.prometheus.get_secret_value()
        is_waypoint = waypoints_of(state)
        if url and registered.service is None:
            api = PrometheusApi(
                url,
                timeout=own.prometheus_timeout,
                most_bytes=_MOST_ANSWER_BYTES,
                is_kept=True,
                policy=self.chassis.settings.address_policy,
                ratio=self.chassis.settings.answer_ratio,
            )
            stack.push_async_callback(api.close)
            labels = registered.labels or own.labels_of(name=state.name, token=state.cluster)
            said_by = "named at the registration" if registered.url else "configured"
            return PrometheusTelemetry(
                Selected(api, labels),
                name=f"Prometheus ({said_by})",
                tried=(registered.problem,) if registered.problem else (),
                is_shared=not labels,
                is_waypoint=is_waypoint,
            )
        admins = EnvoyAdmins(own.envoy_urls, policy=self.chassis.settings.address_policy)
        stack.push_async_callback(admins.close)
        pods = PodProxies(client, lambda: proxied_pods(state, cluster=istio_name(state)))
        return Discovered(
            places=lambda: places_of(state, registered),
            reach=lambda place: ServicePrometheus(client, place.proxy_path, own.prometheus_timeout),
            otherwise=EnvoyTelemetry(admins, pods, is_waypoint=is_waypoint),
            is_waypoint=is_waypoint,
        )

    async def _kubeconfig(self, cluster: str) -> str:
        return await self.opener.get(subjects.watching_credential(cluster))


def _now() -> datetime:
    return datetime.now(timezone.utc)


async def _together(parts: Sequence[Any]) -> None:
    """Runs until one of them fails, and ends the others with it."""
    tasks = [asyncio.create_task(part, name=part.__qualname__) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    run(SERVICE, TopologySettings, compose, http_port=HTTP_PORT)
