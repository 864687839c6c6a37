"""Signs and checks grants: Ed25519, by a key that the gateway alone has.

NATS' permissions tell which service sent a message; a grant tells what a person asked for.
Lifecycle needs both before it opens a credential for anybody but the gateway and the operator.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from services.chassis.errors import GrantRefused
from services.chassis.messages import Command
from services.chassis.messages.grants import Grant, SignedGrant, digest_of
from services.chassis.policy import EVERYWHERE
from services.chassis.settings import SettingsError

EXPIRY_MARGIN = timedelta(minutes=10)
"""What a worker may need to end an operation whose time is over: grant and credential outlive it by
that."""
_KEY_BYTES = 32
_PURPOSE = b"meshbus grant 1\n"
"""Stands before what is signed, so that the key's signature never means anything else."""
_PURPOSE_WITHIN = b"meshbus grant 2\n"
"""The same of a grant for some namespaces: who does not know of them refuses it as forged, and
carries nothing out beyond them."""
_FINGERPRINTS = b"meshbus fingerprint 1\n"
"""What the key of fingerprints is made for."""


def generate_signing_keys() -> tuple[str, str]:
    """A fresh (public, private) pair for grants, each in base64."""
    key = SigningKey.generate()
    return (
        base64.b64encode(bytes(key.verify_key)).decode(),
        base64.b64encode(bytes(key)).decode(),
    )


@dataclass(frozen=True, slots=True)
class Signer:
    """The gateway's half."""

    key: SigningKey

    @classmethod
    def of(cls, seed: str | None) -> Signer:
        """`seed` is the base64 of `MESHBUS_SIGNING_KEY`; raises `SettingsError`."""
        return cls(SigningKey(_key(seed, "MESHBUS_SIGNING_KEY")))

    def fingerprint(self, content: bytes) -> str:
        """A keyed hash, the same in all gateways and after a restart, that tells requests apart.

        Requests hold passwords: by a hash without a key, whoever reads it could try guesses.
        """
        key = hmac.digest(bytes(self.key), _FINGERPRINTS, "sha256")
        return hmac.digest(key, content, "sha256").hex()

    def signed(
        self,
        command: Command,
        *,
        identity: str = "local",
        groups: tuple[str, ...] = (),
        namespaces: tuple[str, ...] = EVERYWHERE,
    ) -> Command:
        """The command with the grant for all that it asks for, within `namespaces`."""
        grant = Grant(
            operation=command.operation,
            kind=command.kind,
            verb=command.verb,
            cluster=command.cluster,
            namespace=command.namespace,
            version=command.version,
            digest=digest_of(command.body),
            credential=command.credential,
            identity=identity,
            groups=list(groups),
            namespaces=list(namespaces),
            issued=datetime.now(timezone.utc),
            deadline=command.deadline,
            expires=command.deadline + timedelta(seconds=command.may_take_s) + EXPIRY_MARGIN,
        )
        text = grant.model_dump_json()
        purpose = _PURPOSE_WITHIN if grant.is_bounded else _PURPOSE
        signature = self.key.sign(purpose + text.encode()).signature
        signed = SignedGrant(text=text, signature=base64.b64encode(signature).decode())
        return command.model_copy(update={"grant": signed})


@dataclass(frozen=True, slots=True)
class Checker:
    """The half of those who act on grants."""

    keys: tuple[VerifyKey, ...]
    """Of the gateway; several while its key is being changed."""

    @classmethod
    def of(cls, public_keys: str | None) -> Checker:
        """From `MESHBUS_SIGNING_PUBLIC_KEYS`: base64, separated by commas."""
        variable = "MESHBUS_SIGNING_PUBLIC_KEYS"
        texts = [text.strip() for text in (public_keys or "").split(",")]
        return cls(tuple(VerifyKey(_key(text, variable)) for text in texts))

    def checked(self, signed: SignedGrant, *, now: datetime | None = None) -> Grant:
        """What the gateway granted; raises `GrantRefused` for a forged or expired one."""
        purpose = self._purpose_of(signed)
        if not purpose or (grant := signed.claimed()).is_bounded is not (
            purpose is _PURPOSE_WITHIN
        ):
            raise GrantRefused(
                "the grant was not signed by this installation's gateway",
                remedy="give lifecycle the public half of the gateway's MESHBUS_SIGNING_KEY in "
                "MESHBUS_SIGNING_PUBLIC_KEYS; if they belong together, the grant is forged",
            )
        if grant.expires <= (now or datetime.now(timezone.utc)):
            raise GrantRefused(
                f"the grant of operation {grant.operation[:64]} has expired",
                cause="the operation's time is over",
                remedy="send the operation again through the gateway",
            )
        return grant

    def _purpose_of(self, signed: SignedGrant) -> bytes:
        """What one of the keys signed it as; b"" when none did."""
        for purpose in (_PURPOSE, _PURPOSE_WITHIN):
            if any(_is_signed_by(key, signed, purpose) for key in self.keys):
                return purpose
        return b""


def _is_signed_by(key: VerifyKey, signed: SignedGrant, purpose: bytes) -> bool:
    try:
        signature = base64.b64decode(signed.signature, validate=True)
        key.verify(purpose + signed.text.encode(), signature)
    except (BadSignatureError, binascii.Error, ValueError):
        return False
    return True


def _key(text: str | None, variable: str) -> bytes:
    try:
        key = base64.b64decode(text or "", validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            f"{variable} is missing or not a key; "
            "`python -m services.chassis.bus keys` makes a pair"
        )
    return key
