"""Publishes the definitions of the releases that are here, for the translator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from services.chassis.bus import envelopes
from services.chassis.bus.records import Bucket
from services.chassis.errors import InvalidMessage, MeshbusError
from services.chassis.kube.definitions import ReleaseDefinitions, key_of, packed, unpacked

_MOST_BYTES = 8 * 1024 * 1024
"""Of a release's definitions; those of Istio have a megabyte."""
# Istio 1.24 moved its definitions into the base chart's templates.
_FILES = (
    Path("manifests/charts/base/files/crd-all.gen.yaml"),
    Path("manifests/charts/base/crds/crd-all.gen.yaml"),
)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class DefinitionsOnBus:
    """What the bucket `definitions` has of this worker's releases."""

    bucket: Bucket
    folder: Path
    _published: set[str] = field(default_factory=set)

    async def publish(self, versions: Iterable[str]) -> None:
        """Stores the definitions that the bucket lacks or has otherwise.

        What cannot be read or stored is logged: an object that is not validated before it is sent
        is still validated by its API server, so no operation fails of it. It is tried again with
        the next operation that wants the version.
        """
        for version in versions:
            if version in self._published:
                continue
            try:
                await self._store(version)
            except (MeshbusError, OSError) as error:
                log.warning("definitions_not_published", version=version, reason=str(error))
            else:
                self._published.add(version)

    async def _store(self, version: str) -> None:
        text = await asyncio.to_thread(_read, self.folder / version)
        if not text:
            return
        wanted = ReleaseDefinitions.of(version, text)
        if await self._kept_digest(version) == wanted.digest:
            return
        value = await asyncio.to_thread(packed, wanted)
        if len(value) > envelopes.MAX_BODY_BYTES:
            log.warning("definitions_too_large", version=version, bytes=len(value))
            return
        await self.bucket.put(key_of(version), value)
        log.info("definitions_published", version=version, digest=wanted.digest)

    async def _kept_digest(self, version: str) -> str:
        entry = await self.bucket.get(key_of(version))
        try:
            return unpacked(entry.value).digest if entry is not None else ""
        except InvalidMessage:
            return ""


def _read(distribution: Path) -> str:
    """The text of a distribution's definitions; "" for one without."""
    file = next((distribution / f for f in _FILES if (distribution / f).is_file()), None)
    if file is None:
        return ""
    with file.open("rb") as opened:
        content = opened.read(_MOST_BYTES + 1)
    return content.decode("utf-8", "replace") if len(content) <= _MOST_BYTES else ""
