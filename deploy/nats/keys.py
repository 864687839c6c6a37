"""NKeys: a seed stays with its service; the server's configuration has public keys only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nkeys  # type: ignore[import-untyped]

from deploy.nats.config import STORE_KEY

_SEED_BYTES = 32
_VARIABLE = "MESHBUS_NATS_SEED"
STORE_KEY_FILE = "store.env"


class KeyFileError(Exception):
    """A file that should hold a seed does not; the message names it."""


@dataclass(frozen=True, slots=True)
class UserKey:
    """One user's NKey. The seed is the secret; it never appears in a repr."""

    public: str
    seed: str

    def __repr__(self) -> str:
        return f"UserKey({self.public})"

    @classmethod
    def fresh(cls) -> UserKey:
        seed = nkeys.encode_seed(os.urandom(_SEED_BYTES), nkeys.PREFIX_BYTE_USER)
        return cls.of(bytes(seed).decode())

    @classmethod
    def of(cls, seed: str) -> UserKey:
        """The key that belongs to `seed`; raises `nkeys.NkeysError`."""
        # A bytearray, because the library wipes it.
        pair = nkeys.from_seed(bytearray(seed.encode()))
        return cls(public=bytes(pair.public_key).decode(), seed=seed)


def kept_keys(folder: Path, users: Iterable[str]) -> dict[str, UserKey]:
    """The keys in `folder`, and new keys for users without one.

    So the command can be run again after a service was added; deleting a user's files renews its
    key.
    """
    keys: dict[str, UserKey] = {}
    for user in users:
        file = seed_file(folder, user)
        keys[user] = _read(file) if file.exists() else UserKey.fresh()
    return keys


def seed_file(folder: Path, user: str) -> Path:
    """For the nats CLI: `nats --nkey <file>`."""
    return folder / f"{user}.nk"


def environment_file(folder: Path, user: str) -> Path:
    """For services: `MESHBUS_NATS_SEED=…`, as `env_file` and `EnvironmentFile` take it."""
    return folder / f"{user}.env"


def read_key(file: Path) -> UserKey:
    """The key whose seed a file holds; raises `KeyFileError`, or an OSError."""
    return _read(file)


def write_keys(folder: Path, keys: dict[str, UserKey]) -> list[Path]:
    """Writes a seed file and an environment file for each user, readable by their owner only."""
    written = []
    for user, key in keys.items():
        for file, text in (
            (seed_file(folder, user), f"{key.seed}\n"),
            (environment_file(folder, user), f"{_VARIABLE}={key.seed}\n"),
        ):
            write_private(file, text)
            written.append(file)
    return written


def former_seed_file(folder: Path, user: str) -> Path:
    """The key that a user had before: both count until the file is deleted."""
    return folder / f"{user}.former.nk"


def renew(folder: Path, user: str) -> None:
    """Puts a user's key aside, so that the next one is made beside it. Raises `KeyFileError` while
    an earlier change is not over: the services may still have the key of before."""
    former = former_seed_file(folder, user)
    if former.exists():
        raise KeyFileError(f"{former} is there: delete it when nobody uses that key any more")
    seed_file(folder, user).rename(former)


def public_keys(folder: Path, user: str, key: UserKey) -> list[str]:
    """What the server takes from a user: the present key, and the former one while it is there."""
    former = former_seed_file(folder, user)
    return [key.public, *([_read(former).public] if former.exists() else [])]


def kept_store_key(folder: Path) -> str:
    """The key of the encrypted store: kept when it is there, for a store that is read with another
    one is lost."""
    file = folder / STORE_KEY_FILE
    if not file.exists():
        # The name in front keeps a server from reading the text as a number.
        write_private(file, f"{STORE_KEY}=key-{secrets.token_urlsafe(_SEED_BYTES)}\n")
    return file.read_text().strip().partition("=")[2]


def write_private(file: Path, text: str) -> None:
    """Writes a file atomically, readable by its owner only from its first moment on."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, 0o600)
        stream.write(text)
    temporary.replace(file)


def _read(file: Path) -> UserKey:
    try:
        return UserKey.of(file.read_text().strip())
    except (nkeys.NkeysError, ValueError):
        raise KeyFileError(f"{file} holds no NKey seed; delete it to get a new key") from None
