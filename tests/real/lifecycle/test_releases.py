"""Releases of Istio come whole, checked and once, or not at all."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.chassis.addresses import AddressPolicy, networks
from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence, Leases
from services.chassis.bus.records import Bucket
from services.chassis.errors import (
    AddressDenied,
    MeshbusError,
    OperationCancelled,
    ReleaseRefused,
    ReleaseUnavailable,
    VersionUnknown,
)
from services.chassis.messages import Command, Event
from services.chassis.operations.progress import Progress
from services.lifecycle.adapters.archives import Archives
from services.lifecycle.adapters.istioctl import Distributions
from services.lifecycle.releases.fetching import Releases
from services.lifecycle.releases.unpacking import Bounds
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.releases import (
    ReleaseServer,
    links,
    member,
    small_archive,
    whole_archive,
)

pytestmark = pytest.mark.usefixtures("built")

VERSION = "1.29.7"
ROOT = f"istio-{VERSION}"
MOST = 30 * 1024 * 1024


@dataclass(slots=True)
class Asked:
    """An operation that wants a version."""

    operation: str = "op-1"
    told: list[str] = field(default_factory=list)
    fence: Fence = field(default_factory=lambda: Fence(timedelta(minutes=5)))
    progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        async def keep(event: Event) -> None:
            self.told.append(event.summary)

        self.progress = Progress(keep, self.command, attempt=1, service="lifecycle")
        self.progress.start()

    @property
    def command(self) -> Command:
        return Command(operation=self.operation, kind="istio", cluster="c1")


def releases(folder: Path, mirror: ReleaseServer, **options: Any) -> Releases:
    """As a worker has them; the folder is made on the way."""
    source = Archives(
        base=options.pop("base", f"{mirror.address}/dl"),
        policy=options.pop("policy", AddressPolicy()),
        within=options.pop("within", timedelta(seconds=60)),
        most_bytes=MOST,
    )
    return Releases(
        **{
            "here": Distributions(folder, timedelta(seconds=60)).versions,
            "folder": folder,
            "source": source,
            "bounds": Bounds(unpacked_bytes=MOST, members=500),
            **options,
        }
    )


async def test_a_release_comes_whole_and_runs(tmp_path: Path, mirror: ReleaseServer) -> None:
    mirror.archives[ISTIO_VERSION] = await asyncio.to_thread(whole_archive, ISTIO_VERSION)
    folder = tmp_path / "folder"
    own = Releases(
        here=Distributions(folder, timedelta(seconds=60)).versions,
        folder=folder,
        source=Archives(
            base=f"{mirror.address}/moved",
            policy=AddressPolicy(),
            within=timedelta(minutes=5),
            most_bytes=1 << 28,
        ),
    )
    asked = Asked()
    assert await own.wanted(f"v{ISTIO_VERSION}", asked) == ISTIO_VERSION
    await asked.progress.close()
    assert [path.name for path in folder.iterdir()] == [ISTIO_VERSION]
    assert (
        asked.told[0] == f"Istio {ISTIO_VERSION} is not here and comes from {mirror.address}/moved"
    )
    assert any(" of " in line for line in asked.told), "progress is told"
    assert asked.told[-1] == f"Istio {ISTIO_VERSION} is here now"
    rendered = await Distributions(folder, timedelta(seconds=60)).render(
        ISTIO_VERSION, b'{"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator"}'
    )
    assert "kind: Deployment" in rendered
    # From now on it is here, and nobody asks the server.
    assert await own.wanted(ISTIO_VERSION, Asked("op-2")) == ISTIO_VERSION
    assert mirror.asked[ISTIO_VERSION] == 1


def _zeros(size: int) -> tuple[tarfile.TarInfo, bytes]:
    return member(f"{ROOT}/zeros", bytes(size))


def _header_bomb(_version: str) -> bytes:
    """A name without end, which a reader of archives keeps in memory."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member(f"{ROOT}/{'a' * (4 * 1024 * 1024)}")[0])
    return packed.getvalue()


def _with(*members: tuple[tarfile.TarInfo, bytes]) -> Callable[[str], bytes]:
    return lambda version: small_archive(version, *members)


REFUSED: dict[str, Callable[[str], bytes]] = {
    "no archive at all": lambda _: b"<html>not found</html>",
    "truncated": lambda version: small_archive(version)[:-2000],
    "garbled": lambda version: small_archive(version)[:5000] + b"\0" * 5000,
    "a tar of nothing": lambda _: gzip.compress(bytes(10240)),
    "a bomb": _with(_zeros(2 * MOST)),
    "a bomb of headers": _header_bomb,
    "too long": lambda version: small_archive(version) + os.urandom(MOST),
    "too many members": _with(*(member(f"{ROOT}/{number}") for number in range(600))),
    "an absolute path": _with(member("/tmp/out", b"x")),
    "a path out": _with(member(f"{ROOT}/../../out", b"x")),
    "another folder": lambda version: small_archive(version, istio="1.0.0"),
    "a link out": _with(*links((f"{ROOT}/out", "../../../etc/passwd"), kind=tarfile.SYMTYPE)),
    "an absolute link": _with(*links((f"{ROOT}/out", "/etc/passwd"), kind=tarfile.SYMTYPE)),
    "a hard link out": _with(*links((f"{ROOT}/out", "/etc/passwd"), kind=tarfile.LNKTYPE)),
    "through a link": _with(
        *links((f"{ROOT}/out", ".."), kind=tarfile.SYMTYPE), member(f"{ROOT}/out/file", b"x")
    ),
    "a device": _with(member(f"{ROOT}/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "the same file twice": _with(member(f"{ROOT}/bin/istioctl", b"another one")),
    "no istioctl": lambda version: small_archive(version, without="bin/istioctl"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_no_release_is_refused_and_leaves_nothing(
    tmp_path: Path, mirror: ReleaseServer, what: str
) -> None:
    mirror.archives[VERSION] = await asyncio.to_thread(REFUSED[what], VERSION)
    folder = tmp_path / "folder"
    with pytest.raises(ReleaseRefused):
        await releases(folder, mirror).wanted(VERSION, Asked())
    assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


async def test_a_link_within_becomes_the_file(tmp_path: Path, mirror: ReleaseServer) -> None:
    inside = links(
        (f"{ROOT}/bin/ctl", "istioctl"), (f"{ROOT}/manifests/ctl", "../bin/istioctl"), kind=b"2"
    )
    mirror.archives[VERSION] = small_archive(VERSION, *inside)
    await releases(tmp_path, mirror).wanted(VERSION, Asked())
    for path in ("bin/ctl", "manifests/ctl"):
        assert not (tmp_path / VERSION / path).is_symlink()
        assert (tmp_path / VERSION / path).read_bytes().startswith(b"#!/bin/sh")


@pytest.mark.parametrize("text", ["0" * 64, "no sum", ""])
async def test_the_published_sum_decides(tmp_path: Path, mirror: ReleaseServer, text: str) -> None:
    mirror.archives[VERSION] = small_archive(VERSION)
    mirror.sums[VERSION] = text
    with pytest.raises(ReleaseRefused):
        await releases(tmp_path, mirror).wanted(VERSION, Asked())
    assert list(tmp_path.iterdir()) == []


async def _fails(own: Releases, version: str = VERSION) -> MeshbusError:
    with pytest.raises(MeshbusError) as caught:
        await own.wanted(version, Asked())
    assert list(own.folder.iterdir()) == []
    return caught.value


async def test_a_server_that_does_not_give_it(tmp_path: Path, mirror: ReleaseServer) -> None:
    mirror.archives[VERSION] = small_archive(VERSION)
    own = releases(tmp_path, mirror)
    mirror.cuts_at[VERSION] = 1000
    assert isinstance(await _fails(own), ReleaseUnavailable)
    del mirror.cuts_at[VERSION]
    mirror.stops_at[VERSION] = 1000
    slow = await _fails(releases(tmp_path, mirror, within=timedelta(seconds=0.5)))
    assert isinstance(slow, ReleaseUnavailable)
    assert "slowly" in slow.summary
    mirror.statuses[VERSION] = 500
    assert isinstance(await _fails(own), ReleaseUnavailable)
    circle = releases(tmp_path, mirror, base=f"{mirror.address}/circle")
    assert isinstance(await _fails(circle), ReleaseUnavailable)
    unknown = await _fails(own, "1.29.8")
    assert isinstance(unknown, VersionUnknown)
    denied = AddressPolicy(denied=networks(["127.0.0.0/8"]))
    assert isinstance(await _fails(releases(tmp_path, mirror, policy=denied)), AddressDenied)
    secret = releases(tmp_path, mirror, base=mirror.address.replace("//", "//ann:hunter2@"))
    assert "hunter2" not in str(await _fails(secret))


async def test_two_workers_fetch_it_once(tmp_path: Path, mirror: ReleaseServer, bus: Bus) -> None:
    """The second one waits for the first."""
    mirror.archives[VERSION] = small_archive(VERSION)
    mirror.stops_at[VERSION] = 1000
    first, second = Asked("op-1"), Asked("op-2")
    every = timedelta(seconds=0.2)
    workers = [
        releases(tmp_path, mirror, leases=Leases(Bucket(bus, "leases"), worker, every))
        for worker in ("worker-1", "worker-2")
    ]
    one = asyncio.create_task(workers[0].wanted(VERSION, first))
    await mirror.is_waiting.wait()
    two = asyncio.create_task(workers[1].wanted(VERSION, second))
    async with asyncio.timeout(30.0):
        while not any("waiting" in line for line in second.told):
            await asyncio.sleep(0.01)
    mirror.goes_on.set()
    assert [*await asyncio.gather(one, two)] == [VERSION, VERSION]
    assert mirror.asked[VERSION] == 1
    assert (await Bucket(bus, "leases").get(f"mesh.release.{VERSION}")) is None


async def test_an_end_of_the_operation_ends_the_download(
    tmp_path: Path, mirror: ReleaseServer
) -> None:
    mirror.archives[VERSION] = small_archive(VERSION)
    mirror.stops_at[VERSION] = 1000
    asked = Asked()
    (tmp_path / f".{VERSION}~dead").mkdir()
    running = asyncio.create_task(releases(tmp_path, mirror).wanted(VERSION, asked))
    await mirror.is_waiting.wait()
    assert not (tmp_path / f".{VERSION}~dead").exists(), "left by a worker that died"
    asked.fence.stop(OperationCancelled("cancelled"))
    with pytest.raises(OperationCancelled):
        await running
    assert list(tmp_path.iterdir()) == []


async def test_which_version_is_wanted(tmp_path: Path, mirror: ReleaseServer) -> None:
    mirror.archives |= {version: small_archive(version) for version in (VERSION, "1.28.1")}
    known = [VERSION, "1.28.1"]
    own = releases(tmp_path, mirror, known=tuple(known), most=2)
    assert (own.here(), own.fetchable(), own.offered()) == ([], known, known)
    # Nothing is here and nobody names one: the newest known one, and from then on the newest here.
    assert await own.wanted("", Asked()) == VERSION
    assert await own.wanted("1.28.1", Asked()) == "1.28.1"
    assert await own.wanted("", Asked()) == VERSION
    assert own.here() == known
    assert own.fetchable() == []
    for text in ("latest", "1.29", "../1.29.7", "1.29.7/../.."):
        with pytest.raises(VersionUnknown):
            await own.wanted(text, Asked())
    with pytest.raises(ReleaseRefused, match="2 Istio distributions already"):
        await own.wanted("1.27.0", Asked())


async def test_nothing_is_fetched_where_that_is_off(tmp_path: Path) -> None:
    own = Releases(here=list, folder=tmp_path, known=(VERSION,))
    assert own.offered() == []
    for text in ("", VERSION):
        with pytest.raises(VersionUnknown):
            await own.wanted(text, Asked())


async def test_a_folder_that_cannot_be_written(tmp_path: Path, mirror: ReleaseServer) -> None:
    mirror.archives[VERSION] = small_archive(VERSION)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReleaseRefused, match="cannot be kept"):
        await releases(tmp_path / "file" / "folder", mirror).wanted(VERSION, Asked())
