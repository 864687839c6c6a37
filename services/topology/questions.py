"""What the page asks besides the live views; the composition root answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from services.topology.cluster.objects import Key
from services.topology.feed.rendering import PastParts


class Questions(Protocol):
    """Every method raises a `MeshbusError` when it has no answer."""

    async def object(self, cluster: str, key: Key) -> Mapping[str, Any] | None:
        """A configuration object as a manifest; None when there is none."""

    async def history(self, cluster: str, moment: datetime) -> PastParts:
        """All parts as they were at a moment; `HistoryGone` when that is not kept."""

    async def moments(self, cluster: str) -> Sequence[datetime]:
        """When something changed, oldest first."""

    async def compliance(self, cluster: str | None) -> Mapping[str, Any]:
        """The report on one cluster, or on all."""

    async def compliance_csv(self, cluster: str | None) -> str: ...

    async def compliance_html(self, cluster: str | None) -> str:
        """A whole page. Inline styles and scripts are forbidden by the page's security policy: it
        links `/static/report.css`."""
