"""What a client sees of the configuration: which of the objects that name a host apply to requests
of a workload in the mesh or of a gateway, by istiod's rules of visibility and precedence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.topology.cluster import kinds
from services.topology.cluster.hosts import covers, expanded, service_of
from services.topology.cluster.objects import Config, Key, Service
from services.topology.cluster.state import State
from services.topology.mesh import routing as routes
from services.topology.mesh.registry import destination, is_visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    state: State = field(kw_only=False)
    namespace: str
    root: str
    """The mesh's root namespace."""
    gateways: list[Key]
    """Gateways that it serves; none means that it is a client in the mesh."""

    def target(self, host: str) -> Service | Config | None:
        """The Service or ServiceEntry behind a host; of several entries the oldest."""
        found = destination(self.state, host, self.namespace)
        if found is None:
            return None
        return found.service or found.entries[0]

    def routing(self, host: str) -> Config | None:
        """The object whose routes apply: that with the narrowest host, of several the oldest.
        A VirtualService goes before routes of the Gateway API."""
        found = []
        for order, kind in enumerate(routes.ROUTING):
            for config in self.state.all(kind):
                pattern = (
                    self._named_by(config, host) if is_visible(config, self.namespace) else None
                )
                if pattern is not None:
                    width = (pattern.startswith("*"), -len(pattern))
                    found.append(((order > 0, *width, config.created, config.key), config))
        return min(found, key=lambda entry: entry[0])[1] if found else None

    def _named_by(self, config: Config, host: str) -> str | None:
        """The narrowest of an object's hosts that means the one that is asked for."""
        hosts: Iterable[str] = routes.mesh_hosts(config)
        if self.gateways:
            if not set(self.gateways) & set(routes.gateways(config)):
                return None
            name = "hosts" if config.key.kind == kinds.VIRTUAL_SERVICE else "hostnames"
            hosts = [expanded(str(h), config.namespace) for h in config.spec.get(name) or ("*",)]
        patterns = [pattern for pattern in hosts if covers(pattern, host)]
        return min(patterns, key=lambda p: (p.startswith("*"), -len(p)), default=None)

    def rule(self, host: str) -> Config | None:
        """The DestinationRule for a host: the client's namespace before the service's before the
        root namespace, and there the narrowest host."""
        name = service_of(host)
        spaces = (self.namespace, name[0] if name else "", self.root)
        for space in dict.fromkeys(spaces):
            rules: list[Config] = list(self.state.all(kinds.DESTINATION_RULE, space))
            found: list[tuple[tuple[bool, int, str, str], Config]] = []
            for rule in rules:
                pattern = expanded(str(rule.spec.get("host") or ""), space)
                if pattern and covers(pattern, host) and is_visible(rule, self.namespace):
                    width = (pattern.startswith("*"), -len(pattern), rule.created, rule.name)
                    found.append((width, rule))
            if found:
                return min(found, key=lambda entry: entry[0])[1]
        return None
