"""The keys of an installation, in Secrets or a folder: what is there stays, the rest is made.

A key that was replaced would cut off whoever has the former one, and what was sealed to it would be
lost; so no upgrade ever renews one. docs/how-to/keys.md says how a person does.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from deploy.nats.config import ROUTE_PASSWORD, STORE_KEY, variable
from deploy.nats.keys import UserKey
from deploy.nats.permissions import USERS
from services.chassis import granting
from services.chassis.sealing import RECEIVERS, generate_keys

SEALING_PUBLIC = "sealing-public"
SIGNING = "signing"
SIGNING_PUBLIC = "signing-public"
_SECRET_BYTES = 32


def seed_entry(user: str) -> str:
    """The entry with a NATS user's seed."""
    return f"nkey-{user}"


def sealing_entry(service: str) -> str:
    """The entry with the key that opens what is sealed to a service."""
    return f"sealing-{service}"


def missing_keys(kept: Mapping[str, str]) -> dict[str, str]:
    """The entries that the services' Secret lacks."""
    made = {
        seed_entry(user.name): UserKey.fresh().seed
        for user in USERS
        if seed_entry(user.name) not in kept
    }
    pairs = {name: generate_keys() for name in RECEIVERS if sealing_entry(name) not in kept}
    if pairs:
        public = [part for part in kept.get(SEALING_PUBLIC, "").split(",") if part]
        # A receiver that a new version brings joins the list; the others' keys stay in it.
        public += [f"{name}={pair[0]}" for name, pair in pairs.items()]
        made |= {sealing_entry(name): pair[1] for name, pair in pairs.items()}
        made[SEALING_PUBLIC] = ",".join(public)
    if SIGNING not in kept:
        made[SIGNING_PUBLIC], made[SIGNING] = granting.generate_signing_keys()
    return made


def missing_server_entries(kept: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    """The entries that the NATS server's Secret lacks or has of another key; no seed is in it."""
    wanted = {variable(user.name): UserKey.of(keys[seed_entry(user.name)]).public for user in USERS}
    for name in (STORE_KEY, ROUTE_PASSWORD):
        # The name in front keeps a server from reading the text as a number.
        wanted[name] = kept.get(name) or f"key-{secrets.token_urlsafe(_SECRET_BYTES)}"
    return {name: value for name, value in wanted.items() if kept.get(name) != value}


def environment_of(service: str, keys: Mapping[str, str]) -> dict[str, str]:
    """The variables with which a service, or the user admin, gets its keys and nobody else's."""
    variables = {
        "MESHBUS_NATS_SEED": keys[seed_entry(service)],
        "MESHBUS_SEALING_PUBLIC_KEYS": keys[SEALING_PUBLIC],
    }
    if service in RECEIVERS:
        variables["MESHBUS_SEALING_PRIVATE_KEY"] = keys[sealing_entry(service)]
    if service == "gateway":
        variables["MESHBUS_SIGNING_KEY"] = keys[SIGNING]
    if service == "lifecycle":
        variables["MESHBUS_SIGNING_PUBLIC_KEYS"] = keys[SIGNING_PUBLIC]
    return variables
