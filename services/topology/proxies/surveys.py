"""What is known of one cluster's proxies, put together from all of its control planes.

Each istiod tells of the proxies that are connected to it, so only all of them together can say that
a proxy is lost. Times are of the clock here: what counts is how long something has been seen. A
proxy that rejects is told with the last words that it had, for as long as istiod keeps them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from services.topology.cluster import kinds
from services.topology.cluster.objects import Configured, Istiod, Key, Pod, Proxy, Sync
from services.topology.cluster.state import State
from services.topology.mesh.images import PROXY, image_of, proxy_version, tag_of
from services.topology.mesh.membership import REVISION, is_gateway, is_waypoint, is_ztunnel
from services.topology.mesh.meshes import istio_name
from services.topology.proxies.told import Figures, ToldProxy, ToldType, Word

STALE_AFTER_S = 60.0
"""Acknowledgements take milliseconds, and seconds where a push is large."""
EXPIRING_WITHIN = timedelta(minutes=15)
"""Agents renew a certificate in the middle of its life, a day as a rule."""
_FORGOTTEN_AFTER_S = 60.0
"""How long the answer of an istiod that does not answer any more counts."""
_FAILING_FOR_S = 120.0
"""How long failed pushes are told; figures come once a minute."""
_SAME_END = timedelta(minutes=1)
"""Agents tell the seconds that are left, and an answer is some on its way."""
_DISCOVERY = "discovery"


@dataclass(slots=True, eq=False)
class ControlPlane:
    """One istiod and its last answers."""

    pod: Pod
    proxies: Mapping[tuple[str, str], ToldProxy] = field(default_factory=dict)
    """By namespace and pod."""
    told_s: float | None = None
    """When it last told them; None when it never did, or long ago."""
    figures: Figures | None = None
    failed_s: float | None = None
    """When errors of its pushes were seen to have become more."""
    problem: str = ""
    """Why the last question had no answer."""

    @property
    def version(self) -> str:
        """By its own word, else by its image."""
        told = self.figures.version if self.figures is not None else ""
        return told or tag_of(image_of(self.pod, _DISCOVERY))

    @property
    def revision(self) -> str:
        return self.pod.labels.get(REVISION, "default")


@dataclass(slots=True)
class _Known:
    """What is kept of one proxy between two answers."""

    uid: str
    waiting: dict[str, tuple[str, float, str]] = field(default_factory=dict)
    """By type that is sent and not acknowledged: the nonce that was acknowledged last, and since
    when it has been so, by both clocks."""
    rejected: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By type: the error and since when."""
    unknown_s: float | None = None
    """Since when no istiod knows it."""
    word: Word | None = None
    unconnected_s: float | None = None
    """Since when its agent says that it is not connected."""
    expires: datetime | None = None
    came_of: tuple[ControlPlane, str, ToldProxy] | None = None
    """What the last record came of, where it does not change by itself: the control plane, its
    version, and its word."""
    record: Proxy | None = None


@dataclass(slots=True)
class Survey:
    """The proxies of the cluster behind `state`. `clock` gives seconds, `now` the time of day."""

    state: State
    clock: Callable[[], float]
    now: Callable[[], datetime]
    planes: dict[Key, ControlPlane] = field(default_factory=dict)
    _known: dict[tuple[str, str], _Known] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)
    """When agents were asked, by the uid of their pods."""

    # --- whom to ask ----------------------------------------------------------------------------

    def control_planes(self) -> list[Pod]:
        """The istiods that run; forgets those that do not any more."""
        found = {pod.key: pod for pod in self.state.all(kinds.POD) if _is_istiod(pod)}
        self.planes = {
            key: self.planes.get(key) or ControlPlane(pod) for key, pod in sorted(found.items())
        }
        for key, pod in found.items():
            if self.planes[key].pod.uid != pod.uid:
                self.planes[key] = ControlPlane(pod)
        return [plane.pod for plane in self.planes.values()]

    def agents(self, *, most: int, turns: int) -> list[Pod]:
        """Proxies whose agents are to be asked now: those that were not for the longest, so many
        that each has its turn within `turns` calls, but not more than `most`."""
        pods = [pod for pod in self._proxied() if not is_ztunnel(pod)]
        asked = {pod.uid: self._asked.get(pod.uid, float("-inf")) for pod in pods}
        self._asked = {uid: at for uid, at in asked.items() if uid in self._asked}
        count = min(most, -(-len(pods) // turns))
        return heapq.nsmallest(count, pods, key=lambda pod: asked[pod.uid])

    def _proxied(self, namespace: str | None = None) -> Iterator[Pod]:
        for pod in self.state.all(kinds.POD, namespace):
            if pod.has_proxy and _may_run(pod):
                yield pod

    # --- what they answer -----------------------------------------------------------------------

    def told(self, istiod: Key, proxies: Iterable[ToldProxy]) -> None:
        """All that an istiod tells; it replaces what it told before."""
        plane = self.planes[istiod]
        own = istio_name(self.state)
        found: dict[tuple[str, str], ToldProxy] = {}
        for proxy in proxies:
            name = (proxy.namespace, proxy.pod)
            # A mesh over several clusters may have pods of one name in two of them.
            if name not in found or proxy.cluster == own:
                found[name] = proxy
        plane.proxies = found
        plane.told_s, plane.problem = self.clock(), ""

    def counted(self, istiod: Key, figures: Figures) -> None:
        plane = self.planes[istiod]
        if plane.figures is not None:
            before = plane.figures.push_errors
            # One that counts less than before has been restarted.
            if figures.push_errors > (before if before <= figures.push_errors else 0):
                plane.failed_s = self.clock()
        plane.figures = figures

    def failed(self, istiod: Key, problem: str) -> None:
        """An istiod that did not tell. What it told before counts for a while."""
        plane = self.planes[istiod]
        plane.problem = problem
        if plane.told_s is not None and self.clock() - plane.told_s > _FORGOTTEN_AFTER_S:
            plane.proxies, plane.told_s = {}, None

    def said(self, pod: Pod, word: Word | None) -> None:
        """What an agent says of its proxy; None when it says nothing."""
        known = self._of(pod)
        now = self._asked[pod.uid] = self.clock()
        known.word = word
        if word is None or word.is_connected is not False:
            known.unconnected_s = None
        elif known.unconnected_s is None:
            known.unconnected_s = now
        if word is not None and word.expires_in_s is not None:
            expires = self.now() + timedelta(seconds=word.expires_in_s)
            if known.expires is None or abs(expires - known.expires) > _SAME_END:
                known.expires, known.came_of = expires, None

    # --- what comes of it -----------------------------------------------------------------------

    def records(self) -> Iterator[tuple[str, list[Proxy]]]:
        """The proxies of all pods that run one, namespace by namespace, so that a caller can let
        others work in between; those that nothing is known of are left out."""
        told = self._together()
        alive: set[tuple[str, str]] = set()
        for space in self.state.namespaces(kinds.POD):
            found: list[Proxy] = []
            for pod in self._proxied(space):
                name = (pod.namespace, pod.name)
                alive.add(name)
                record = self._record(pod, told.get(name))
                if record is not None:
                    found.append(record)
            if found:
                yield space, found
        for gone in self._known.keys() - alive:
            del self._known[gone]

    def istiods(self) -> list[Istiod]:
        """The control planes as records of the state."""
        now = self.clock()
        return [
            Istiod(
                key=Key(kinds.ISTIOD, key.namespace, key.name),
                fails_pushes=plane.failed_s is not None and now - plane.failed_s <= _FAILING_FOR_S,
            )
            for key, plane in self.planes.items()
        ]

    def versions(self) -> list[dict[str, str]]:
        """Which control planes there are: each revision and version once, in order."""
        found = {(plane.revision, plane.version) for plane in self.planes.values()}
        return [{"revision": revision, "version": version} for revision, version in sorted(found)]

    def _together(self) -> dict[tuple[str, str], tuple[ControlPlane, ToldProxy]]:
        """Of a proxy that two istiods know, for it has just moved, the newer word counts."""
        found: dict[tuple[str, str], tuple[ControlPlane, ToldProxy]] = {}
        for plane in self.planes.values():
            for name, proxy in plane.proxies.items():
                other = found.get(name)
                if other is None or proxy.sent_at > other[1].sent_at:
                    found[name] = (plane, proxy)
        return found

    def _record(self, pod: Pod, told: tuple[ControlPlane, ToldProxy] | None) -> Proxy | None:
        known = self._of(pod)
        is_expiring = known.expires is not None and (known.expires - self.now() <= EXPIRING_WITHIN)
        if told is None:
            known.came_of = None
            return self._unknown(pod, known, is_expiring)
        known.unknown_s = None
        plane, proxy = told
        came_of = (plane, plane.version, proxy)
        record = known.record
        if known.came_of == came_of and record is not None and record.is_expiring == is_expiring:
            return record
        configured = tuple(self._configured(known, one) for one in proxy.types)
        known.record = Proxy(
            key=Key(kinds.PROXY, pod.namespace, pod.name),
            type=proxy.type,
            version=proxy.version or proxy_version(pod),
            istiod=plane.pod.key,
            istiod_version=plane.version,
            configured=configured,
            expires=_minute(known.expires),
            is_expiring=is_expiring,
        )
        # What waits to be acknowledged becomes stale.
        is_steady = all(one.sync is not Sync.SENT for one in proxy.types)
        known.came_of = came_of if is_steady else None
        return known.record

    def _unknown(self, pod: Pod, known: _Known, is_expiring: bool) -> Proxy | None:
        """The record of a proxy that no istiod tells of."""
        is_lost = self._is_lost(pod, known)
        if not is_lost and known.word is None:
            return None
        return Proxy(
            key=Key(kinds.PROXY, pod.namespace, pod.name),
            type=_type(pod),
            version=proxy_version(pod),
            is_lost=is_lost,
            expires=_minute(known.expires),
            is_expiring=is_expiring,
        )

    def _configured(self, known: _Known, told: ToldType) -> Configured:
        if told.sync is not Sync.REJECTED:
            known.rejected.pop(told.type, None)
        if told.sync is not Sync.SENT:
            known.waiting.pop(told.type, None)
        match told.sync:
            case Sync.REJECTED:
                error, since = known.rejected.get(told.type, ("", ""))
                if error != told.error:
                    since = self._time()
                    known.rejected[told.type] = (told.error, since)
                return Configured(told.type, Sync.REJECTED, since, told.error)
            case Sync.SENT:
                waiting = known.waiting.get(told.type)
                if waiting is None or waiting[0] != told.acked:
                    waiting = (told.acked, self.clock(), self._time())
                    known.waiting[told.type] = waiting
                if self.clock() - waiting[1] > STALE_AFTER_S:
                    return Configured(told.type, Sync.STALE, waiting[2])
        return _plain(told.type, told.sync)

    def _is_lost(self, pod: Pod, known: _Known) -> bool:
        """Where the istiods do not tell, the agent's own word has to do."""
        now = self.clock()
        if not self._all_tell(pod):
            known.unknown_s = None
            since = known.unconnected_s
            return since is not None and now - since > STALE_AFTER_S
        if known.unknown_s is None:
            known.unknown_s = now
        # One that is connected has a control plane outside of the cluster.
        is_connected = known.word is not None and known.word.is_connected is True
        return not is_connected and now - known.unknown_s > STALE_AFTER_S

    def _all_tell(self, pod: Pod) -> bool:
        """Whether every istiod tells, and one of them is of the pod's revision."""
        if not self.planes or any(plane.told_s is None for plane in self.planes.values()):
            return False
        revision = pod.pod_annotations.get(REVISION)
        return revision is None or any(p.revision == revision for p in self.planes.values())

    def _of(self, pod: Pod) -> _Known:
        known = self._known.get((pod.namespace, pod.name))
        if known is None or known.uid != pod.uid:
            known = self._known[pod.namespace, pod.name] = _Known(pod.uid)
        return known

    def _time(self) -> str:
        return self.now().isoformat(timespec="seconds")

    # --- for people -----------------------------------------------------------------------------

    @property
    def problems(self) -> list[str]:
        """What the last answers lack, and why."""
        return [plane.problem for plane in self.planes.values() if plane.problem]

    def answer(
        self, namespaces: frozenset[str] = frozenset(), standings: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """The control planes, and the proxies of the namespaces that stand so; of all without
        any."""
        pods = [pod for pod in self._proxied() if not namespaces or pod.namespace in namespaces]
        told = [self._proxy_json(pod) for pod in sorted(pods, key=lambda pod: pod.key)]
        return {
            "controlPlanes": [_plane_json(plane) for plane in self.planes.values()],
            "proxies": [one for one in told if not standings or one["standing"] in standings],
        }

    def _proxy_json(self, pod: Pod) -> dict[str, Any]:
        found: Proxy | None = self.state.get(kinds.PROXY, pod.namespace, pod.name)
        record = found or Proxy(key=pod.key, type=_type(pod), version=proxy_version(pod))
        owner, word = pod.owner, self._of(pod).word
        return {
            "namespace": pod.namespace,
            "pod": pod.name,
            "workload": owner.name if owner is not None else pod.name,
            "type": record.type,
            "version": record.version,
            "istiod": f"{record.istiod.namespace}/{record.istiod.name}" if record.istiod else "",
            "istiodVersion": record.istiod_version,
            "standing": record.standing,
            "configuration": [_configured_json(one) for one in record.configured],
            "certificateExpires": record.expires,
            "rejectedSinceStart": word.rejected if word is not None else None,
        }


def _configured_json(one: Configured) -> dict[str, str]:
    told = {"type": one.type, "sync": one.sync.value, "since": one.since, "error": one.error}
    return {name: value for name, value in told.items() if value}


def _plane_json(plane: ControlPlane) -> dict[str, Any]:
    figures = plane.figures or Figures()
    expires = figures.root_expires_s
    return {
        "namespace": plane.pod.namespace,
        "pod": plane.pod.name,
        "revision": plane.revision,
        "version": plane.version,
        "tells": plane.told_s is not None,
        "problem": plane.problem,
        "proxies": len(plane.proxies) or sum(figures.connected.values()),
        "pushes": dict(figures.pushes),
        "pushErrors": figures.push_errors,
        "rejects": dict(figures.rejects),
        "rootExpires": _moment(expires) if expires else "",
    }


@lru_cache(maxsize=256)
def _plain(type: str, sync: Sync) -> Configured:
    return Configured(type, sync)


def _minute(moment: datetime | None) -> str:
    return moment.isoformat(timespec="minutes") if moment is not None else ""


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="minutes")
    except (ValueError, OverflowError, OSError):
        return ""


def _may_run(pod: Pod) -> bool:
    """Whether the proxy of a pod should be running. One that runs as an init container and does not
    become ready keeps its whole pod pending."""
    if pod.is_terminating:
        return False
    is_first = any(one.is_init for one in pod.containers if one.name == PROXY)
    return pod.phase == "Running" or (is_first and pod.phase == "Pending" and bool(pod.ip))


def _is_istiod(pod: Pod) -> bool:
    is_discovery = any(container.name == _DISCOVERY for container in pod.containers)
    named = pod.labels.get("app") == "istiod" or pod.labels.get("istio") == "pilot"
    return is_discovery and named and pod.phase == "Running" and not pod.is_terminating


def _type(pod: Pod) -> str:
    """As istiod calls it."""
    if is_waypoint(pod.pod_labels):
        return "waypoint"
    if is_ztunnel(pod):
        return "ztunnel"
    return "router" if is_gateway(pod) else "sidecar"
