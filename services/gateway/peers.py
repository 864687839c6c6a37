"""What CreateMeshInstance gave, for each connection.

Servers of the generations A to C send a kubeconfig once on each new connection, and then operations
without one. The real adapter kept the last one for everybody: whoever connected last decided whose
cluster everybody changed. Here a kubeconfig counts for the connection that brought it only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from services.gateway.intake import Target

_MOST_PEERS = 1000
_IDLE = timedelta(hours=1)


@dataclass(slots=True)
class Peers:
    """Targets by peer (a connection's remote address and port), least recently used first."""

    clock: Callable[[], float]
    """Seconds, monotonic."""
    _targets: OrderedDict[str, tuple[float, Target]] = field(default_factory=OrderedDict)

    def remember(self, peer: str, target: Target | None) -> None:
        """From now on the peer's target; None takes back the one it had."""
        self._drop_idle()
        self._targets.pop(peer, None)
        if target is None:
            return
        self._targets[peer] = (self.clock(), target)
        if len(self._targets) > _MOST_PEERS:
            self._targets.popitem(last=False)

    def recall(self, peer: str) -> Target | None:
        """The peer's target, where it gave one within the last hour of use."""
        self._drop_idle()
        entry = self._targets.pop(peer, None)
        if entry is None:
            return None
        self._targets[peer] = (self.clock(), entry[1])
        return entry[1]

    def _drop_idle(self) -> None:
        oldest_allowed = self.clock() - _IDLE.total_seconds()
        while self._targets:
            peer, (used, _) = next(iter(self._targets.items()))
            if used > oldest_allowed:
                return
            del self._targets[peer]
