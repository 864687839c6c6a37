"""Every key is changed while operations run, and none of them is lost or fails."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from nats.errors import Error as NatsError
from nats.errors import NoServersError
from pydantic import SecretStr

from services.chassis.bus.connection import connect
from services.chassis.bus.credentials import Opener
from services.chassis.bus.records import Bucket
from services.chassis.bus.subjects import registered_credential, watching_credential
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus

pytestmark = pytest.mark.services("lifecycle", "translator", "gateway")

RECEIVERS = ("lifecycle", "translator")
CHANGED = (*RECEIVERS, "topology")
"""Whose sealing keys are changed; topology does not run, and is sealed to all the same."""
ALL = ("lifecycle", "translator", "gateway")


async def _operating(client: Meshery, until: asyncio.Event) -> int:
    """One operation after the other; returns their number."""
    for number in itertools.count(1):
        operation = await client.accepted("custom", body=config_map("turning"))
        (final,) = await client.finals(operation, within_s=90.0)
        assert not final.failed, final.event
        if until.is_set():
            return number
    raise AssertionError


async def _replace(stack: Stack, *services: str) -> None:
    for service in services:
        await asyncio.to_thread(stack.replace, service)


async def test_keys_are_changed_while_operations_run(
    frail: Stack, client: Meshery, cluster: Cluster
) -> None:
    over = asyncio.Event()
    running = [asyncio.create_task(_operating(client, over)) for _ in range(2)]

    for service in CHANGED:
        frail.household.prepare(service)
    await asyncio.to_thread(frail.renew_nkeys, *ALL)
    await _replace(frail, *RECEIVERS)  # they open what is sealed to either key
    for service in CHANGED:
        frail.household.publish(service)
    await _replace(frail, *ALL)  # everybody seals to the new ones
    for service in CHANGED:
        frail.household.forget(service)
    former = await asyncio.to_thread(frail.forget_nkeys)
    await _replace(frail, *RECEIVERS)  # and nothing opens with the old ones

    over.set()
    counts = await asyncio.gather(*running)
    assert min(counts) >= 3, counts
    for user, seed in former.items():
        settings = frail.settings(user).model_copy(update={"nats_seed": SecretStr(seed)})
        with pytest.raises((TimeoutError, NatsError, NoServersError)):
            async with asyncio.timeout(2):
                await connect(settings, service=user)
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    async with admin_bus(frail) as bus:
        bus.keys = frail.keys
        opener = Opener(Bucket(bus, "credentials"))
        for key in (registered_credential(token), watching_credential(token)):
            assert await opener.get(key), "what is kept was not sealed anew"
    cluster.kubectl("delete", "cm", "turning", "--ignore-not-found")
