"""All checks in their order: what others need first, so that one cause is told once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from deploy.local.addresses import Addresses
from deploy.local.doctor import bus as buses
from deploy.local.doctor import surroundings
from deploy.local.doctor.checks import Check, fail
from deploy.local.doctor.clusters import clusters
from deploy.local.launching import Launch
from deploy.nats.keys import KeyFileError, read_key
from services.chassis.bus.connection import Bus
from services.chassis.settings import PREFIX, ChassisSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Which installation is looked at; empty fields are found in the launcher's folder."""

    folder: Path
    nats: str = ""
    nkey: Path | None = None
    gateway: str = ""
    prometheus: str = ""
    meshery: str = ""


async def examine(patient: Patient) -> list[Check]:
    """What is right and wrong with it."""
    if patient.nats:
        return await _elsewhere(patient)
    addresses = Addresses.read(patient.folder)
    if addresses is None:
        remedy = "`make up` starts it here; --nats URL --nkey FILE looks at another installation"
        return [fail("Meshbus", f"does not run from {patient.folder}", remedy)]
    launch = Launch.of(patient.folder, clusters=(), environment=os.environ)
    installation = launch.running_at(addresses)
    ring = installation.ring
    operator = installation.settings("operator")
    found = await _bus(operator)
    settings = {user: installation.settings(user) for user in ring.nkeys}
    config = patient.folder / "nats" / "nats.conf"
    is_fresh = config.is_file() and config.read_text() == installation.nats.config_text
    return [
        *found,
        *await buses.keys(settings, configuration=is_fresh),
        surroundings.gateway(addresses.gateway),
        *surroundings.generators(os.environ),
        surroundings.prometheus(_prometheus(patient)),
        surroundings.meshery(patient.meshery),
        surroundings.disk(patient.folder),
    ]


async def _elsewhere(patient: Patient) -> list[Check]:
    """An installation that is known by NATS' address and the operator's key alone."""
    if patient.nkey is None:
        return [fail("NATS", "no key was given", "--nkey FILE names the operator's seed file")]
    try:
        seed = read_key(patient.nkey).seed
    except (KeyFileError, OSError) as error:
        return [fail("NATS", str(error), "--nkey names the operator's seed file")]
    shared = ChassisSettings().model_copy(
        update={
            "nats_url": patient.nats,
            "nats_seed": SecretStr(seed),
            "instance": "doctor",
        }
    )
    checks = await _bus(shared)
    if patient.gateway:
        checks.append(surroundings.gateway(patient.gateway))
    checks += [
        surroundings.prometheus(_prometheus(patient)),
        surroundings.meshery(patient.meshery),
    ]
    return checks


async def _bus(settings: ChassisSettings) -> list[Check]:
    """What the operator sees on the bus; without NATS there is nothing to see."""
    bus = await buses.connected(settings, user="operator")
    if not isinstance(bus, Bus):
        return [fail("NATS", bus, "start it, or look at its log; see that the key is its own")]
    try:
        return [
            *await buses.server(bus),
            await buses.rights(bus),
            *await buses.stored(bus, settings),
            *await buses.services(bus),
            *await clusters(bus),
            await surroundings.releases(bus),
        ]
    finally:
        await bus.close()


def _prometheus(patient: Patient) -> str:
    return patient.prometheus or os.environ.get(f"{PREFIX}TOPOLOGY_PROMETHEUS", "")
