"""Brings releases here: once for all workers that share the folder, whole or not at all.

A release is fetched and unpacked aside, in the same file system, and renamed into its place when
all of it is there, so nobody ever sees a part. A lease on the bus keeps a second worker from the
same download; the rename would keep it harmless. What a worker left that died is removed by the
next one that fetches the version.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Protocol

from services.chassis.bus.leases import Fence, Leases
from services.chassis.errors import ClusterBusy, ReleaseRefused
from services.chassis.messages import Command
from services.chassis.operations.progress import Progress
from services.lifecycle.cluster.versions import Version, choose_version
from services.lifecycle.releases.unpacking import Bounds, unpack

_LOOK_EVERY_S = 0.5
"""While another worker fetches the same version."""
_TOLD_EVERY = 0.2
"""Of the archive: progress is told so often."""
_HELD = timedelta(days=1)
"""The lease only saves a second download, so what is written does not depend on it."""


class Source(Protocol):
    """Where releases come from; `adapters/archives.py` is one."""

    @property
    def address(self) -> str:
        """As it may be shown."""

    async def fetch(self, version: str, into: Path, told: Callable[[int, int], None]) -> str:
        """Writes the archive of an exact version into a new file; its sha256, which is the
        published one. `told` is called with the bytes so far and all of them (0: unknown).

        Raises `VersionUnknown`, `ReleaseUnavailable` or `ReleaseRefused`.
        """


class Asking(Protocol):
    """The operation that wants a version: an installation's `Work` is one."""

    @property
    def command(self) -> Command: ...

    @property
    def progress(self) -> Progress: ...

    @property
    def fence(self) -> Fence: ...


async def _nothing(_version: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """The Istio versions that can be installed: those that are here, and those to be fetched."""

    here: Callable[[], list[str]]
    """Versions whose distributions stand in the folder, newest first."""
    folder: Path
    source: Source | None = None
    """None: what is not here is not installed."""
    leases: Leases | None = None
    known: tuple[str, ...] = ()
    """Versions that are offered without being here; any other exact one is tried as well."""
    most: int = 12
    """Distributions in the folder."""
    bounds: Bounds = field(default_factory=Bounds)
    used: Callable[[str], Awaitable[None]] = _nothing
    """Told of each version that is here and wanted, which others may want to know more of."""

    def fetchable(self) -> list[str]:
        """Known versions that are not here and would be fetched, newest first."""
        if self.source is None:
            return []
        parsed = [v for v in map(Version.parse, self.known) if v is not None]
        return [text for v in sorted(parsed, reverse=True) if (text := str(v)) not in self.here()]

    def offered(self) -> list[str]:
        """All versions that somebody is told of, newest first."""
        parsed = {Version.parse(text): text for text in (*self.here(), *self.fetchable())}
        return [parsed[v] for v in sorted(filter(None, parsed), reverse=True)]

    async def wanted(self, version: str, work: Asking) -> str:
        """The wanted version, which is here then; the newest for "". Never another one.

        Raises `VersionUnknown`, `ReleaseUnavailable` or `ReleaseRefused`.
        """
        chosen = self._chosen(version)
        if self.source is not None and chosen not in self.here():
            await work.fence.guard(self._brought(chosen, self.source, work))
        await self.used(chosen)
        return chosen

    def _chosen(self, version: str) -> str:
        """Any exact version may be fetched; without one it is the newest here, or the newest known
        where there is none."""
        exact = Version.parse(version) if version.strip() else None
        if exact is not None and self.source is not None:
            return str(exact)
        return choose_version(version, self.here() or self.fetchable())

    async def _brought(self, version: str, source: Source, work: Asking) -> None:
        progress = work.progress
        progress.note(f"Istio {version} is not here and comes from {source.address}")
        waiting = False
        while version not in self.here():
            try:
                async with self._lease(version, work):
                    if version not in self.here():
                        await self._fetch(version, source, progress)
                        progress.note(f"Istio {version} is here now")
            except ClusterBusy:
                if not waiting:
                    progress.note(f"Another operation is fetching Istio {version}: waiting for it")
                waiting = True
                await asyncio.sleep(_LOOK_EVERY_S)

    def _lease(
        self, version: str, work: Asking
    ) -> contextlib.AbstractAsyncContextManager[int | None]:
        if self.leases is None:
            return contextlib.nullcontext()
        return self.leases.held(
            f"mesh.release.{version}",
            operation=work.command.operation,
            attempt=work.progress.attempt,
            fence=Fence(_HELD),
        )

    async def _fetch(self, version: str, source: Source, progress: Progress) -> None:
        aside = self.folder / f".{version}~{secrets.token_hex(4)}"
        stop = Event()
        try:
            await asyncio.to_thread(self._prepare, version, aside)
            archive = aside / "archive"
            digest = await source.fetch(version, archive, _telling(progress, version))
            size = archive.stat().st_size
            progress.note(f"Fetched Istio {version}: {_mb(size)}, sha256 {digest} as published")
            found = await asyncio.to_thread(
                unpack, archive, aside / "tree", version=version, bounds=self.bounds, stop=stop
            )
            await asyncio.to_thread(_moved, found, self.folder / version)
        except OSError as error:
            raise ReleaseRefused(
                f"Istio {version} cannot be kept in the folder of distributions: {error.strerror}",
                cause="the folder is read-only, full, or belongs to somebody else",
                remedy="give lifecycle a folder to write to, or unpack the release there yourself",
            ) from None
        finally:
            stop.set()
            await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)

    def _prepare(self, version: str, aside: Path) -> None:
        """Makes room; what is left of an earlier try goes."""
        if len(self.here()) >= self.most:
            raise ReleaseRefused(
                f"there are {self.most} Istio distributions already",
                cause="each takes a third of a gigabyte, and anybody may ask for another one",
                remedy="remove those that no mesh uses, or raise MESHBUS_LIFECYCLE_RELEASES_KEPT",
            )
        for left in self.folder.glob(f".{version}~*"):
            shutil.rmtree(left, ignore_errors=True)
        aside.mkdir(parents=True)


def _moved(found: Path, place: Path) -> None:
    try:
        os.rename(found, place)
    except OSError as error:
        # Another worker was faster, without our lease: its release is the same.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _telling(progress: Progress, version: str) -> Callable[[int, int], None]:
    told = 0.0

    def tell(size: int, whole: int) -> None:
        nonlocal told
        if whole and size / whole >= told + _TOLD_EVERY and size < whole:
            told = size / whole
            progress.note(f"Fetching Istio {version}: {_mb(size)} of {_mb(whole)}")

    return tell


def _mb(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"
