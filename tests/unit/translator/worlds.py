"""What operations of the translator ask: a cluster of fixed facts, definitions in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from services.chassis.errors import ClusterNotWatched, SchemasMissing
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import ClusterFacts, Command, Event, Plan, Severity, Verb
from services.chassis.operations.progress import Progress
from services.translator.definitions.schemas import Schemas
from services.translator.istio.versions import newest_first
from services.translator.work import Follows, Outcome, Run, Work
from tests.unit.translator.objects import definition

NOW = datetime(2026, 11, 24, 8, 30, 5, tzinfo=timezone.utc)
TEXT: dict[str, Any] = {"type": "string"}
ANYTHING: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
ROUTE: dict[str, Any] = {
    "type": "object",
    "required": ["route"],
    "properties": {
        "name": TEXT,
        "match": {"type": "array", "items": ANYTHING},
        "route": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["destination"],
                "properties": {
                    "destination": ANYTHING,
                    "weight": {"type": "integer"},
                },
            },
        },
    },
}
VIRTUAL_SERVICE: dict[str, Any] = {
    "hosts": {"type": "array", "items": TEXT},
    "gateways": {"type": "array", "items": TEXT},
    "http": {"type": "array", "items": ROUTE},
}
DESTINATION_RULE: dict[str, Any] = {"host": TEXT}
ENVOY_FILTER: dict[str, Any] = {
    "workloadSelector": ANYTHING,
    "configPatches": {"type": "array", "items": ANYTHING},
}
VERSIONS = ("v1", "v1beta1", "v1alpha3")


def definition_texts() -> list[str]:
    """Three kinds of Istio's, with a few of their fields."""
    return [
        definition("VirtualService", dict.fromkeys(VERSIONS, VIRTUAL_SERVICE)),
        definition("DestinationRule", dict.fromkeys(VERSIONS, DESTINATION_RULE)),
        definition("EnvoyFilter", {"v1alpha3": ENVOY_FILTER}),
    ]


class FixedCluster:
    """Answers with the same facts, whatever is asked, and keeps the questions."""

    def __init__(self, facts: ClusterFacts, *, refusals: Sequence[str] = ()) -> None:
        self._facts = facts
        self._refusals = refusals
        self.asked: list[dict[str, list[str]]] = []
        self.tried: list[str] = []
        self.running: dict[str, Any] | None = None
        """What topology answers; None while it watches nothing."""

    async def vetted(self) -> dict[str, Any]:
        if self.running is None:
            raise ClusterNotWatched("the cluster is not watched")
        return self.running

    async def facts(
        self,
        *,
        namespaces: Sequence[str] = (),
        kinds: Sequence[str] = (),
        managed_kinds: Sequence[str] = (),
        planes: bool = False,
    ) -> ClusterFacts:
        self.asked.append(
            {
                "namespaces": list(namespaces),
                "kinds": list(kinds),
                "managed_kinds": list(managed_kinds),
            }
        )
        return self._facts

    async def dry_run(self, objects: Sequence[KubeObject]) -> list[str]:
        self.tried += [str(Ref.of(obj)) for obj in objects]
        return [*self._refusals, *[""] * len(objects)][: len(objects)]


class KnownDefinitions:
    """Definitions of some versions, all with the same text."""

    def __init__(self, *versions: str) -> None:
        self._versions = newest_first(versions)
        self.asked: list[str] = []

    def versions(self) -> list[str]:
        return list(self._versions)

    async def schemas(self, version: str) -> Schemas:
        self.asked.append(version)
        if version not in self._versions:
            raise SchemasMissing(f"there are no definitions of Istio {version}")
        return Schemas.read(definition_texts())


class World:
    """One cluster with the translator beside it; `events` tells what was told."""

    def __init__(
        self,
        facts: ClusterFacts | None = None,
        *,
        versions: Sequence[str] = ("1.31.0",),
        refusals: Sequence[str] = (),
    ) -> None:
        self.cluster = FixedCluster(facts or ClusterFacts(), refusals=refusals)
        self.definitions = KnownDefinitions(*versions)
        self.events: list[Event] = []
        self.follows = Follows()

    async def event(self, event: Event) -> None:
        self.events.append(event)

    async def run(
        self,
        run: Run,
        body: str = "",
        *,
        verb: Verb = Verb.APPLY,
        namespace: str = "shop",
        operation: str = "op",
    ) -> Outcome:
        command = Command(
            operation=operation,
            kind="custom",
            verb=verb,
            cluster="c1",
            namespace=namespace,
            body=body,
        )
        progress = Progress(self.event, command, attempt=1, service="translator")
        progress.start()
        work = Work(
            command=command,
            progress=progress,
            cluster=self.cluster,
            definitions=self.definitions,
            now=lambda: NOW,
            follows=self.follows,
        )
        try:
            return await run(work)
        finally:
            await progress.close()

    async def plan(self, run: Run, body: str = "", **asked: Any) -> Plan:
        outcome = await self.run(run, body, **asked)
        assert isinstance(outcome, Plan)
        return outcome

    @property
    def summaries(self) -> list[str]:
        return [event.summary for event in self.events]

    @property
    def told(self) -> str:
        return "\n".join(f"{event.summary}\n{event.details}" for event in self.events)

    @property
    def warned(self) -> list[str]:
        return [event.details for event in self.events if event.severity is Severity.WARN]


def names(plan: Plan) -> list[list[str]]:
    """The objects of each step."""
    return [[str(Ref.of(obj)) for obj in step.objects] for step in plan.steps]
