"""Topology watches by an account of its own, and holds nothing that could change a cluster."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from services.chassis.bus.connection import Bus
from services.chassis.bus.credentials import Opener
from services.chassis.bus.intents import prefix_of
from services.chassis.bus.queries import ask
from services.chassis.bus.records import Bucket, Entry
from services.chassis.bus.subjects import registered_credential, watching_credential
from services.chassis.errors import CredentialMissing
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.faults.test_registration import registered
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.seeing import WITHIN, seeing
from tests.testbed.stack import ROOT, Stack
from tests.testbed.stored import admin_bus
from tests.testbed.waiting import eventually

pytestmark = pytest.mark.services("lifecycle", "translator", "topology", "gateway")


def watch_by(stack: Stack, cluster: str, kubeconfig: str) -> str:
    """By the command that Meshbus ships."""
    settings = stack.settings("admin")
    assert settings.nats_seed is not None
    done = subprocess.run(
        [sys.executable, "-m", "services.chassis.bus", "watch-by", cluster],
        cwd=ROOT,
        env={
            "MESHBUS_NATS_URL": stack.nats.url,
            "MESHBUS_NATS_SEED": settings.nats_seed.get_secret_value(),
            **stack.household.environment("admin"),
        },
        input=kubeconfig,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


async def intents(bus: Bus, cluster: str) -> list[Entry]:
    bucket = Bucket(bus, "intents")
    found = [await bucket.get(key) for key in await bucket.keys(matching=f"{prefix_of(cluster)}.>")]
    return [entry for entry in found if entry is not None]


async def test_topology_holds_what_it_was_given_alone(frail: Stack, cluster: Cluster) -> None:
    writing = cluster.kubeconfig_text
    token = parse_kubeconfig(writing).cluster
    reading = cluster.token_kubeconfig_text(account="meshbus-watch")
    async with (
        Meshery(frail.gateway_address, [writing]).connected() as meshery,
        admin_bus(frail) as bus,
        seeing(frail) as seen,
    ):
        assert "is not registered" in await asyncio.to_thread(watch_by, frail, token, reading)
        await meshery.run("custom", body=config_map("watched"))
        await seen.watched(token)
        assert "by this kubeconfig alone" in await asyncio.to_thread(
            watch_by, frail, token, reading
        )
        before = await registered(bus, token)

        # The account that writes is renewed, and topology keeps its own.
        renewed = cluster.token_kubeconfig_text()
        await meshery.run("custom", body=config_map("watched"), kubeconfigs=[renewed])

        async def is_renewed() -> bool:
            now = await registered(bus, token)
            return now is not None and before is not None and now.credential != before.credential

        await eventually(is_renewed, what="the renewed credential to be registered")
        bus.keys = frail.household.keys("topology")
        stolen = Opener(Bucket(bus, "credentials"))
        assert await stolen.get(watching_credential(token)) == reading
        with pytest.raises(CredentialMissing):
            await stolen.get(registered_credential(token))
        await seen.watched(token)

        assert await intents(bus, token)
        await ask(bus, {"cluster": token}, service="gateway", verb="deregister", within=WITHIN)
        assert await intents(bus, token) == [], "nobody works on it any more"
    cluster.kubectl("delete", "cm", "watched", "--ignore-not-found")
