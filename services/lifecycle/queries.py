"""Answers to questions over the service API: `mesh.lifecycle.<verb>`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from services.chassis.bus import subjects
from services.chassis.bus.queries import Query
from services.chassis.bus.records import Bucket
from services.chassis.errors import MalformedRequest, NoWayBack, ObjectNotFound, shortened
from services.chassis.messages import (
    ClusterQuestion,
    DryRunQuestion,
    FactsQuestion,
    RightsQuestion,
)
from services.chassis.operations.claims import Claims
from services.chassis.operations.retries import Retries
from services.lifecycle.ambient.standing import standing_of
from services.lifecycle.authority import Authority, asker
from services.lifecycle.cluster.connections import Connection, Connections
from services.lifecycle.cluster.facts import dry_run, gather
from services.lifecycle.cluster.registrations import Registrations
from services.lifecycle.cluster.rights import review
from services.lifecycle.manifests.following import Followings
from services.lifecycle.manifests.records import forget_cluster
from services.lifecycle.releases.fetching import Releases
from services.lifecycle.rollouts.records import (
    AMBIENT,
    MESHES,
    RolloutRecord,
    WishRecord,
    shown,
)
from services.lifecycle.rollouts.store import Store


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one worker; any replica can give them."""

    connections: Connections
    registrations: Registrations
    claims: Claims
    authority: Authority
    credentials: Bucket
    releases: Releases
    retries: Retries
    applied: Bucket
    followings: Followings
    rollouts: Store

    def about_clusters(self) -> list[Query]:
        """Those for which a cluster is asked, as workers of a region answer them too."""
        return [
            Query("facts", '{"cluster": TOKEN, "namespaces": [NAME], "kinds": [...]}', self.facts),
            Query("rights", '{"cluster": TOKEN, "rules": [POLICY RULE]}', self.rights),
            Query("dryrun", '{"cluster": TOKEN, "objects": [OBJECT]}', self.dry_run),
        ]

    def queries(self) -> list[Query]:
        return [
            Query("versions", "{}", self.list_versions),
            Query("status", '{"operation": ID, "cluster": TOKEN}', self.status),
            Query("cancel", '{"operation": ID, "cluster": TOKEN}', self.cancel, changes=True),
            Query("forget", '{"operation": ID, "cluster": TOKEN}', self.forget, changes=True),
            *self.about_clusters(),
            Query("deregister", '{"cluster": TOKEN}', self.deregister),
            Query("retry", '{"letter": NUMBER}', self.retry, changes=True),
            Query("rollout", '{"rollout": [ID]}', self.rollout),
            Query("multicluster", '{"operation": [ID]}', self.multicluster),
            Query("ambient", '{"cluster": [TOKEN], "operation": [ID]}', self.ambient),
            Query("rolloutpause", '{"rollout": ID}', self.pause, changes=True),
            Query("rolloutresume", '{"rollout": ID}', self.resume, changes=True),
            Query("rolloutabort", '{"rollout": ID}', self.abort, changes=True),
            Query(
                "rolloutback",
                '{"rollout": ID, "cluster": TOKEN | "*"}',
                self.roll_back,
                changes=True,
            ),
        ]

    async def list_versions(self, _asked: dict[str, Any]) -> dict[str, Any]:
        """Istio versions that are here, and known ones that would be fetched, newest first."""
        source = self.releases.source
        return {
            "versions": self.releases.here(),
            "fetchable": self.releases.fetchable(),
            "source": source.address if source is not None else "",
        }

    async def status(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The record of an operation on one cluster."""
        operation, cluster = _names(asked)
        stored = await self.claims.stored(operation, cluster)
        if stored is None:
            raise ObjectNotFound(f"no worker has seen operation {operation} on cluster {cluster}")
        record: dict[str, Any] = stored[0].model_dump(mode="json", exclude={"final"})
        return record

    async def cancel(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Asks a running operation to stop at its next step."""
        operation, cluster = _names(asked)
        return {"cancelling": await self.claims.cancel(operation, cluster)}

    async def forget(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Deletes the credential that came with an operation, once the operation has ended."""
        operation, cluster = _names(asked)
        stored = await self.claims.stored(operation, cluster)
        has_ended = stored is not None and stored[0].state.is_terminal
        if has_ended:
            credential = subjects.operation_credential(operation, cluster)
            await self.credentials.delete(credential, expires=True)
        return {"forgotten": has_ended}

    async def facts(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Facts about a cluster that a translation depends on."""
        try:
            question = FactsQuestion.model_validate(asked)
        except ValidationError as error:
            raise MalformedRequest(f"not a question about facts: {_places(error)}") from None
        async with self._connected(question) as connection:
            facts = await gather(connection, question)
        return facts.model_dump(mode="json")

    async def dry_run(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The API server's refusals of objects, by a dry run."""
        try:
            question = DryRunQuestion.model_validate(asked)
        except ValidationError as error:
            raise MalformedRequest(f"not a question for a dry run: {_places(error)}") from None
        async with self._connected(question) as connection:
            refusals = await dry_run(connection, question.objects)
        return {"refusals": refusals}

    async def rights(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Whether the cluster is reached from here, what its account may not do, and its clock."""
        try:
            question = RightsQuestion.model_validate(asked)
        except ValidationError as error:
            raise MalformedRequest(f"not a question about rights: {_places(error)}") from None
        async with self._connected(question) as connection:
            return await review(connection.client, question.rules)

    async def deregister(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Forgets a cluster, its credentials, and what was applied to it: nothing drifts there any
        more, and no translation follows it. Its next operation registers it again."""
        cluster = asked.get("cluster")
        if not isinstance(cluster, str) or not cluster:
            raise MalformedRequest("cluster is missing", remedy='send {"cluster": TOKEN}')
        token = subjects.token(cluster)
        known = await self.registrations.forget(token)
        await forget_cluster(self.applied, token)
        await self.followings.forget(token)
        return {"cluster": cluster, "deregistered": known}

    async def retry(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Puts a command of lifecycle's that was given up back into its queue, unread."""
        letter = asked.get("letter")
        if not isinstance(letter, int) or isinstance(letter, bool) or letter < 1:
            raise MalformedRequest(
                "letter is missing",
                remedy='send {"letter": NUMBER}, as `nats stream get DLQ` numbers them',
            )
        command = await self.retries.retry(letter)
        return {"operation": command.operation, "cluster": command.cluster, "retried": True}

    async def rollout(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Where a rollout stands, cluster by cluster; without an id all that there are, briefly."""
        if asked.get("rollout"):
            record = await self._rollout(asked)
            return shown(record, await self.rollouts.wish(record.rollout))
        found = [await self.rollouts.at(key) for key in await self.rollouts.keys()]
        told = [
            shown(one[0], WishRecord()) for one in found if one is not None and one[0].is_rollout
        ]
        for one in told:
            del one["clusters"], one["waves"]
        return {"rollouts": sorted(told, key=lambda one: str(one["begun"]), reverse=True)}

    async def multicluster(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Where the making of a mesh of several clusters stands, and what was found of each;
        without an id all that there are, briefly."""
        if asked.get("operation"):
            record = await self._rollout({"rollout": asked["operation"]})
            return _mesh(record, await self.rollouts.wish(record.rollout))
        return {"meshes": await self._briefly(MESHES)}

    async def ambient(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What is in ambient on a cluster and which waypoints stand, as the cluster has it now; of
        an operation where it stands; with neither all operations that there are, briefly."""
        if asked.get("operation"):
            record = await self._rollout({"rollout": asked["operation"]})
            return _mesh(record, await self.rollouts.wish(record.rollout))
        cluster = asked.get("cluster")
        if not cluster:
            return {"operations": await self._briefly(AMBIENT)}
        if not isinstance(cluster, str):
            raise MalformedRequest("cluster is no token", remedy='send {"cluster": TOKEN}')
        async with self._connected(ClusterQuestion(cluster=subjects.token(cluster))) as connection:
            return await standing_of(connection)

    async def _briefly(self, what: Sequence[str]) -> list[dict[str, Any]]:
        """The operations of the machine that are about `what`, the newest first."""
        found = [await self.rollouts.at(key) for key in await self.rollouts.keys()]
        told = [
            shown(one[0], WishRecord()) for one in found if one is not None and one[0].what in what
        ]
        brief = [
            {name: one[name] for name in ("rollout", "title", "state", "stage", "begun", "ended")}
            for one in told
        ]
        return sorted(brief, key=lambda one: str(one["begun"]), reverse=True)

    async def pause(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Keeps a rollout from giving any further step; what is under way is brought to its end."""
        return await self._want(asked, is_paused=True)

    async def resume(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Lets a paused rollout go on."""
        return await self._want(asked, is_paused=False)

    async def abort(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Stops a rollout: the open wave is rolled back, waves that are done stay, others are left
        as they are."""
        return await self._want(asked, aborts=True)

    async def roll_back(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Rolls one cluster back, while the others go on; `*` stops the rollout and rolls back all
        that still have their old revision."""
        record, cluster = await self._rollout(asked), asked.get("cluster")
        if record.what in MESHES:
            raise NoWayBack(
                f"{record.title} is no rollout",
                cause="what was done for a mesh of several clusters is good for the next try",
                remedy="abort it, or let the cluster leave: `action: leave`",
            )
        if not isinstance(cluster, str) or not cluster:
            raise MalformedRequest("cluster is missing", remedy='send a token, or "*" for all')
        if cluster == "*":
            return await self._want(asked, back=["*"])
        # By its token alone: that is what the policy was asked about, and names are people's own.
        part = record.parts.get(cluster)
        if part is None:
            raise ObjectNotFound(f"rollout {record.rollout} has no cluster {shortened(cluster)}")
        if not part.may_go_back:
            raise NoWayBack(f"cluster {part.name or part.cluster}: {part.fate or 'not begun'}")
        return await self._want(asked, back=[part.cluster])

    async def _want(self, asked: dict[str, Any], **wanted: Any) -> dict[str, Any]:
        record = await self._rollout(asked)
        if record.is_over:
            raise NoWayBack(
                f"rollout {record.rollout} is over",
                cause="it has told its end to every cluster",
            )
        wish = await self.rollouts.want(record.rollout, **wanted)
        return shown(record, wish)

    async def _rollout(self, asked: dict[str, Any]) -> RolloutRecord:
        rollout = asked.get("rollout")
        if not isinstance(rollout, str) or not rollout:
            raise MalformedRequest("rollout is missing", remedy='send {"rollout": ID}')
        record = await self.rollouts.rollout(rollout)
        if record is None:
            raise ObjectNotFound(f"there is no rollout {shortened(rollout)}")
        return record

    @asynccontextmanager
    async def _connected(self, question: ClusterQuestion) -> AsyncIterator[Connection]:
        """The cluster of a question, through the credential that it names and may use."""
        self.authority.may_open(
            question.credential,
            cluster=question.cluster,
            operation=question.operation,
            grant=question.grant,
        )
        async with self.connections.to(
            question.cluster,
            operation=question.operation or "question",
            credential=question.credential,
        ) as connection:
            await self.connections.reached(connection, identity=asker(question.grant))
            yield connection


def _mesh(record: RolloutRecord, wish: WishRecord) -> dict[str, Any]:
    told = shown(record, wish)
    for one in told["clusters"]:
        one["found"] = record.parts[one["cluster"]].found
    return {name: value for name, value in told.items() if name not in ("wave", "waves")}


def _places(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_url=False)
    return ", ".join(".".join(str(part) for part in problem["loc"]) for problem in problems)


def _names(asked: dict[str, Any]) -> tuple[str, str]:
    operation, cluster = asked.get("operation"), asked.get("cluster")
    if not isinstance(operation, str) or not isinstance(cluster, str):
        raise MalformedRequest(
            "operation and cluster are missing",
            remedy='send {"operation": ID, "cluster": TOKEN}; both stand in every event',
        )
    return operation, subjects.token(cluster)
