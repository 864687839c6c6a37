"""Kubeconfigs come in: each is parsed once, and a request's are all good or all refused.

Parsing YAML costs more than everything else that ApplyOperation does, and Meshery sends the same
text with every click; so parsed ones are kept by the hash of their text.

Servers of the generations A to C send a kubeconfig once on each new connection, and then operations
without one. The real adapter kept the last one for all of them: the server that connected last
decided whose cluster was changed. Here a kubeconfig counts for the connection that brought it only,
and on it for the identity that did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cachetools import LRUCache, TTLCache

from services.chassis.errors import (
    KubeconfigMalformed,
    MalformedRequest,
    OptionsMalformed,
    shortened,
)
from services.chassis.kube.kubeconfigs import (
    Kubeconfig,
    kubeconfig_budget,
    parse_kubeconfig,
    select_context,
)
from services.chassis.kube.labelling import own_labels, region_of
from services.chassis.messages import ClusterRecord
from services.chassis.reading.aside import read_aside
from services.chassis.reading.limits import Budget

_MOST_KUBECONFIGS = 256
_LONGEST_NAME = 128
_MOST_PEERS = 1000
_PEER_IDLE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster that an operation works on, and the kubeconfig that reaches it."""

    config: Kubeconfig | None
    """None for a registered cluster, whose kubeconfig the gateway cannot read."""
    text: str = field(repr=False)
    digest: str
    """Hash of the text: tells a renewed credential from the known one."""
    cluster: str
    """The cluster's token on the bus."""
    name: str
    """What people call the cluster."""
    region: str = ""
    """The one that its labels name."""

    @property
    def secrets(self) -> Sequence[str]:
        """What must not be in a log while the operation is accepted."""
        return list(self.config.secrets) if self.config is not None else []


def registered(record: ClusterRecord) -> Target:
    """The target of a registered cluster."""
    return Target(None, "", "", record.cluster, record.name, region_of(record.labels))


@dataclass(slots=True)
class Intake:
    """Parses kubeconfigs, and remembers the last ones."""

    allow_insecure: bool = False
    most_clusters: int = 100
    """Kubeconfigs in one call."""
    _known: LRUCache[str, Target] = field(
        default_factory=lambda: LRUCache(maxsize=_MOST_KUBECONFIGS)
    )

    async def targets(self, texts: Sequence[str]) -> list[Target]:
        """One target for each cluster, in the order given; raises for the first bad one."""
        if len(texts) > self.most_clusters:
            raise MalformedRequest(
                f"the request holds {len(texts)} kubeconfigs, the limit is {self.most_clusters}"
            )
        found: dict[str, Target] = {}
        budget, size = kubeconfig_budget(), sum(map(len, texts))
        for text in texts:
            target = await self._target(text, budget, size=size)
            found.setdefault(target.cluster, target)
        return list(found.values())

    async def target(self, text: str) -> Target:
        """The target of one kubeconfig; raises `KubeconfigMalformed` or `KubeconfigRefused`."""
        return await self._target(text, kubeconfig_budget(), size=len(text))

    async def _target(self, text: str, budget: Budget, *, size: int) -> Target:
        """The same for one of a request's kubeconfigs, which have `size` characters together."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = self._known.get(digest)
        if known is not None:
            return known
        config = await read_aside(
            lambda: parse_kubeconfig(text, allow_insecure=self.allow_insecure, budget=budget),
            size=size,
        )
        target = Target(
            config=config,
            text=text,
            digest=digest,
            cluster=config.cluster,
            name=shortened(config.context)[:_LONGEST_NAME],
            region=_region(config),
        )
        self._known[digest] = target
        return target

    async def chosen(self, kubeconfig: bytes, *, context: str) -> Target | None:
        """The target that CreateMeshInstance names; None for a call without a kubeconfig."""
        try:
            text = kubeconfig.decode()
        except UnicodeDecodeError:
            raise KubeconfigMalformed("the kubeconfig is not UTF-8") from None
        if not text.strip():
            return None
        if context:
            whole = text
            text = await read_aside(lambda: select_context(whole, context), size=len(whole))
        return await self.target(text)


def _region(config: Kubeconfig) -> str:
    try:
        return region_of(own_labels(config.extensions))
    except OptionsMalformed:
        return ""  # lifecycle warns of it, when it registers the cluster


class Peers:
    """Targets that CreateMeshInstance gave, by the name of the connection (`Caller.connection`)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds and never goes back."""
        self._targets: TTLCache[str, Target] = TTLCache(
            maxsize=_MOST_PEERS, ttl=_PEER_IDLE_S, timer=clock
        )

    def remember(self, peer: str, target: Target | None) -> None:
        """Keeps the peer's target; None removes it."""
        self._targets.pop(peer, None)
        if target is not None:
            self._targets[peer] = target

    def recall(self, peer: str) -> Target | None:
        """The peer's target, if it was given or used within the last hour."""
        target: Target | None = self._targets.pop(peer, None)
        self.remember(peer, target)
        return target
