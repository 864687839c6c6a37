"""Definitions from the folders of Istio distributions, each version read once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from services.chassis.errors import SchemasMissing
from services.translator.definitions.schemas import Schemas
from services.translator.istio.versions import newest_first

# Istio 1.24 moved its definitions into the base chart's templates.
_FILES = (
    Path("manifests/charts/base/files/crd-all.gen.yaml"),
    Path("manifests/charts/base/crds/crd-all.gen.yaml"),
)


@dataclass(slots=True)
class Distributions:
    """The distributions of one folder, and the Gateway API's definitions beside them."""

    folder: Path
    gateway_api: Path | None
    _read: dict[str, asyncio.Task[Schemas]] = field(default_factory=dict)

    def versions(self) -> list[str]:
        """Versions with definitions, newest first."""
        if not self.folder.is_dir():
            return []
        entries = [entry for entry in self.folder.iterdir() if _definitions(entry) is not None]
        return newest_first(entry.name for entry in entries)

    async def schemas(self, version: str) -> Schemas:
        """The definitions of one version; raises `SchemasMissing`."""
        if version not in self.versions():
            raise SchemasMissing(
                f"there are no definitions of Istio {version[:64]}; "
                f"available: {', '.join(self.versions()) or 'none'}"
            )
        task = self._read.get(version)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(asyncio.to_thread(self._load, version), name="definitions")
            self._read[version] = task
        # One caller that goes must not take the reading from the others.
        return await asyncio.shield(task)

    def _load(self, version: str) -> Schemas:
        file = _definitions(self.folder / version)
        try:
            texts = [file.read_text()] if file is not None else []
            return Schemas.read([*texts, *gateway_api_texts(self.gateway_api)])
        except OSError as error:
            raise SchemasMissing(
                f"the definitions of Istio {version} cannot be read: {error.strerror}"
            ) from None


def gateway_api_texts(folder: Path | None) -> list[str]:
    """The definitions of the Gateway API, which are no part of Istio's releases."""
    if folder is None or not folder.is_dir():
        return []
    return [path.read_text() for path in sorted(folder.glob("*.yaml"))]


def _definitions(distribution: Path) -> Path | None:
    return next((distribution / f for f in _FILES if (distribution / f).is_file()), None)
