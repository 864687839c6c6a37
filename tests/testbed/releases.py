"""Release archives of Istio made of the bed's distributions, and a server that gives them out."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from services.lifecycle.adapters.archives import machine
from tests.testbed import loopback
from tests.testbed.building import distributions_folder

_PROGRAM = b"#!/bin/sh\necho a program\n"


def whole_archive(version: str) -> bytes:
    """A distribution of the bed with its real istioctl, as a release archive."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", dereference=True) as tar,
    ):
        tar.add(distributions_folder() / version, arcname=f"istio-{version}")
    return packed.getvalue()


def small_archive(
    version: str, *more: tuple[tarfile.TarInfo, bytes], without: str = "", istio: str = ""
) -> bytes:
    """The same with the definitions alone and a program that does nothing; `more` members follow.

    `istio` is the version that the folder in it is named for, where it is another one.
    """
    definitions = "manifests/charts/base/files/crd-all.gen.yaml"
    source = sorted(distributions_folder().iterdir())[-1] / definitions
    root = f"istio-{istio or version}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for path, content, mode in (
            ("bin/istioctl", _PROGRAM, 0o755),
            (definitions, source.read_bytes(), 0o644),
        ):
            if path != without:
                info = tarfile.TarInfo(f"{root}/{path}")
                info.mode, info.size = mode, len(content)
                tar.addfile(info, io.BytesIO(content))
        for info, content in more:
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """One member of an archive with any fields."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field_name, value in fields.items():
        setattr(info, field_name, value)
    return info, content


@dataclass(slots=True)
class ReleaseServer:
    """Gives out archives and their sums, below `/dl` or behind a redirect below `/moved`."""

    address: str
    archives: dict[str, bytes] = field(default_factory=dict)
    """By version."""
    sums: dict[str, str] = field(default_factory=dict)
    """Other texts than the right sum."""
    statuses: dict[str, int] = field(default_factory=dict)
    """By version: answered instead."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often each archive was asked for."""
    stops_at: dict[str, int] = field(default_factory=dict)
    """Bytes of an archive after which it waits for `goes_on`."""
    cuts_at: dict[str, int] = field(default_factory=dict)
    """Bytes of an archive after which the connection ends."""
    is_waiting: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        version, name = request.match_info["version"], request.match_info["name"]
        expected = f"istio-{version}-{machine()}.tar.gz"
        archive = self.archives.get(version)
        if version in self.statuses:
            return web.Response(status=self.statuses[version])
        if archive is None or name.removesuffix(".sha256") != expected:
            return web.Response(status=404)
        if name.endswith(".sha256"):
            right = f"{hashlib.sha256(archive).hexdigest()}  {expected}\n"
            return web.Response(text=self.sums.get(version, right))
        self.asked[version] += 1
        return await self._archive(request, version, archive)

    async def _archive(
        self, request: web.Request, version: str, archive: bytes
    ) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(archive)
        await response.prepare(request)
        end = self.stops_at.get(version, self.cuts_at.get(version, len(archive)))
        await response.write(archive[:end])
        if version in self.cuts_at:
            assert request.transport is not None
            request.transport.close()
        elif end < len(archive):
            self.is_waiting.set()
            await self.goes_on.wait()
            await response.write(archive[end:])
        return response


async def _moved(request: web.Request) -> web.Response:
    raise web.HTTPFound(f"/dl/{request.match_info['rest']}")


async def _circle(request: web.Request) -> web.Response:
    raise web.HTTPFound(request.path)


@asynccontextmanager
async def serving() -> AsyncIterator[ReleaseServer]:
    """A server for the block; what waits in it ends with it."""
    app = web.Application()
    port = loopback.take_port()
    server = ReleaseServer(f"http://{loopback.HOST}:{port}")
    app.router.add_get("/dl/{version}/{name}", server.answer)
    app.router.add_get("/moved/{rest:.*}", _moved)
    app.router.add_get("/circle/{rest:.*}", _circle)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, loopback.HOST, port).start()
        yield server
    finally:
        server.goes_on.set()
        await runner.cleanup()


def links(*pairs: tuple[str, str], kind: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Links from one name to another."""
    return [member(name, type=kind, linkname=target) for name, target in pairs]
