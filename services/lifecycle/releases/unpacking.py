"""Unpacks a release archive: what it may hold is checked member by member, before it is written.

An archive is what somebody else's server sent, and its sum comes from there too. So nothing is
written outside of the folder that it is unpacked into, no link ever stands there (a link to a file
within is written as that file), and the bytes, the members and the headers have an end.
"""

from __future__ import annotations

import gzip
import os
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import BinaryIO, cast

from services.chassis.errors import ReleaseRefused, shortened

_PIECE_BYTES = 1024 * 1024
_HEADER_BYTES = 1024 * 1024
"""What may stand between two members: their headers, with long names."""
_NEEDED = ("bin/istioctl", "manifests")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much an archive may unpack to."""

    unpacked_bytes: int = 1 << 30
    members: int = 20_000


@dataclass(slots=True)
class _Counted:
    """The tar within the gzip, read up to a mark that moves on with the members."""

    source: gzip.GzipFile
    most: int
    count: int = 0
    mark: int = 0

    def allow(self, size: int) -> None:
        """Lets so many bytes more be read."""
        self.mark = min(self.count + size, self.most)

    def read(self, size: int) -> bytes:
        data = self.source.read(size)
        self.count += len(data)
        if self.count > self.mark:
            what = "unpacks to too much" if self.mark == self.most else "has a header without end"
            raise _refused(f"the archive {what}")
        return data


@dataclass(slots=True)
class _Unpacking:
    """One archive, on its way into one folder."""

    root: str
    """The folder that all members stand in, such as `istio-1.31.0`."""
    into: Path
    bounds: Bounds
    stop: Event
    links: list[tuple[str, str]] = field(default_factory=list)
    written: int = 0

    def run(self, archive: Path) -> None:
        with gzip.open(archive) as unpacked:
            counted = _Counted(unpacked, self.bounds.unpacked_bytes)
            counted.allow(_HEADER_BYTES)
            with tarfile.open(fileobj=cast("BinaryIO", counted), mode="r|") as tar:
                for member in self._members(tar, counted):
                    self._take(tar, member)
        for name, target in self.links:
            self._copy(name, target)

    def _members(self, tar: tarfile.TarFile, counted: _Counted) -> Iterator[tarfile.TarInfo]:
        seen = 0
        while (member := tar.next()) is not None:
            seen += 1
            if self.stop.is_set():
                raise _refused("the operation ended meanwhile")
            if seen > self.bounds.members:
                raise _refused(f"the archive has more than {self.bounds.members} members")
            # Of a stream, tarfile reads on in blocks of its own.
            counted.allow(member.size + _HEADER_BYTES)
            yield member
            counted.allow(_HEADER_BYTES)

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        place = self._place(member.name)
        if member.isdir():
            place.mkdir(parents=True, exist_ok=True)
        elif member.isreg():
            content = tar.extractfile(member)
            assert content is not None, "a regular file has content"
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as written:
                shutil.copyfileobj(content, written, _PIECE_BYTES)
                if member.mode & 0o100:
                    # What is run must be whole also after a power failure.
                    written.flush()
                    os.fsync(written.fileno())
            place.chmod(0o755 if member.mode & 0o100 else 0o644)
            self.written += member.size
        elif member.issym():
            target = posixpath.join(posixpath.dirname(member.name), member.linkname)
            self.links.append((member.name, target))
        elif member.islnk():
            self.links.append((member.name, member.linkname))
        else:
            raise _refused(f"{shortened(member.name)} in the archive is neither file nor folder")

    def _place(self, name: str) -> Path:
        """Where a member goes; refuses what leads out."""
        clean = posixpath.normpath(name)
        if name.startswith("/") or clean.split("/")[0] != self.root or ".." in name.split("/"):
            raise _refused(f"{shortened(name)} in the archive does not stand in {self.root}/")
        return self.into / clean

    def _copy(self, name: str, target: str) -> None:
        """A link's file in the link's place. No link stands in the folder, so a path is what it
        says."""
        place = self._place(name)
        source = self.into / posixpath.normpath(target)
        inside = not target.startswith("/") and posixpath.normpath(target).startswith(
            f"{self.root}/"
        )
        if not inside or not source.is_file():
            raise _refused(f"{shortened(name)} in the archive is a link to no file of it")
        self.written += source.stat().st_size
        if self.written > self.bounds.unpacked_bytes:
            raise _refused("the archive unpacks to too much")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)


def unpack(archive: Path, into: Path, *, version: str, bounds: Bounds, stop: Event) -> Path:
    """Unpacks the release archive of `version` into a new folder; the distribution within it.

    Raises `ReleaseRefused` for an archive that holds anything else than that distribution, and what
    `OSError` the file system raises. It blocks, for seconds; `stop` ends it at the next member.
    """
    root = f"istio-{version}"
    into.mkdir(parents=True)
    try:
        _Unpacking(root, into, bounds, stop).run(archive)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, FileExistsError) as error:
        raise _refused(f"the archive cannot be read ({type(error).__name__})") from None
    distribution = into / root
    missing = [name for name in _NEEDED if not (distribution / name).exists()]
    if missing or not os.access(distribution / "bin" / "istioctl", os.X_OK):
        raise _refused(f"the archive has no {' and no '.join(missing or _NEEDED[:1])}")
    return distribution


def _refused(text: str) -> ReleaseRefused:
    return ReleaseRefused(text)
