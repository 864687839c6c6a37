"""What istiod and the proxies' agents tell, read from their pages; only what is kept is taken.

/debug/syncz        of istiod: each proxy connected to it, and what of its configuration was sent,
                    acknowledged, or rejected with which words
/metrics            of istiod: its version, pushes, and when its root certificate ends
/stats/prometheus   of an agent: when the workload's certificate ends, and a few of its Envoy's own
                    counters, for the agent passes the query on to its Envoy
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from services.chassis.errors import shortened
from services.chassis.memory import uncollected
from services.chassis.reading.jsons import read_json
from services.chassis.reading.limits import Budget
from services.chassis.telemetry.redaction import redacted_text
from services.topology.cluster.forms import text
from services.topology.cluster.objects import Sync

AGENTS_QUERY = {
    "filter": r"^(cluster\.xds-grpc;?\.upstream_rq_active"
    r"|(cluster_manager\.cds|listener_manager\.lds)\.update_rejected)$"
}
"""Of its Envoy an agent's page has these; its own metrics stand before them."""

_XDS = "xds-grpc"
_SHORT = {
    "envoy.config.cluster.v3.Cluster": "CDS",
    "envoy.config.listener.v3.Listener": "LDS",
    "envoy.config.endpoint.v3.ClusterLoadAssignment": "EDS",
    "envoy.config.route.v3.RouteConfiguration": "RDS",
    "envoy.config.core.v3.TypedExtensionConfig": "ECDS",
    "envoy.extensions.transport_sockets.tls.v3.Secret": "SDS",
    "istio.networking.nds.v1.NameTable": "NDS",
    "istio.mesh.v1alpha1.ProxyConfig": "PCDS",
    "istio.workload.Address": "WDS",
    "istio.security.Authorization": "WADS",
}
_FORMER = {
    "cluster": "CDS",
    "listener": "LDS",
    "route": "RDS",
    "endpoint": "EDS",
    "extensionconfig": "ECDS",
}
"""Istio before 1.23 tells these only, each in fields of its own, and no error."""
# A proxy in syncz has about a hundred: this is a mesh of ten thousand.
_MOST_VALUES = 2_000_000


@dataclass(frozen=True, slots=True)
class ToldType:
    """One type of configuration; those of which there is nothing else to say are shared."""

    type: str
    sync: Sync
    """Never `STALE`, since an istiod tells no past."""
    acked: str = ""
    """Where something was sent and not acknowledged: the nonce that was acknowledged last."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class ToldProxy:
    """What an istiod says of a proxy that is connected to it."""

    namespace: str
    pod: str
    cluster: str
    type: str
    version: str
    types: tuple[ToldType, ...]
    sent_at: str
    """When it was last sent anything, as istiod writes times."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What an istiod counts, since it started."""

    version: str = ""
    connected: Mapping[str, int] = field(default_factory=dict)
    """Proxies by their version."""
    pushes: Mapping[str, int] = field(default_factory=dict)
    """By type, in istiod's words: `cds`."""
    push_errors: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)
    """What proxies rejected, by type."""
    root_expires_s: float | None = None
    """Unix time."""


@dataclass(frozen=True, slots=True)
class Word:
    """What an agent says of its own proxy."""

    expires_in_s: float | None = None
    """Until its certificate ends; negative when it has."""
    is_connected: bool | None = None
    """Whether its Envoy is being sent configuration."""
    rejected: int = 0
    """How often its Envoy has rejected clusters or listeners since it started."""


def read_syncz(body: bytes) -> Iterator[ToldProxy]:
    """One after the other, so that a caller can let others work in between. Raises `ValueError` for
    another form, and `TooManyValues`."""
    with uncollected():
        found = read_json(body, budget=Budget.fresh(nodes=_MOST_VALUES))
    if not isinstance(found, list):
        raise ValueError("not a list of proxies")
    return _proxies(found)


def _proxies(found: list[Any]) -> Iterator[ToldProxy]:
    """Most proxies of a mesh have the same types in the same state, and share one list of them."""
    shared: dict[tuple[ToldType, ...], tuple[ToldType, ...]] = {}
    # What was read is let go as it is taken, and not all at the end.
    found.reverse()
    while found:
        one = found.pop()
        # A client that is no pod's, such as a question of istioctl's, has another name.
        if isinstance(one, dict) and (name := one.get("proxy")) and isinstance(name, str):
            pod, _, namespace = name.rpartition(".")
            if pod and namespace:
                types = tuple(_types(one))
                yield ToldProxy(
                    namespace=namespace,
                    pod=pod,
                    cluster=text(one, "cluster_id"),
                    type=text(one, "proxy_type"),
                    version=text(one, "istio_version"),
                    types=shared.setdefault(types, types),
                    sent_at=max(_sent_times(one), default=""),
                )


def _types(told: Mapping[str, Any]) -> Iterator[ToldType]:
    resources = told.get("resources")
    if isinstance(resources, dict) and resources:
        for url in sorted(resources):
            one = resources[url]
            if isinstance(one, dict):
                yield _type(short_type(url), one)
        return
    for name, short in _FORMER.items():
        if f"{name}_sent" in told:
            nonces = {"sent": told[f"{name}_sent"], "acked": told.get(f"{name}_acked")}
            yield _type(short, nonces)


def _type(short: str, told: Mapping[str, Any]) -> ToldType:
    if error := told.get("lastError"):
        # Envoy's words may quote what it was sent.
        return ToldType(short, Sync.REJECTED, error=shortened(redacted_text(str(error))))
    sent, acked = told.get("sent") or "", told.get("acked") or ""
    if sent and sent != acked:
        return ToldType(short, Sync.SENT, str(acked))
    return _plain(short, Sync.SYNCED if sent else Sync.NOT_SENT)


@lru_cache(maxsize=256)
def _plain(short: str, sync: Sync) -> ToldType:
    return ToldType(short, sync)


@lru_cache(maxsize=256)
def short_type(url: str) -> str:
    """As istioctl calls a type: `CDS`; the last part of the URL of one that it does not know."""
    name = url.rpartition("/")[2]
    return _SHORT.get(name, name)


def _sent_times(told: Mapping[str, Any]) -> Iterator[str]:
    resources = told.get("resources")
    for one in resources.values() if isinstance(resources, dict) else ():
        if isinstance(one, dict) and isinstance(at := one.get("sentTime"), str):
            yield at


# --- metrics --------------------------------------------------------------------------------------

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SEND_ERROR = "_senderr"


def read_figures(body: bytes) -> Figures:
    """From istiod's metrics; what is not there is zero."""
    version, errors, expires = "", 0, None
    connected: dict[str, int] = {}
    pushes: dict[str, int] = {}
    rejects: dict[str, int] = {}
    for name, labels, value in _samples(body, ("istio_build", "pilot_", "citadel_server_root")):
        kind = labels.get("type", "")
        match name:
            case "istio_build" if labels.get("component") == "pilot":
                version = labels.get("tag", "")
            case "pilot_xds":
                connected[labels.get("version", "")] = int(value)
            case "pilot_xds_pushes" if kind.endswith(_SEND_ERROR):
                errors += int(value)
            case "pilot_xds_pushes":
                pushes[kind] = int(value)
            case "pilot_total_xds_internal_errors" | "pilot_xds_write_timeout":
                errors += int(value)
            case "pilot_total_xds_rejects":
                rejects[kind] = int(value)
            case "citadel_server_root_cert_expiry_timestamp":
                expires = value
    return Figures(version, connected, pushes, errors, rejects, expires)


def read_word(body: bytes) -> Word:
    """From the page of an agent, whose beginning is enough."""
    expires: float | None = None
    is_connected: bool | None = None
    rejected = 0
    names = ("istio_agent_cert_expiry_seconds", "envoy_cluster_", "envoy_listener_manager_lds")
    for name, labels, value in _samples(body, names):
        match name:
            case "istio_agent_cert_expiry_seconds" if labels.get("resource_name") == "default":
                expires = value
            case "envoy_cluster_upstream_rq_active" if labels.get("cluster_name") == _XDS:
                is_connected = value > 0
            case (
                "envoy_cluster_manager_cds_update_rejected"
                | "envoy_listener_manager_lds_update_rejected"
            ):
                rejected += int(value)
    return Word(expires, is_connected, rejected)


def _samples(body: bytes, names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str], float]]:
    """The samples of metrics whose names begin so; lines that are none are passed over."""
    for line in body.decode("utf-8", "replace").splitlines():
        if not line.startswith(names):
            continue
        series, _, rest = line.rpartition("} ") if "{" in line else line.partition(" ")
        name, _, labels = series.partition("{")
        try:
            value = float(rest.split(" ", 1)[0])
        except ValueError:
            continue
        if value == value and abs(value) != float("inf"):
            yield name, dict(_LABEL.findall(labels)), value
