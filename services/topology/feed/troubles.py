"""What is wrong anywhere: findings and drift of all clusters, for views that list them.

A browser gets all of it once, and each change after that. What a cluster has is text already, and
is put together without being decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from services.topology.feed import rendering
from services.topology.feed.deltas import DRIFT_PART, FINDINGS_PART, Delta
from services.topology.feed.followers import Numbered
from services.topology.feed.views import Views, dumped

TOPIC = "troubles"


@dataclass(slots=True, kw_only=True)
class Troubles:
    """The topic of all clusters' findings and drift."""

    views: Views
    topic: Numbered = field(default_factory=lambda: Numbered(TOPIC))
    _stop: Callable[[], None] | None = None

    def start(self) -> None:
        self._stop = self.views.listen(self._heard)

    def close(self) -> None:
        if self._stop is not None:
            self._stop()

    def whole(self) -> bytes:
        """The frame with everything: what is not in it is not there."""
        clusters = [self._cluster(name) for name in sorted(self.views.clusters)]
        return b'event: troubles\ndata: {"whole":true,"clusters":[%b]}\n\n' % b",".join(clusters)

    def _cluster(self, cluster: str) -> bytes:
        view = self.views.view(cluster)
        if view is None:
            return b'{"cluster":%b,"gone":true}' % orjson.dumps(cluster)
        return b'{"cluster":%b,"whole":true,"findings":%b,"drift":%b}' % (
            orjson.dumps(cluster),
            rendering.by_id(view.items(FINDINGS_PART)),
            rendering.by_id(view.items(DRIFT_PART)),
        )

    def _heard(self, delta: Delta) -> None:
        if not delta.parts:
            told = self._cluster(delta.cluster)
        else:
            parts = [
                b'"%b":%b' % (name, dumped(delta.parts[part]))
                for name, part in ((b"findings", FINDINGS_PART), (b"drift", DRIFT_PART))
                if delta.parts.get(part)
            ]
            if not parts:
                return
            told = b'{"cluster":%b,%b}' % (orjson.dumps(delta.cluster), b",".join(parts))
        self.topic.tell(self.topic.last + 1, b'event: troubles\ndata: {"clusters":[%b]}\n\n' % told)
