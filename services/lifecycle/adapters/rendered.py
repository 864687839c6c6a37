"""Rendered meshes on disk, so that a worker that was just started need not wait for istioctl.

Only what no user's overlay is in: values may be secrets, and those reach no disk. A file counts for
the istioctl that made it and for this version of Meshbus. One that cannot be read is as none at
all, and where nothing can be written nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import structlog

from services.chassis.errors import TooManyValues
from services.chassis.kube.objects import KubeObject
from services.chassis.messages.models import VERSION
from services.chassis.reading.jsons import read_json
from services.chassis.reading.limits import Budget

_MOST_FILES = 32

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RenderedFolder:
    """The meshes that were rendered with the distributions of one folder."""

    folder: Path
    distributions: Path

    def recall(self, version: str, overlay: bytes) -> list[KubeObject] | None:
        """The objects as they were kept; None where they are not, or not of this istioctl."""
        try:
            text = self._file(version, overlay).read_bytes()
            found = read_json(text, budget=Budget.trusted())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TooManyValues) as error:
            log.warning("rendered_unreadable", version=version, reason=type(error).__name__)
            return None
        is_whole = isinstance(found, list) and all(isinstance(obj, dict) for obj in found)
        return found if is_whole else None

    def keep(self, version: str, overlay: bytes, bodies: Sequence[bytes]) -> None:
        """Keeps the objects' JSON for the next worker; the oldest files go."""
        text = orjson.dumps([orjson.Fragment(body) for body in bodies])
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = self._file(version, overlay)
            # Whole or not at all: several workers may share the folder.
            with tempfile.TemporaryDirectory(dir=self.folder) as apart:
                written = Path(apart) / target.name
                written.write_bytes(text)
                written.replace(target)
            self._forget_oldest()
        except OSError as error:
            log.info("rendered_not_kept", version=version, reason=error.strerror or "")

    def _file(self, version: str, overlay: bytes) -> Path:
        program = (self.distributions / version / "bin" / "istioctl").stat()
        made_by = (VERSION, version, program.st_size, program.st_mtime_ns)
        digest = hashlib.sha256(repr(made_by).encode() + overlay).hexdigest()
        return self.folder / f"{digest}.json"

    def _forget_oldest(self) -> None:
        files = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for file in files[:-_MOST_FILES]:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
