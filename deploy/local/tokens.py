"""The token that `make up` makes, so that whoever started it may act through the console.

It is kept beside the keys, in a folder that is its owner's alone, and its hash is what the gateway
gets. Where somebody has said how people prove who they are, nothing is made: then that holds.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path

from deploy.local.addresses import host_of
from deploy.local.probing import HOST
from deploy.nats.keys import write_private
from services.chassis.policy import RESERVED
from services.chassis.settings import PREFIX
from services.gateway.door import tokens

FILE = "console.token"
_GATEWAY = f"{PREFIX}GATEWAY_"
_WAYS = ("TOKENS", "JWT_ISSUER", "TLS_CLIENT_CA", "ANONYMOUS")


def settings(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Variables of the gateway for the token kept in `folder`, which is made where it is missing;
    none where the given ones say already who is let in."""
    if host_of(given) != HOST or any(f"{_GATEWAY}{way}" in given for way in _WAYS):
        return {}
    secret, hashes = folder / FILE, folder / "tokens.yaml"
    if not (secret.is_file() and hashes.is_file()):
        token = tokens.fresh()
        write_private(hashes, tokens.entry(_name(), [], token))
        write_private(secret, f"{token}\n")
    # Meshery brings no token: on this machine it is let in without one, as before.
    return {f"{_GATEWAY}TOKENS": str(hashes), f"{_GATEWAY}ANONYMOUS": "true"}


def _name() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return "console"
    return "console" if name in RESERVED else name
