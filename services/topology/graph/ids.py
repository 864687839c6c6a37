"""Names of nodes and edges: Kiali's, so that positions and links stored by them stay valid.

Inside, a node is a tuple (it says what the node is), and its id is computed when it is published.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TypeAlias

from services.topology.feed.deltas import View
from services.topology.telemetry.traffic import Called, Peer

NodeKey: TypeAlias = tuple[str, str, str, str]
"""Form (below), cluster, namespace, name."""
EdgeKey: TypeAlias = tuple[NodeKey, NodeKey, str]
"""Source, target, and what tells parallel edges apart: a protocol, "" for an idle one, or the
place in the configuration that made it."""
Name: TypeAlias = tuple[str, str]
"""Namespace and name of a workload or service of this cluster."""

WORKLOAD, APP, VERSIONED, SERVICE, BOX, NOBODY = "wl", "app", "vapp", "svc", "box", "unknown"
UNKNOWN = "unknown"
"""Istio's word for what telemetry does not know."""


def text_of(key: NodeKey) -> str:
    """The id string that Kiali hashes."""
    if key[0] == NOBODY:
        return f"{key[1]}_unknown_source"
    return "_".join(key)


# Enough for what the views make at a time. What went is in it until it is full, so a larger one is
# hours of growth where objects come and go.
@lru_cache(maxsize=2048)
def node_id(key: NodeKey) -> str:
    return sha256(text_of(key).encode()).hexdigest()


def edge_id(key: EdgeKey) -> str:
    return id_between(node_id(key[0]), node_id(key[1]), key[2])


def id_between(source: str, target: str, what: str) -> str:
    """Id of an edge between nodes with these ids."""
    return sha256(f"{source}.{target}.{what}".encode()).hexdigest()


def service_node(cluster: str, name: Name) -> NodeKey:
    return (SERVICE, cluster, *name)


def workload_form(view: View) -> str:
    """Form of the nodes that stand for workloads; in the service view they are shown only while no
    service stands for them."""
    if view is View.APP:
        return APP
    return VERSIONED if view is View.VERSIONED_APP else WORKLOAD


def workload_node(view: View, cluster: str, name: Name, app: str) -> NodeKey:
    """The node that stands for a workload of a known app."""
    return (workload_form(view), cluster, name[0], app if view is View.APP else name[1])


def app_of(peer: Peer) -> str:
    """Its canonical service, by Istio's rule the workload's name where telemetry has none."""
    return peer.app or peer.workload


def peer_node(view: View, cluster: str, peer: Peer) -> NodeKey | None:
    """The node that stands for one end of a flow; None where the view has none for it."""
    space, app = peer.namespace or UNKNOWN, app_of(peer)
    if not app:
        return None
    if view is View.APP:
        return (APP, cluster, space, app)
    if view is not View.VERSIONED_APP:
        return (WORKLOAD, cluster, space, peer.workload) if peer.workload else None
    if peer.workload:
        return (VERSIONED, cluster, space, peer.workload)
    if peer.version:
        return (VERSIONED, cluster, space, f"{app}_{peer.version}")
    return (APP, cluster, space, app)


def called_name(called: Called) -> Name:
    return called.namespace or UNKNOWN, called.name
