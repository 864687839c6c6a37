"""The services and workloads of a cluster, found by what translations ask for.

A thousand objects of one namespace would otherwise each walk through all that is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.chassis.messages.facts import ClusterFacts, ServiceFact, WorkloadFact


@dataclass(slots=True)
class Residents:
    """Those that the facts tell of, in the facts' order."""

    _services: dict[tuple[str, str], ServiceFact] = field(default_factory=dict)
    _workloads: dict[str, list[WorkloadFact]] = field(default_factory=lambda: defaultdict(list))
    """By namespace."""
    _accounts: dict[tuple[str, str], list[WorkloadFact]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _labelled: dict[tuple[str, str, str], list[WorkloadFact]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By namespace and one label."""

    @classmethod
    def of(cls, facts: ClusterFacts) -> Residents:
        found = cls()
        for service in facts.services:
            found._services.setdefault((service.namespace, service.name), service)
        for workload in facts.workloads:
            space = workload.namespace
            found._workloads[space].append(workload)
            found._accounts[space, account_of(workload)].append(workload)
            for name, value in workload.labels.items():
                found._labelled[space, name, value].append(workload)
        return found

    def service(self, namespace: str, name: str) -> ServiceFact | None:
        return self._services.get((namespace, name))

    def under(self, namespace: str, account: str) -> Sequence[WorkloadFact]:
        """The workloads of a ServiceAccount."""
        return self._accounts.get((namespace, account), ())

    def selected(self, namespace: str, selector: Mapping[str, str]) -> list[WorkloadFact]:
        """The workloads whose pods a selector selects: all of the namespace by an empty one."""
        lists = [
            self._labelled.get((namespace, name, value), ()) for name, value in selector.items()
        ]
        fewest = min(lists, key=len, default=self._workloads.get(namespace, ()))
        return [one for one in fewest if selector.items() <= one.labels.items()]


def account_of(workload: WorkloadFact) -> str:
    return workload.service_account or "default"
