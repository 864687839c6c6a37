"""What the translation of one SMI object looks at beside the object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.chassis.messages.facts import ClusterFacts, ServiceFact
from services.translator.options import Options
from services.translator.reports import Path, Report
from services.translator.smi.models import Key, PortRoute, RouteGroup, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything that is not the object itself."""

    groups: Mapping[Key, RouteGroup]
    port_routes: Mapping[Key, PortRoute]
    splits: Mapping[tuple[str, str], Sequence[Split]]
    """By their root's namespace and name, in an order of their own."""
    present: frozenset[Key]
    """All SMI objects there are, also those that could not be read."""
    facts: ClusterFacts
    options: Options
    trust_domain: str

    def service(self, namespace: str, name: str) -> ServiceFact | None:
        for service in self.facts.services_of(namespace):
            if service.name == name:
                return service
        return None

    def tell_missing(self, key: Key, path: Path, report: Report) -> None:
        """Says why there is nothing to translate for a reference to `key`."""
        if key in self.present:
            report.error(path, f"{key} has errors of its own", rule="reference")
        else:
            report.error(
                path,
                f"there is no {key}",
                rule="reference",
                remedy="put it into the same request",
            )
