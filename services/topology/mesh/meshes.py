"""A mesh's own settings, as istiod's ConfigMaps in the system namespace say them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Key
from services.topology.cluster.state import State
from services.topology.mesh.registry import Reads

SYSTEM_NAMESPACE = "istio-system"
SETTINGS = "istio"
"""Name of the ConfigMap with MeshConfig."""
DEFAULT_NAME = "Kubernetes"
"""Istio's name for a cluster that has none."""
_INJECTOR = "istio-sidecar-injector"


@dataclass(frozen=True, slots=True)
class Mesh:
    """The settings of MeshConfig that are read here; Istio's defaults where it is silent."""

    system_namespace: str = SYSTEM_NAMESPACE
    """Where istiod and its settings are."""
    root_namespace: str = SYSTEM_NAMESPACE
    trust_domain: str = "cluster.local"
    auto_mtls: bool = True
    lets_out_any: bool = True
    """Whether proxies let out traffic to hosts that the mesh does not know."""
    is_known: bool = False
    """Whether a MeshConfig was found."""
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Config | None) -> Mesh:
        """From the record of the ConfigMap: `reading.py` has parsed its YAML."""
        config = settings.spec.get("mesh") if settings is not None else None
        if settings is None or not isinstance(config, dict):
            return cls()
        return cls(
            system_namespace=settings.namespace,
            root_namespace=str(config.get("rootNamespace") or settings.namespace),
            trust_domain=str(config.get("trustDomain") or "cluster.local"),
            auto_mtls=config.get("enableAutoMtls") is not False,
            lets_out_any=_outbound_mode(config) != "REGISTRY_ONLY",
            is_known=True,
            config=config,
        )


def _outbound_mode(config: Mapping[str, Any]) -> Any:
    policy = config.get("outboundTrafficPolicy")
    return policy.get("mode") if isinstance(policy, dict) else None


def mesh_of(reads: Reads) -> Mesh:
    """The mesh of a cluster, by the settings of the unnamed revision, else of a named one; in
    istio-system before any other namespace."""
    found = [
        config
        for config in reads.all(kinds.CONFIG_MAP)
        if f"{config.name}-".startswith(f"{SETTINGS}-") and "mesh" in config.spec
    ]
    return Mesh.of(min(found, key=_precedence, default=None))


def _precedence(settings: Config) -> tuple[bool, bool, Key]:
    return settings.name != SETTINGS, settings.namespace != SYSTEM_NAMESPACE, settings.key


def istio_name(state: State) -> str:
    """Istio's name for the cluster: from the injector's values, which every istiod has."""
    return _injected(state, "multiCluster", "clusterName") or DEFAULT_NAME


def mesh_id(state: State) -> str:
    """The mesh that a cluster is part of; Istio takes the trust domain where nobody named it."""
    return _injected(state, "meshID") or mesh_of(state).trust_domain


def _injected(state: State, *steps: str) -> str:
    """A value below `global`; "" where no injector has it."""
    injectors = [c for c in state.all(kinds.CONFIG_MAP) if c.name.startswith(_INJECTOR)]
    # In an order of their own, so that the answer does not depend on which one came first.
    for config in sorted(injectors, key=lambda config: config.key):
        found: Any = config.spec.get("values")
        # People write these values: anything may stand there.
        for step in ("global", *steps):
            found = found.get(step) if isinstance(found, dict) else None
        if found and isinstance(found, str):
            return found
    return ""
