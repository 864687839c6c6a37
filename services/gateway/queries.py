"""The gateway's answers over the service API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from proto import meshops_pb2 as pb
from services.chassis.bus import subjects
from services.chassis.bus.queries import Query
from services.chassis.bus.records import Records
from services.chassis.errors import MalformedRequest, NotPermitted, ObjectNotFound
from services.chassis.kube.labelling import region_of
from services.chassis.messages import (
    Event,
    OperationRecord,
    OperationState,
    RequestRecord,
    Verb,
)
from services.chassis.policy import LOCAL, OPERATOR, Identity, Policy
from services.chassis.regions import Regions
from services.gateway import wire
from services.gateway.intake import registered
from services.gateway.operations import Operations
from services.gateway.registrations import Registrations
from services.gateway.streaming.audiences import Audiences

_MOST_LISTED = 100
_USUALLY_LISTED = 20
_LONGEST_SEARCH = 200
_MOST_READ = 1000
"""Events of one answer, and the newest ones among which those are that somebody may see."""
_MOST_EVENT_BYTES = 900 * 1000
"""Of all events in an answer: what a message holds, less what is around them."""
_LIST = (
    '{"operation": ID} or {"limit": 20, "before": TIME, "search": TEXT, "cluster": TOKEN, '
    '"state": "running" | "succeeded" | "failed" | "cancelled"}'
)
_APPLY = (
    '{"kind": NAME, "clusters": [TOKEN], "verb": "apply" | "delete", "namespace": NAME, '
    '"version": TEXT, "body": YAML, "operation": ID}'
)

PASSED_ON = frozenset(
    {
        "lifecycle.cancel",
        "lifecycle.retry",
        "lifecycle.rolloutabort",
        "lifecycle.rolloutback",
        "lifecycle.rolloutpause",
        "lifecycle.rolloutresume",
        "perf.cancel",
        "perf.run",
        "topology.heal",
        "translator.translate",
    }
)
"""What the gateway asks other services on somebody's behalf: what changes something, and what a
manifest would."""
PassOn = Callable[[str, dict[str, Any], Identity], Awaitable[Any]]
"""Asks `<service>.<verb>` on behalf of an identity."""
Stored = Callable[[str | None, int], Awaitable[list[Event]]]
"""Stored events of an operation, or of all for None; the newest so many, in order."""


class Apply(BaseModel):
    """The question `mesh.gateway.apply`: an ApplyRuleRequest without kubeconfigs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    clusters: list[str] = Field(min_length=1)
    verb: Verb = Verb.APPLY
    namespace: str = ""
    version: str = ""
    body: str = ""
    operation: str = ""

    def request(self) -> pb.ApplyRuleRequest:
        """For the same checks as every other operation goes through."""
        return pb.ApplyRuleRequest(
            opName=self.kind,
            namespace=self.namespace,
            custom_body=self.body,
            delete_op=self.verb is Verb.DELETE,
            operation_id=self.operation,
            version=self.version,
        )


class Listing(BaseModel):
    """Which operations somebody wants to see, and how many."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    limit: int = Field(default=_USUALLY_LISTED, ge=1, le=_MOST_LISTED, strict=True)
    before: AwareDatetime | None = None
    search: str = Field(default="", max_length=_LONGEST_SEARCH)
    cluster: str = ""
    state: OperationState | None = None

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> Listing:
        """Raises `MalformedRequest`."""
        try:
            return cls.model_validate(asked)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise MalformedRequest(
                f"{first['loc'][0]}: {first['msg']}", remedy=f"send {_LIST}"
            ) from None

    def has(self, record: RequestRecord) -> bool:
        """Whether the request itself is wanted: every word of the search is somewhere in it."""
        if self.before is not None and record.accepted >= self.before:
            return False
        if self.cluster and self.cluster not in record.clusters:
            return False
        told = (record.operation, record.kind, record.identity, *record.cluster_names.values())
        text = " ".join((*told, *record.clusters)).lower()
        return all(word in text for word in self.search.lower().split())

    def has_state(self, parts: Mapping[str, Any]) -> bool:
        """Whether a part is in the state; one that no worker has begun counts as running."""
        if self.state is None:
            return True
        states = {(part or {}).get("state", OperationState.RUNNING) for part in parts.values()}
        return self.state in states


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers of one gateway; only `streams` is about this process alone."""

    requests: Records[RequestRecord]
    parts: Records[OperationRecord]
    registrations: Registrations
    regions: Regions
    accept: Operations
    body_limit: int
    policy: Callable[[], Policy]
    events: Audiences
    stored: Stored
    pass_on: PassOn
    instance: str

    def queries(self) -> list[Query]:
        return [
            Query("operations", _LIST, answer_to=self.operations),
            Query("events", '{"operation": ID} or {"limit": 20}', answer_to=self.told),
            Query("clusters", "{}", answer_to=self.clusters),
            Query("deregister", '{"cluster": TOKEN}', self.deregister, changes=True),
            Query("apply", _APPLY, answer_to=self.apply, changes=True),
            Query(
                "ask",
                '{"name": NAME, "question": OBJECT}',
                answer_to=self.ask,
                changes=True,
                is_judged=False,
                passes_on=True,
            ),
            Query("whoami", "{}", answer_to=self.whoami, is_judged=False),
            Query("streams", "{}", self.streams),
        ]

    async def operations(self, asked: dict[str, Any], identity: Identity) -> dict[str, Any]:
        """One operation with its parts, or the newest ones before a moment that are of a cluster,
        in a state, or have a text; of those whose events it may see."""
        operation = asked.get("operation")
        if operation is None:
            found, is_more = await self._newest(Listing.of(asked), identity)
            return {"operations": found, "more": is_more}
        if not isinstance(operation, str):
            raise MalformedRequest("operation is not text", remedy='send {"operation": ID}')
        stored = await self.requests.get(subjects.operation_key(operation))
        if stored is None or not self._is_shown(stored[0], identity):
            raise ObjectNotFound(f"the gateway has no record of operation {operation[:128]}")
        return await self._described(stored[0])

    async def told(self, asked: dict[str, Any], identity: Identity) -> dict[str, Any]:
        """Events that it may see, in order: of one operation, or the newest ones of all."""
        operation = asked.get("operation")
        if operation is not None and not isinstance(operation, str):
            raise MalformedRequest("operation is not text", remedy='send {"operation": ID}')
        most = _MOST_READ if operation else _limit(asked)
        found = await self.stored(operation, _MOST_READ)
        if identity != OPERATOR:
            sees = self.events.sight(identity)
            found = [event for event in found if await sees(event)]
        kept: list[dict[str, Any]] = []
        size = 0
        for event in reversed(found[-most:]):
            laid_out = event.model_dump(mode="json")
            size += len(orjson.dumps(laid_out))
            if size > _MOST_EVENT_BYTES:
                break
            kept.append(laid_out)
        left_out = len(found[-most:]) - len(kept)
        return {"events": kept[::-1], "left_out": left_out}

    async def clusters(self, _asked: dict[str, Any], identity: Identity) -> dict[str, Any]:
        """Registered clusters that it may ask about, with the region that their labels name and,
        as `served_in`, the one whose workers serve them: "" for those of none. Their credentials
        are nowhere to be read."""
        policy = self.policy()
        shown = [
            {
                **record.model_dump(mode="json"),
                "region": (region := region_of(record.labels)),
                "served_in": await self.regions.serving("lifecycle", region),
            }
            for record in await self.registrations.listed()
            if identity == OPERATOR
            or policy.may_ask(identity, "gateway.clusters", cluster=record.cluster)
        ]
        return {"clusters": shown}

    async def deregister(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Forgets a cluster and its credential; its next operation registers it again."""
        cluster = asked.get("cluster")
        if not isinstance(cluster, str) or not cluster:
            raise MalformedRequest("cluster is missing", remedy='send {"cluster": TOKEN}')
        return {"cluster": cluster, "deregistered": await self.registrations.deregister(cluster)}

    async def apply(self, asked: dict[str, Any], identity: Identity) -> dict[str, Any]:
        """Accepts an operation on registered clusters, with their registered credentials."""
        try:
            question = Apply.model_validate(asked)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise MalformedRequest(f"{place}: {first['msg']}", remedy=f"send {_APPLY}") from None
        most = self.accept.intake.most_clusters
        if len(question.clusters) > most:
            raise MalformedRequest(f"clusters: {len(question.clusters)}, the limit is {most}")
        listed = {record.cluster: record for record in await self.registrations.listed()}
        unknown = [cluster for cluster in question.clusters if cluster not in listed]
        if unknown:
            raise ObjectNotFound(f"cluster {unknown[0][:64]} is not registered")
        request = wire.operation_request(question.request(), body_limit=self.body_limit)
        targets = [registered(listed[cluster]) for cluster in dict.fromkeys(question.clusters)]
        operation = await self.accept.apply(
            request, (), identity=identity, remembered=None, registered=targets
        )
        return {"operation": operation}

    async def ask(self, asked: dict[str, Any], identity: Identity) -> Any:
        """What another service answers to a question that changes something, asked on behalf of
        whoever asks here: `lifecycle.cancel`, `lifecycle.retry`, those that steer a rollout
        (`lifecycle.rolloutpause`, `rolloutresume`, `rolloutabort`, `rolloutback`), `topology.heal`,
        `perf.run`, `perf.cancel`, or `translator.translate`. The policy is judged for that
        question, here and there."""
        name, question = asked.get("name"), asked.get("question", {})
        if identity == OPERATOR:
            raise MalformedRequest(
                "the operator's key may ask the service itself",
                remedy=f"ask mesh.{str(name)[:64]}",
            )
        if name not in PASSED_ON or not isinstance(question, dict):
            raise MalformedRequest(
                "this is no question that the gateway passes on",
                remedy=f"name one of {', '.join(sorted(PASSED_ON))}, and what it asks as an object",
            )
        cluster = question.get("cluster")
        about = cluster if isinstance(cluster, str) and cluster else None
        if not self.policy().may_ask(identity, name, cluster=about):
            place = f"cluster {about[:64]}" if about else "all clusters"
            raise NotPermitted(
                f"{identity.name} may not ask {name} about {place}", subject=identity.name
            )
        return await self.pass_on(name, question, identity)

    async def whoami(self, _asked: dict[str, Any], identity: Identity) -> dict[str, Any]:
        """Who asks, as it was proved, and what the policy allows to him anywhere."""
        policy = self.policy()
        offered = self.accept.catalogs.operations()
        may = (*sorted(PASSED_ON), "gateway.apply")
        return {
            "identity": identity.name,
            "groups": sorted(identity.groups),
            "may": [question for question in may if policy.may_ask_some(identity, question)],
            "operations": [
                operation.model_dump(mode="json")
                for operation in offered
                if operation.is_listed and policy.may_name(identity, operation.name)
            ],
            "versions": self.accept.catalogs.versions(),
        }

    async def streams(self, _asked: dict[str, Any]) -> dict[str, Any]:
        """Clients of this process, and up to where events were delivered."""
        return {
            "instance": self.instance,
            "open": self.events.open_streams,
            "floor": self.events.local.marks.floor,
        }

    def _is_shown(self, record: RequestRecord, identity: Identity) -> bool:
        policy, owner = self.policy(), record.identity or LOCAL.name
        return identity == OPERATOR or all(
            policy.may_see(identity, cluster=cluster, owner=owner) for cluster in record.clusters
        )

    async def _newest(
        self, listing: Listing, identity: Identity
    ) -> tuple[list[dict[str, Any]], bool]:
        """The operations of a page, and whether older ones follow."""
        keys = [key for key in await self.requests.bucket.keys() if "." not in key]
        found: list[RequestRecord] = []
        for start in range(0, len(keys), _MOST_LISTED):
            chunk = keys[start : start + _MOST_LISTED]
            entries = await asyncio.gather(*(self.requests.get(key) for key in chunk))
            records = [entry[0] for entry in entries if entry is not None]
            found += [
                record
                for record in records
                if listing.has(record) and self._is_shown(record, identity)
            ]
        newest = sorted(found, key=lambda record: record.accepted, reverse=True)
        page: list[dict[str, Any]] = []
        for start in range(0, len(newest), _MOST_LISTED):
            some = newest[start : start + _MOST_LISTED]
            described = await asyncio.gather(*(self._described(record) for record in some))
            page += [one for one in described if listing.has_state(one["parts"])]
            if len(page) > listing.limit:
                break
        return page[: listing.limit], len(page) > listing.limit

    async def _described(self, record: RequestRecord) -> dict[str, Any]:
        parts = await asyncio.gather(*(self._part(record, c) for c in record.clusters))
        return {"request": record.model_dump(mode="json"), "parts": dict(parts)}

    async def _part(self, record: RequestRecord, cluster: str) -> tuple[str, Any]:
        stored = await self.parts.get(subjects.operation_key(record.operation, cluster))
        if stored is None:
            return cluster, None  # no worker has begun it
        return cluster, stored[0].model_dump(mode="json", exclude={"final"})


def _limit(asked: dict[str, Any]) -> int:
    limit = asked.get("limit", _USUALLY_LISTED)
    if not isinstance(limit, int) or not 1 <= limit <= _MOST_LISTED:
        raise MalformedRequest(f"limit is not a number from 1 to {_MOST_LISTED}")
    return limit
