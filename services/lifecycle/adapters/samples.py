"""Manifests of sample applications and add-ons: a distribution's files, and those of our own.

Parsed manifests are kept: the largest one (Grafana's dashboards, 240 kB) takes 6 ms to parse.
"""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path

from services.chassis.errors import ManifestMalformed, SampleMissing
from services.chassis.kube.manifests import parse_manifest
from services.chassis.kube.objects import KubeObject
from services.lifecycle.cluster.versions import Version

SIZE_LIMIT_BYTES = 2 * 1024 * 1024
_BUNDLE = "services.lifecycle.applications.bundled"
_CACHED = 32


@dataclass(frozen=True, slots=True)
class Samples:
    """Reads samples of the distributions in one folder."""

    folder: Path
    _parsed: OrderedDict[tuple[str, str], list[KubeObject]] = field(default_factory=OrderedDict)

    async def distributed(self, version: str, path: str) -> list[KubeObject]:
        """The objects of `<version>/samples/<path>`, the caller's own to change."""
        return await self._objects((version, path), partial(self._read, version, path))

    async def bundled(self, name: str) -> list[KubeObject]:
        """The objects of a manifest of our own, the caller's own to change."""
        return await self._objects(("", name), partial(_read_bundled, name))

    async def _objects(self, key: tuple[str, str], read: Callable[[], str]) -> list[KubeObject]:
        parsed = self._parsed.get(key)
        if parsed is None:
            parsed = await asyncio.to_thread(_parsed, read, " ".join(part for part in key if part))
            self._parsed[key] = parsed
            if len(self._parsed) > _CACHED:
                self._parsed.popitem(last=False)
        return copy.deepcopy(parsed)

    def _read(self, version: str, path: str) -> str:
        """The file's text; a path that leaves the version's samples is as good as missing."""
        if Version.parse(version) is None:
            raise SampleMissing(f"{version[:64]!r} is not a version of Istio")
        root = (self.folder / version / "samples").resolve()
        file = (root / path).resolve()
        if not file.is_relative_to(root) or not file.is_file():
            raise SampleMissing(f"Istio {version} has no samples/{path}")
        with file.open("rb") as opened:
            content = opened.read(SIZE_LIMIT_BYTES + 1)
        if len(content) > SIZE_LIMIT_BYTES:
            raise SampleMissing(
                f"samples/{path} of Istio {version} has more than {SIZE_LIMIT_BYTES} bytes",
                cause="no sample of a release is that large",
            )
        return content.decode("utf-8", "replace")


def _parsed(read: Callable[[], str], what: str) -> list[KubeObject]:
    try:
        return parse_manifest(read())
    except ManifestMalformed as error:
        raise SampleMissing(
            f"the sample {what} cannot be used: {error.summary}", cause=error.cause
        ) from None
    except OSError as error:
        raise SampleMissing(
            f"the sample {what} cannot be read", cause=str(error.strerror)
        ) from None


def _read_bundled(name: str) -> str:
    return resources.files(_BUNDLE).joinpath(f"{name}.yaml").read_text("utf-8")
