"""What translating one object gives, and what it may look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages.facts import ClusterFacts, ServiceFact
from services.translator.findings import Finding, Path
from services.translator.options import Options
from services.translator.reports import Line
from services.translator.smi.models import Findings, Key, PortRoute, RouteGroup, Split


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

    def tell_missing(self, key: Key, path: Path, findings: Findings) -> None:
        """Says why there is nothing to translate for a reference to `key`."""
        if key in self.present:
            findings.error(path, f"{key} has errors of its own", rule="reference")
        else:
            findings.error(
                path,
                f"there is no {key}",
                rule="reference",
                remedy="put it into the same request",
            )


@dataclass(slots=True)
class Result:
    """What one object became."""

    objects: list[KubeObject] = field(default_factory=list)
    kept: list[KubeObject] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def became(self, source: Ref, *, note: str = "") -> None:
        """Adds the object's own line, before those about its parts."""
        targets = tuple(str(Ref.of(obj)) for obj in self.objects)
        self.lines.insert(0, Line(source=str(source), targets=targets, note=note))
