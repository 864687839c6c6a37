"""Rendering by the wanted version's own istioctl.

`istioctl manifest generate` works offline from its embedded charts. The overlay goes in by stdin
and the manifest comes out by stdout, so nothing touches the disk; the environment is empty, so it
finds no kubeconfig.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.chassis.errors import RenderFailed, shortened
from services.chassis.telemetry import traces
from services.lifecycle.cluster.versions import Version


@dataclass(frozen=True, slots=True)
class Distributions:
    """The Istio distributions of one folder."""

    folder: Path
    timeout: timedelta

    def versions(self) -> list[str]:
        """Versions with a runnable istioctl, newest first."""
        found = []
        if self.folder.is_dir():
            for entry in self.folder.iterdir():
                version = Version.parse(entry.name)
                if version is not None and os.access(entry / "bin" / "istioctl", os.X_OK):
                    found.append((version, entry.name))
        return [name for _, name in sorted(found, reverse=True)]

    async def render(self, version: str, overlay: bytes) -> str:
        """The manifest's YAML; `version` must be one of `versions()`."""
        with traces.span("istioctl manifest generate", attributes={"istio.version": version}):
            return await self._run(self.folder / version / "bin" / "istioctl", overlay)

    async def _run(self, program: Path, overlay: bytes) -> str:
        process = await asyncio.create_subprocess_exec(
            str(program),
            "manifest",
            "generate",
            "--filename",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"HOME": "/nonexistent", "KUBECONFIG": os.devnull},
            # A signal that asks this service to stop goes to its whole group (Ctrl-C, process 1 of
            # a container), and what is rendered now is to be rendered to its end.
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self.timeout.total_seconds()):
                output, complaint = await process.communicate(overlay)
        except TimeoutError:
            raise RenderFailed(
                "istioctl took too long to render the manifest",
                cause="the machine is overloaded or the overlay is enormous",
                remedy="repeat the operation, or raise MESHBUS_LIFECYCLE_RENDER_TIMEOUT",
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        status = process.returncode or 0
        if status < 0:
            raise RenderFailed(
                f"istioctl was killed (signal {-status}) while it rendered the manifest",
                cause="the machine or the container is short of memory",
                remedy="give lifecycle more memory, and repeat the operation",
            )
        if status > 0:
            raise _explained(complaint.decode("utf-8", "replace"))
        return output.decode()


def _explained(complaint: str) -> RenderFailed:
    """istioctl's last word, without its prefixes."""
    lines = [line for line in complaint.splitlines() if line.strip()]
    text = lines[-1] if lines else "it ended without a word"
    text = text.removeprefix("Error:").strip().removeprefix("could not unmarshal:").strip()
    return RenderFailed(
        "the mesh's manifest cannot be rendered from the overlay",
        cause=f"istioctl says: {shortened(text)}",
    )
