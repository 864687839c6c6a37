"""NATS, its clock, its streams, who takes work, and what each key may do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from nats.errors import Error as NatsError

from deploy.local.doctor.checks import Check, fail, ok, warn
from deploy.nats.permissions import OPERATOR
from services.chassis.bus import streams
from services.chassis.bus.connection import Bus, connect
from services.chassis.errors import MeshbusError
from services.chassis.settings import ChassisSettings

_OLDEST = (2, 11)
_CONNECT_S = 5.0
_ANSWERS_S = 1.5
_SKEW_S = 5.0
"""Grants and deadlines are compared between machines; half a minute would be half an ack wait."""
_WORKERS = ("lifecycle", "translator", "perf", "topology", "gateway")
_RENEW = "python -m deploy.nats make FOLDER, and restart the server (docs/how-to/upgrade.md)"


async def connected(settings: ChassisSettings, *, user: str) -> Bus | str:
    """A connection as `user`, or why there is none."""
    try:
        async with asyncio.timeout(_CONNECT_S):
            return await connect(settings, service=user)
    except TimeoutError:
        return f"{settings.nats_url} did not answer within {_CONNECT_S:g} s"
    except (MeshbusError, NatsError, OSError) as error:
        return str(error) or type(error).__name__


async def server(bus: Bus) -> list[Check]:
    """Its version and its clock."""
    version = bus.client.connected_server_version
    number = f"{version.major}.{version.minor}.{version.patch}"
    told = f"{bus.client.connected_url.netloc if bus.client.connected_url else '?'}, {number}"
    checks = [ok("NATS", told)]
    if (version.major, version.minor) < _OLDEST:
        checks = [fail("NATS", f"{told} is too old", "run nats-server 2.11 or newer")]
    info = await _asked(bus, "STREAM.INFO.EVT")
    stamp = str(info.get("ts", ""))
    if stamp:
        # Nanoseconds are more than Python reads.
        there = datetime.fromisoformat(stamp.partition(".")[0].rstrip("Z") + "+00:00")
        skew = abs((there - datetime.now(timezone.utc)).total_seconds())
        checks.append(clock("NATS' clock", skew))
    return checks


def clock(name: str, skew_s: float) -> Check:
    """Whether a clock goes with this machine's."""
    if skew_s > _SKEW_S:
        return fail(
            name,
            f"differs by {skew_s:.0f} s from this machine's",
            "let both follow the same time servers: deadlines and tokens are compared by them",
        )
    return ok(name, f"within {_SKEW_S:g} s of this machine's")


async def stored(bus: Bus, settings: ChassisSettings) -> list[Check]:
    """Streams, buckets, waiting commands and dead letters."""
    try:
        await streams.verify(bus.client, lease_ttl=settings.lease_ttl)
    except MeshbusError as error:
        remedy = "python -m services.chassis.bus apply, with admin's NKey"
        return [fail("streams", error.summary, remedy)]
    wanted = [stream.name for stream in streams.streams(lease_ttl=settings.lease_ttl)]
    checks = [ok("streams", f"all {len(wanted)} streams and buckets are there")]
    waiting = (await _asked(bus, "STREAM.INFO.CMD")).get("state", {}).get("messages", 0)
    checks.append(ok("commands", f"{waiting} waiting or running"))
    dead = (await _asked(bus, "STREAM.INFO.DLQ")).get("state", {}).get("messages", 0)
    if dead:
        remedy = "nats stream get DLQ NUMBER says why; mend it, then nats req mesh.lifecycle.retry"
        checks.append(warn("dead letters", f"{dead} commands were given up", remedy))
    else:
        checks.append(ok("dead letters", "none"))
    account = await _asked(bus, "INFO")
    used, limit = account.get("storage", 0), account.get("limits", {}).get("max_storage", -1)
    if limit > 0 and used > 0.9 * limit:
        remedy = "raise the account's max_storage, or make room: a full store takes no command"
        checks.append(fail("store", f"{used} of {limit} bytes are used", remedy))
    return checks


async def services(bus: Bus) -> list[Check]:
    """Which services answer, and how many of each."""
    found: dict[str, list[str]] = {}
    answers = await _all_answers(bus, "$SRV.PING")
    for answer in answers:
        name = str(answer.get("name", "")).removeprefix("mesh-")
        found.setdefault(name, []).append(str(answer.get("version", "")))
    checks = []
    for service in _WORKERS:
        versions = found.get(service, [])
        if versions:
            told = f"{len(versions)} running, version {', '.join(sorted(set(versions)))}"
            checks.append(ok(service, told))
        else:
            remedy = f"start python -m services.{service}; its log says why it ended"
            checks.append(fail(service, "none answers", remedy))
    return [*checks, *one_version(found)]


def one_version(found: Mapping[str, Sequence[str]]) -> list[Check]:
    """A warning where services of several versions answer: an upgrade that nobody has finished."""
    versions = sorted({version for one in _WORKERS for version in found.get(one, [])})
    if len(versions) < 2:
        return []
    told = f"{' and '.join(versions)} run beside each other"
    return [warn("versions", told, "go on with the upgrade, or back: docs/how-to/upgrade.md")]


async def rights(bus: Bus) -> Check:
    """Whether the server gives the operator what its code needs."""
    try:
        reply = await bus.client.request("$SYS.REQ.USER.INFO", b"", _CONNECT_S)
        permissions = json.loads(reply.data)["data"].get("permissions") or {}
    except (NatsError, TimeoutError, KeyError, ValueError):
        remedy = f"give the user of this key the rights of operator: {_RENEW}"
        return warn("key operator", "may not ask about its own rights", remedy)
    allowed = set((permissions.get("publish") or {}).get("allow") or [">"])
    lacking = sorted({right.subject for right in OPERATOR.publish} - allowed)
    if lacking and ">" not in allowed:
        told = f"may not publish {', '.join(lacking[:3])} and {len(lacking)} in all"
        return fail("key operator", told, f"the server has an older configuration: {_RENEW}")
    return ok("key operator", f"may publish its {len(OPERATOR.publish)} subjects")


async def keys(settings: Mapping[str, ChassisSettings], *, configuration: bool) -> list[Check]:
    """Whether the server knows each key, and whether its rights are those of this version."""

    async def refused(user: str) -> str:
        bus = await connected(settings[user], user=user)
        if isinstance(bus, Bus):
            await bus.close()
            return ""
        return bus

    users = sorted(settings)
    reasons = await asyncio.gather(*map(refused, users))
    checks = [
        fail(f"key {user}", f"NATS does not take it: {reason}", _RENEW)
        for user, reason in zip(users, reasons, strict=True)
        if reason
    ]
    if not checks:
        checks.append(ok("keys", f"NATS takes all {len(users)}"))
    if not configuration:
        remedy = "end Meshbus and start it again: `make up` writes the rights of this version"
        checks.append(fail("rights of the keys", "not those of this version", remedy))
    return checks


async def _asked(bus: Bus, subject: str) -> dict[str, Any]:
    """JetStream's answer; nothing where it gives none."""
    try:
        return await streams.call_api(bus.client, subject, {})
    except MeshbusError:
        return {}


async def _all_answers(bus: Bus, subject: str) -> Sequence[dict[str, Any]]:
    """What several answer to one question within a moment."""
    inbox = bus.client.new_inbox()
    subscription = await bus.client.subscribe(inbox)
    await bus.client.publish(subject, b"", reply=inbox)
    found = []
    try:
        async with asyncio.timeout(_ANSWERS_S):
            async for message in subscription.messages:
                if message.data:
                    found.append(json.loads(message.data))
    except TimeoutError:
        pass
    await subscription.unsubscribe()
    return found
