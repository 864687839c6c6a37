"""Bearer tokens that a file lists by their hashes: for clients that no issuer knows.

A token is 256 random bits, so its plain SHA-256 tells nothing about it and needs no slow hash.
`python -m services.gateway.door NAME [GROUP…]` makes one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from services.chassis.policy import Identity
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml

_PREFIX = "meshbus_"
_HASH = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Identities by the SHA-256 of their tokens; several tokens of one identity let it rotate."""

    by_hash: Mapping[str, Identity]

    def identity(self, token: str) -> Identity | None:
        """A lookup by hash needs no comparison in constant time: nobody chooses a hash by bits."""
        return self.by_hash.get(digest(token))


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def fresh() -> str:
    """A token that nobody has."""
    return _PREFIX + secrets.token_urlsafe(32)


def entry(name: str, groups: Sequence[str], token: str) -> str:
    """The lines of the file for this token."""
    return yaml.safe_dump(
        [{"identity": name, "groups": list(groups), "sha256": digest(token)}], sort_keys=False
    )


def read_tokens(text: bytes) -> Tokens:
    """The file: a list of `{identity, groups, sha256}`; raises `ValueError` that says where."""
    try:
        document = read_yaml(text.decode(), budget=Budget.trusted())
    except ValueError:
        raise ValueError("the file is no YAML") from None
    if not isinstance(document, list):
        raise ValueError("the file is not a list of tokens")
    found: dict[str, Identity] = {}
    for number, one in enumerate(document):
        match one:
            case {"identity": str(name), "sha256": str(hashed), **rest} if _HASH.match(hashed):
                groups = rest.pop("groups", [])
            case _:
                raise ValueError(f"entry {number} needs an identity and a sha256 of 64 hex digits")
        if rest or not isinstance(groups, list) or not all(isinstance(g, str) for g in groups):
            raise ValueError(f"entry {number} may have groups, a list of names, and nothing more")
        found[hashed] = Identity(name, frozenset(groups))
    return Tokens(found)
