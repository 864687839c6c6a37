"""The gateway by which other networks of the mesh reach a cluster: Istio's east-west gateway.

It belongs to a revision as the other gateways do, so upgrades and rollouts take it along. What
marks it is an annotation of its Service, which names the network: an install that says nothing of
it keeps what is there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.chassis.kube.objects import annotations_of
from services.lifecycle.cluster.connections import Found
from services.lifecycle.cluster.inventory import Inventory
from services.lifecycle.manifests.objects import identity
from services.lifecycle.mesh.rendering import RenderedMesh, Rendering
from services.lifecycle.mesh.requests import MeshRequest

NAME = "istio-eastwestgateway"
NETWORK = "meshbus.io/network"
"""Annotation of the gateway's Service: whose network it leads to."""
_PORTS = {"status-port": 15021, "tls": 15443, "tls-istiod": 15012, "tls-webhook": 15017}


async def with_crossing(
    rendering: Rendering, request: MeshRequest, mesh: RenderedMesh, inventory: Inventory
) -> RenderedMesh:
    """The mesh with its gateway for other networks, where it has or is to have one."""
    network = crossed(inventory) if request.crossing is None else request.crossing
    if not network:
        return mesh
    beside = replace(request, profile="empty", overlay=overlay(network, request.overlay))
    gateway = await rendering.mesh(beside, version=mesh.version, tags=())
    known = {identity(planned.ref) for planned in mesh.objects}
    added = [planned for planned in gateway.objects if identity(planned.ref) not in known]
    return RenderedMesh(mesh.version, (*mesh.objects, *added))


def crossed(inventory: Inventory) -> str:
    """The network to which such a gateway of ours leads; "" without one."""
    return next(
        (network_of(found) for found in inventory.objects.values() if network_of(found)), ""
    )


def network_of(found: Found) -> str:
    """The network of a gateway's Service; "" for anything else."""
    is_gateway = found.ref.kind == "Service" and found.ref.name == NAME
    return annotations_of(found.obj).get(NETWORK, "") if is_gateway else ""


def overlay(network: str, of_mesh: dict[str, Any]) -> dict[str, Any]:
    """The spec of the IstioOperator that Istio's own script makes for such a gateway."""
    gateway = {
        "name": NAME,
        "enabled": True,
        "label": {
            "istio": "eastwestgateway",
            "app": NAME,
            "topology.istio.io/network": network,
        },
        "k8s": {
            # What comes in here stays in the network.
            "env": [{"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": network}],
            "serviceAnnotations": {NETWORK: network},
            "service": {
                "ports": [
                    {"name": name, "port": port, "targetPort": port}
                    for name, port in _PORTS.items()
                ]
            },
        },
    }
    settings = of_mesh.get("values") if isinstance(of_mesh.get("values"), dict) else {}
    shared = (settings or {}).get("global")
    spec: dict[str, Any] = {
        "components": {"ingressGateways": [gateway]},
        "values": {
            "gateways": {"istio-ingressgateway": {"injectionTemplate": "gateway"}},
            "global": {**(shared if isinstance(shared, dict) else {}), "network": network},
        },
    }
    if "hub" in of_mesh:
        spec["hub"] = of_mesh["hub"]
    return spec
