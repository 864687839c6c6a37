"""What a client sees of the configuration: which of the objects that name a host apply to requests
of a workload in the mesh or of a gateway, by istiod's rules of visibility and precedence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.topology.cluster import kinds
from services.topology.cluster.forms import entries
from services.topology.cluster.hosts import covers, expanded, service_of
from services.topology.cluster.objects import Config, Key, Service
from services.topology.cluster.state import State
from services.topology.mesh import routing as routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    state: State = field(kw_only=False)
    namespace: str
    root: str
    """The mesh's root namespace."""
    gateways: list[Key]
    """Gateways that it serves; none means that it is a client in the mesh."""

    def target(self, host: str) -> Service | Config | None:
        """The Service or ServiceEntry behind a host; of entries the one with the narrowest."""
        name = service_of(host)
        if name is not None:
            service: Service | None = self.state.get(kinds.SERVICE, *name)
            if service is not None:
                return service
        found = [
            (-len(pattern), entry.created, entry.key, entry)
            for entry in self.state.all(kinds.SERVICE_ENTRY)
            if self._is_visible(entry)
            for pattern in entries(entry.spec.get("hosts"))
            if covers(str(pattern), host)
        ]
        return min(found, key=lambda one: one[:3])[3] if found else None

    def _is_visible(self, config: Config) -> bool:
        """Whether its `exportTo` lets clients of the namespace see an object."""
        exported = entries(config.spec.get("exportTo")) or ("*",)
        return any(
            space in ("*", self.namespace) or (space == "." and config.namespace == self.namespace)
            for space in exported
        )

    def routing(self, host: str) -> Config | None:
        """The object whose routes apply: that with the narrowest host, of several the oldest.
        A VirtualService goes before routes of the Gateway API."""
        found = []
        for order, kind in enumerate(routes.ROUTING):
            for config in self.state.all(kind):
                pattern = self._named_by(config, host) if self._is_visible(config) else None
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
                if pattern and covers(pattern, host) and self._is_visible(rule):
                    width = (pattern.startswith("*"), -len(pattern), rule.created, rule.name)
                    found.append((width, rule))
            if found:
                return min(found, key=lambda entry: entry[0])[1]
        return None
