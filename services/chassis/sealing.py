"""Sealing: bytes that one service alone can read (NaCl sealed boxes, https://doc.libsodium.org).

Each service that receives something has a key pair of its own. The public halves are the same list
for all senders and are no secret; a private half stays with its service. So whoever takes a service
over reads what was sent to it, and nothing that was sent to another one, and whoever takes NATS'
files or a backup of them reads nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from services.chassis.errors import SealingKeyMissing
from services.chassis.settings import ChassisSettings, SettingsError

RECEIVERS = ("lifecycle", "translator", "perf", "topology")
"""The services that something is sealed to. The gateway receives nothing that is stored."""
_PUBLIC = "MESHBUS_SEALING_PUBLIC_KEYS"
_PRIVATE = "MESHBUS_SEALING_PRIVATE_KEY"
_MARKING = b"meshbus mark 1\n"
"""What the key of marks is made for, so that it is no other key."""
_HINT = "`python -m services.chassis.bus keys` makes them"


def generate_keys() -> tuple[str, str]:
    """A fresh (public, private) pair, each in base64."""
    private = PrivateKey.generate()
    return _text(bytes(private.public_key)), _text(bytes(private))


@dataclass(frozen=True, slots=True)
class Keys:
    """What one process seals with, and opens with."""

    public: Mapping[str, PublicKey] = field(default_factory=dict)
    """Of the receivers, by their names."""
    private: tuple[PrivateKey, ...] = ()
    """This service's own, newest first: several while it is being changed."""

    @classmethod
    def of(cls, settings: ChassisSettings) -> Keys:
        """From the settings; both may be missing. Raises `SettingsError` for what is no key."""
        secret = settings.sealing_private_key
        return cls(
            public=_public_keys(settings.sealing_public_keys or ""),
            private=tuple(
                PrivateKey(_bytes(text, _PRIVATE))
                for text in _listed(secret.get_secret_value() if secret else "")
            ),
        )

    def check(self, service: str) -> None:
        """Raises `SettingsError` where `service` could not do its work: a start that fails says
        more than commands that nobody can read."""
        missing = [name for name in RECEIVERS if name not in self.public]
        if missing:
            raise SettingsError(f"{_PUBLIC} lacks {', '.join(missing)}; {_HINT}")
        if service not in RECEIVERS:
            return
        if not self.private:
            raise SettingsError(f"{_PRIVATE} is missing; {_HINT}")
        if bytes(self.public[service]) not in {bytes(key.public_key) for key in self.private}:
            raise SettingsError(
                f"{_PUBLIC} names a key for {service} that {_PRIVATE} has no private half of; "
                "while a key is changed, the receiver gets the new one first"
            )

    def fingerprint(self, *recipients: str) -> str:
        """Tells what is sealed to these receivers now from what was, before a key was changed."""
        keys = (bytes(self.public[name]) for name in recipients if name in self.public)
        return hashlib.sha256(b"".join(keys)).hexdigest()[:16]

    def sealed(self, content: bytes, *, recipient: str) -> bytes:
        """`content` for `recipient` alone, 48 bytes longer; raises `SealingKeyMissing`."""
        key = self.public.get(recipient)
        if key is None:
            raise SealingKeyMissing(
                f"there is no key to seal something to {recipient[:64]}",
                cause=f"{_PUBLIC} does not name that service",
                remedy=f"add the service's public key to {_PUBLIC} of all services",
            )
        return SealedBox(key).encrypt(content)

    def opened(self, sealed: bytes) -> bytes:
        """What was sealed to this service; raises `SealingKeyMissing`."""
        for key in self.private:
            try:
                return SealedBox(key).decrypt(sealed)
            except (CryptoError, ValueError, TypeError):
                continue
        raise SealingKeyMissing("what was sealed cannot be opened here")

    def marks(self, content: bytes) -> tuple[str, ...]:
        """Keyed hashes of `content`, one by each private key, newest first: 32 hexadecimal digits.

        By them a service knows a text again that it does not keep, without opening anything;
        nobody else can make one, or try guesses.
        """
        return tuple(_mark(key, content) for key in self.private)


def _mark(private: PrivateKey, content: bytes) -> str:
    key = hmac.digest(bytes(private), _MARKING, "sha256")
    return hmac.digest(key, content, "sha256").hex()[:32]


def _public_keys(text: str) -> dict[str, PublicKey]:
    keys = {}
    for entry in _listed(text):
        name, separator, key = entry.partition("=")
        if not separator or not name.strip():
            raise SettingsError(f"{_PUBLIC} is not of the form SERVICE=KEY,…; {_HINT}")
        keys[name.strip()] = PublicKey(_bytes(key.strip(), _PUBLIC))
    return keys


def _listed(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _bytes(text: str, variable: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != PrivateKey.SIZE:
        raise SettingsError(f"{variable} has something that is not a key; {_HINT}")
    return key
