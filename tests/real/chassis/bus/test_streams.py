"""Streams, buckets and consumers are data; applying them again changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.bus import streams
from services.chassis.bus.connection import Bus
from services.chassis.bus.streams import WORKER_FILTERS, Region, call_api
from services.chassis.errors import StreamRefused, StreamsMissing
from services.chassis.regions import Regions

_ACK_WAIT = timedelta(seconds=1)
_LEASE_TTL = timedelta(seconds=1)


async def _reconcile(
    bus: Bus,
    *,
    ack_wait: timedelta = _ACK_WAIT,
    lease_ttl: timedelta = _LEASE_TTL,
    regions: Sequence[Region] = (),
) -> list[str]:
    return await streams.reconcile(
        bus.client, ack_wait=ack_wait, lease_ttl=lease_ttl, regions=regions
    )


async def _config(bus: Bus, stream: str) -> dict[str, Any]:
    answer = await call_api(bus.client, f"STREAM.INFO.{stream}", {})
    return dict(answer["config"])


async def test_second_apply_changes_nothing(own_bus: Bus) -> None:
    before = [await _config(own_bus, s.name) for s in streams.streams(lease_ttl=_LEASE_TTL)]

    touched = await _reconcile(own_bus)

    assert touched == []
    after = [await _config(own_bus, s.name) for s in streams.streams(lease_ttl=_LEASE_TTL)]
    assert after == before


async def test_changed_setting_is_updated(own_bus: Bus) -> None:
    touched = await _reconcile(own_bus, lease_ttl=_LEASE_TTL * 2)

    assert touched == ["KV_leases"]
    assert (await _config(own_bus, "KV_leases"))["max_age"] == 2_000_000_000


async def test_changed_ack_wait_reaches_the_workers_consumers(own_bus: Bus) -> None:
    touched = await _reconcile(own_bus, ack_wait=_ACK_WAIT * 3)

    assert touched == [f"CMD/{name}" for name in WORKER_FILTERS]
    for service in WORKER_FILTERS:
        answer = await call_api(own_bus.client, f"CONSUMER.INFO.CMD.{service}", {})
        assert answer["config"]["ack_wait"] == 3_000_000_000


async def test_limit_that_is_no_longer_wanted_is_lifted(own_bus: Bus) -> None:
    config = await _config(own_bus, "KV_intents")
    await call_api(own_bus.client, "STREAM.UPDATE.KV_intents", {**config, "max_age": 10**12})

    touched = await _reconcile(own_bus)

    assert touched == ["KV_intents"]
    assert (await _config(own_bus, "KV_intents")).get("max_age", 0) == 0


async def test_messages_survive_an_update(own_bus: Bus) -> None:
    await own_bus.client.jetstream().publish("evt.perf.none.kept", b"{}")

    await _reconcile(own_bus, lease_ttl=_LEASE_TTL * 2)

    stored = await own_bus.client.jetstream().get_last_msg("EVT", "evt.perf.none.kept")
    assert stored.data == b"{}"


async def test_verify_names_what_is_missing(own_bus: Bus) -> None:
    await streams.verify(own_bus.client, lease_ttl=_LEASE_TTL)
    await call_api(own_bus.client, "STREAM.DELETE.DLQ", {})
    await call_api(own_bus.client, "STREAM.DELETE.KV_catalog", {})

    with pytest.raises(StreamsMissing, match=r"DLQ, KV_catalog"):
        await streams.verify(own_bus.client, lease_ttl=_LEASE_TTL)

    assert await _reconcile(own_bus) == ["DLQ", "KV_catalog"]
    await streams.verify(own_bus.client, lease_ttl=_LEASE_TTL)


async def test_refusal_of_the_server_is_told(own_bus: Bus) -> None:
    with pytest.raises(StreamRefused, match=r"NATS refuses CMD: .*replicas"):
        await streams.reconcile(
            own_bus.client, ack_wait=_ACK_WAIT, lease_ttl=_LEASE_TTL, replicas=3
        )


async def test_a_region_is_there_as_long_as_the_job_is_told_of_it(own_bus: Bus) -> None:
    east, west = Region("east"), Region("eu-west-1", ("perf",))
    made = ["lifecycle_at_east", "perf_at_east", "perf-shards_at_east"]
    also = ["perf_at_eu-west-1", "perf-shards_at_eu-west-1"]
    assert await _reconcile(own_bus, regions=[east, west]) == [f"CMD/{n}" for n in made + also]
    assert await _reconcile(own_bus, regions=[east, west]) == []
    regions = Regions(own_bus)
    assert await regions.serving("lifecycle", "east") == "east"
    assert await regions.serving("perf", "eu-west-1") == "eu-west-1"
    # The default workers have what no region has, and the translator has no regions.
    assert await regions.serving("lifecycle", "eu-west-1") == ""
    assert await regions.serving("translator", "east") == ""
    assert await regions.serving("lifecycle", "") == ""

    gone = await _reconcile(own_bus, regions=[west])

    assert sorted(gone) == sorted(f"CMD/{name}: deleted" for name in made)
    assert await Regions(own_bus).serving("lifecycle", "east") == ""
    assert await _reconcile(own_bus, regions=[west]) == []


async def test_a_worker_of_a_region_that_is_not_there_says_so(own_bus: Bus) -> None:
    await _reconcile(own_bus, regions=[Region("east", ("lifecycle",))])
    await streams.verify(own_bus.client, lease_ttl=_LEASE_TTL, service="lifecycle", region="east")
    for service, region in (("lifecycle", "west"), ("perf", "east")):
        with pytest.raises(StreamsMissing, match=f"no {service} workers of the region {region}"):
            await streams.verify(
                own_bus.client, lease_ttl=_LEASE_TTL, service=service, region=region
            )
