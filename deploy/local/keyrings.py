"""All keys of one installation: NATS users, sealing, signing; fresh for a test, kept by `make up`.

Kept ones stand in one folder that only its owner can read, in the forms that `docs/how-to/keys.md`
speaks of, so that every way of changing a key goes for a launched installation as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.households import Household
from deploy.local.processes import LaunchError
from deploy.nats.keys import KeyFileError, UserKey, kept_keys, write_keys, write_private
from services.chassis.granting import generate_signing_keys
from services.chassis.sealing import RECEIVERS, generate_keys

_SEALING = "sealing.json"
_SIGNING = "signing.json"


@dataclass(slots=True)
class KeyRing:
    """What the launcher gives each process its part of. Nothing of it appears in a repr."""

    nkeys: dict[str, UserKey]
    """By NATS user."""
    household: Household
    checking_key: str
    """By which lifecycle knows the gateway's signature."""
    signing_key: str
    """The gateway's alone."""

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.nkeys)})"

    @classmethod
    def fresh(cls, users: Iterable[str]) -> KeyRing:
        """Keys that nobody has had, for these NATS users."""
        checking, signing = generate_signing_keys()
        nkeys = {user: UserKey.fresh() for user in users}
        return cls(nkeys, Household(), checking, signing)

    @classmethod
    def kept(cls, folder: Path, users: Iterable[str]) -> KeyRing:
        """The keys in `folder`; those that are missing are made and written, each readable by its
        owner only. Raises `LaunchError` for a file that holds something else: with new keys in its
        place all that was sealed would be lost."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            nkeys = kept_keys(folder, users)
        except KeyFileError as error:
            raise LaunchError(str(error)) from None
        write_keys(folder, nkeys)
        sealing = _kept(folder / _SEALING, {name: [generate_keys()] for name in RECEIVERS})
        checking, signing = generate_signing_keys()
        pair = _kept(folder / _SIGNING, {"public": checking, "private": signing})
        try:
            pairs = {str(n): [(str(p), str(s)) for p, s in kept] for n, kept in sealing.items()}
            return cls(nkeys, Household(pairs), str(pair["public"]), str(pair["private"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LaunchError(
                f"the keys in {folder} are not what the launcher wrote: restore them, or delete "
                "the folder above with all its state"
            ) from None


def _kept(file: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """What the file says, which is `fresh` when it was not there."""
    if not file.exists():
        write_private(file, json.dumps(fresh, indent=1) + "\n")
    try:
        kept: dict[str, Any] = json.loads(file.read_text())
    except ValueError:
        raise LaunchError(
            f"{file} is not JSON: restore it, or delete the folder above with all its state"
        ) from None
    return kept
