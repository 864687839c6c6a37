"""Every cell of the table of keys (`deploy/nats/powers.py`), tried with the key in question.

NATS has the shipped permissions; lifecycle and the API server are real. Whoever holds a key here
also holds what its service comes to see: grants of operations that people asked for.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from nats.aio.msg import Msg

from deploy.nats.permissions import regional
from deploy.nats.powers import POWERS, REGION, USERS, Outcome
from services.chassis.bus import envelopes, subjects
from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.intents import AppliedObject, healing_id, key_of, packed
from services.chassis.bus.records import Bucket
from services.chassis.bus.streams import REGIONAL
from services.chassis.errors import CredentialMissing
from services.chassis.granting import Signer
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.manifests import dump_manifest
from services.chassis.messages import (
    Command,
    FactsQuestion,
    Follow,
    Followed,
    FollowMode,
    OperationRecord,
    Plan,
    Step,
)
from services.chassis.messages.following import (
    TRANSLATED_FROM,
    following_id,
    following_key,
    service_fact,
)
from services.gateway.door import tokens
from tests.testbed.clusters import Cluster
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

OTHER = "another-registered-cluster"
CODES = {"MB-2013", "MB-2014"}


def binding(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "thief", "namespace": "default"}],
    }


def config_map(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": {"asked": "for"},
    }


@dataclass(slots=True)
class Thief:
    """Somebody with the key of one user, and with the rest of the world to look at."""

    stack: Stack
    bus: Bus
    """As the user."""
    admin: Bus
    cluster: Cluster
    token: str
    name: str

    @property
    def signer(self) -> Signer:
        """What the gateway would sign: the thief has seen it, and cannot make it."""
        return Signer.of(self.stack.ring.signing_key)

    def granted(self, body: str, *, kind: str = "custom", operation: str = "") -> Command:
        operation = operation or self.name
        return self.signer.signed(
            Command(
                operation=operation,
                kind=kind,
                cluster=self.token,
                body=body,
                credential=subjects.registered_credential(self.token),
            )
        )

    async def sends(self, subject: str, command: Command) -> Outcome:
        """Publishes a command, and waits for what becomes of it."""
        body, headers = envelopes.encode(command, content_type=envelopes.MSGPACK)
        if not await self.publishes(subject, body, headers):
            return Outcome.NATS
        cluster = subject.split(".")[2]
        key = subjects.operation_key(command.operation, cluster)
        record: OperationRecord | None = None

        async def has_ended() -> bool:
            nonlocal record
            entry = await Bucket(self.admin, "ops").get(key)
            record = OperationRecord.model_validate_json(entry.value) if entry else None
            return record is not None and record.state.is_terminal

        await eventually(has_ended, what=f"the end of {command.operation}", within_s=60.0)
        assert record is not None
        if record.error is None:
            return Outcome.HAPPENS
        assert record.error.code in CODES, record.error
        return Outcome.LIFECYCLE

    async def publishes(
        self, subject: str, body: bytes, headers: dict[str, str] | None = None
    ) -> bool:
        """Whether the server takes a message of JetStream's from this user."""
        answer = await self.asks(subject, body, headers)
        assert answer is None or b'"error"' not in answer.data, answer
        return answer is not None

    async def asks(
        self, subject: str, body: bytes, headers: dict[str, str] | None = None
    ) -> Msg | None:
        """The answer to a message; None when the server refuses to take it. Only its log says so
        (each user tries each subject once)."""
        inbox = self.bus.client.new_inbox()
        subscription = await self.bus.client.subscribe(inbox)
        await self.bus.client.publish(subject, body, reply=inbox, headers=headers)
        told = f'Publish Violation - Subject "{subject}"'

        def is_refused() -> bool:
            return any(told in refusal for refusal in self.stack.refusals(self.bus_user))

        await eventually(
            lambda: is_refused() or subscription.pending_msgs > 0,
            what=f"an answer to {subject}",
            within_s=60.0,
        )
        answer = await subscription.next_msg() if subscription.pending_msgs else None
        await subscription.unsubscribe()
        return answer

    @property
    def bus_user(self) -> str:
        return self.name.rpartition("-")[0]

    async def stores(self, bucket: str, key: str, value: bytes = b"{}") -> Outcome:
        subject = f"$KV.{bucket}.{key}"
        return Outcome.HAPPENS if await self.publishes(subject, value) else Outcome.NATS

    def manifest(self, **fields: Any) -> Command:
        body = dump_manifest([binding(self.name)])
        return Command(operation=self.name, kind="manifest", body=body, **fields)

    def plan(self, *objects: dict[str, Any]) -> Plan:
        return Plan(steps=[Step(title="a step", objects=list(objects))], summary="done")

    def handed_on(self, *objects: dict[str, Any], body: str = "", **fields: Any) -> Command:
        """A plan with a grant for `body`, as the translator sends it."""
        command = self.granted(body)
        changed = {"plan": self.plan(*objects), "body": "", "asked": body, **fields}
        return command.model_copy(update=changed)

    def subject(self, sender: str = "", *, cluster: str = "", operation: str = "") -> str:
        cluster, operation = cluster or self.token, operation or self.name
        if sender:
            return subjects.handed_on(
                service="lifecycle", cluster=cluster, sender=sender, operation=operation
            )
        return subjects.apply_command(service="lifecycle", cluster=cluster, operation=operation)


@pytest.fixture(scope="module")
def stack(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("powers")
    (folder / "tokens.yaml").write_text(tokens.entry("ana", [], "a-token"))
    settings = {
        "MESHBUS_GATEWAY_TOKENS": str(folder / "tokens.yaml"),
        # As `make up` has it: gRPC on this machine asks for no proof.
        "MESHBUS_GATEWAY_ANONYMOUS": "true",
    }
    stack = Stack(
        folder / "stack",
        services=("lifecycle", "gateway"),
        settings=settings,
        people=[regional(service, REGION) for service in REGIONAL],
    )
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
async def buses(stack: Stack, cluster: Cluster) -> AsyncIterator[dict[str, Bus]]:
    """A connection of each user; the cluster is registered, and once more under another token."""
    async with AsyncExitStack() as exits:
        found: dict[str, Bus] = {}
        for user in (*USERS, "admin"):
            found[user] = await connect(stack.settings(user), service=user)
            exits.push_async_callback(found[user].close)
        sealer = Sealer(Bucket(found["admin"], "credentials"))
        token = parse_kubeconfig(cluster.kubeconfig_text).cluster
        for known in (token, OTHER):
            key = subjects.registered_credential(known)
            await sealer.put(key, cluster.kubeconfig_text, ttl=None)
        yield found


# --- the attempts --------------------------------------------------------------------------------

Attempt = Callable[[Thief], Awaitable[Outcome]]


async def by_command(thief: Thief) -> Outcome:
    outcome = await thief.sends(thief.subject(), thief.manifest())
    assert is_there(thief) is (outcome is Outcome.HAPPENS)
    return outcome


async def by_mesh_command(thief: Thief) -> Outcome:
    subject = subjects.mesh_command(service="lifecycle", cluster=thief.token)
    return await thief.sends(subject, thief.manifest())


def under(sender: str) -> Attempt:
    async def attempt(thief: Thief) -> Outcome:
        if sender != "topology":
            return await thief.sends(thief.subject(sender), thief.manifest())
        return await of_something_else(thief)

    return attempt


async def of_others(thief: Thief) -> Outcome:
    """The answer says that nothing waits: the worker has taken it."""
    asked = b'{"batch": 1, "no_wait": true}'
    answer = await thief.asks("$JS.API.CONSUMER.MSG.NEXT.CMD.lifecycle", asked)
    return Outcome.HAPPENS if answer else Outcome.NATS


async def in_a_plan(thief: Thief) -> Outcome:
    body = dump_manifest([config_map(thief.name)])
    command = thief.handed_on(config_map(thief.name), binding(thief.name), body=body)
    return await thief.sends(thief.subject("translator"), command)


async def as_granted(thief: Thief) -> Outcome:
    body = dump_manifest([config_map(thief.name)])
    command = thief.handed_on(config_map(thief.name), body=body)
    outcome = await thief.sends(thief.subject("translator"), command)
    removed = thief.cluster.kubectl("delete", "configmap", thief.name, "--ignore-not-found")
    assert bool(removed) is (outcome is Outcome.HAPPENS)
    return outcome


async def for_another_cluster(thief: Thief) -> Outcome:
    body = dump_manifest([binding(thief.name)])
    command = thief.handed_on(binding(thief.name), body=body)
    return await thief.sends(thief.subject("translator", cluster=OTHER), command)


async def for_another_operation(thief: Thief) -> Outcome:
    body = dump_manifest([binding(thief.name)])
    other = f"{thief.name}-2"
    command = thief.handed_on(binding(thief.name), body=body, operation=other)
    return await thief.sends(thief.subject("translator", operation=other), command)


async def for_another_body(thief: Thief) -> Outcome:
    body = dump_manifest([binding(thief.name)])
    command = thief.handed_on(binding(thief.name), body="nothing of it", asked=body)
    return await thief.sends(thief.subject("translator"), command)


async def in_a_gate(thief: Thief) -> Outcome:
    body = dump_manifest([binding(thief.name)])
    gate = thief.granted(body, kind="performance-gate")
    change = f"{thief.name}-change"
    command = gate.model_copy(update={"kind": "manifest", "operation": change, "asked": body})
    return await thief.sends(thief.subject("perf", operation=change), command)


async def of_something_else(thief: Thief) -> Outcome:
    """Of a recorded intent; lifecycle leaves alone what it has not recorded."""
    kind, obj = "rbac.authorization.k8s.io/ClusterRoleBinding", binding(thief.name)
    intended = {**obj, "subjects": []}
    record = AppliedObject(kind=kind, name=thief.name, object=intended, operation=thief.name)
    key = key_of(thief.token, kind=kind, namespace="", name=thief.name)
    stored = packed(record, body=orjson.dumps(intended))
    await Bucket(thief.admin, "intents").put(key, stored)
    operation = healing_id(record, number="1")
    command = Command(operation=operation, kind="manifest", body=dump_manifest([obj]))
    return await thief.sends(thief.subject("topology", operation=operation), command)


def in_a_following(*, brings: Callable[[str, str], dict[str, Any]]) -> Attempt:
    """The record of the source is there, as lifecycle keeps it."""

    async def attempt(thief: Thief) -> Outcome:
        source = f"TrafficSplit.split.smi-spec.io default/{thief.name}"
        sent = thief.granted(f"a body that names {thief.name}")
        assert sent.grant is not None
        facts = [service_fact("default", thief.name, None)]
        record = Followed(
            source=source,
            mode=FollowMode.APPLY,
            facts=facts,
            objects=[],
            cluster=thief.token,
            operation=thief.name,
            grant=sent.grant,
            command="",
            since=datetime.now(timezone.utc),
        )
        value = record.model_dump_json().encode()
        bucket = Bucket(thief.admin, "following")
        revision = await bucket.put(following_key(thief.token, source), value)
        operation = following_id(thief.name, revision=revision, attempt="1")
        plan = thief.plan(brings(thief.name, source)).model_copy(
            update={"follow": [Follow(source=source, facts=facts)]}
        )
        command = sent.model_copy(
            update={"operation": operation, "plan": plan, "body": "", "credential": ""}
        )
        subject = thief.subject("translator", operation=operation)
        return await thief.sends(subject, command)

    return attempt


def marked(name: str, source: str) -> dict[str, Any]:
    obj = binding(name)
    obj["metadata"]["annotations"] = {TRANSLATED_FROM: source}
    return obj


def stealing(name: str, source: str) -> dict[str, Any]:
    route = [{"destination": {"host": f"{name}.default.svc.cluster.local"}}]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {
            "name": f"{name}-split",
            "namespace": "default",
            "annotations": {TRANSLATED_FROM: source},
        },
        "spec": {"hosts": ["payments.default.svc.cluster.local"], "http": [{"route": route}]},
    }


async def a_new_translation(thief: Thief) -> Outcome:
    """No translator runs here: whoever gets it into the queue would be heard."""
    operation = following_id(thief.name, revision=1, attempt="1")
    subject = subjects.handed_on(
        service="translator", cluster=thief.token, sender="topology", operation=operation
    )
    return Outcome.HAPPENS if await thief.publishes(subject, b"{}") else Outcome.NATS


async def through_a_credential(thief: Thief) -> Outcome:
    credential = subjects.operation_credential(thief.name, thief.token)
    question = FactsQuestion(cluster=thief.token, operation=thief.name, credential=credential)
    asked = question.model_dump_json().encode()
    reply = await thief.asks("mesh.lifecycle.facts", asked)
    if reply is None:
        return Outcome.NATS
    code = (reply.headers or {}).get("Nats-Service-Error-Code")
    return Outcome.LIFECYCLE if code in CODES else Outcome.HAPPENS


async def of_a_cluster(thief: Thief) -> Outcome:
    """No topology runs here: of whoever may ask, the server says that nobody answers."""
    asked = orjson.dumps({"cluster": thief.token, "query": "up"})
    reply = await thief.asks("mesh.topology.metrics", asked)
    return Outcome.HAPPENS if reply is not None else Outcome.NATS


async def of_load(thief: Thief) -> Outcome:
    """No perf runs here: of whoever may ask, the server says that nobody answers."""
    reply = await thief.asks("mesh.perf.run", orjson.dumps({"test": "nothing"}))
    return Outcome.HAPPENS if reply is not None else Outcome.NATS


def of_the_gateway(verb: str, *, authorization: str = "") -> Attempt:
    """The cluster is not one of its own: whoever it listens to is told so."""

    async def attempt(thief: Thief) -> Outcome:
        asked = orjson.dumps({"kind": "custom", "clusters": ["x"]})
        headers = {"Authorization": authorization} if authorization else {}
        reply = await thief.asks(f"mesh.gateway.{verb}", asked, headers)
        if reply is None:
            return Outcome.NATS
        code = (reply.headers or {}).get("Nats-Service-Error-Code")
        assert code in ("MB-1301", "MB-3004"), code
        return Outcome.GATEWAY if code == "MB-1301" else Outcome.HAPPENS

    return attempt


def in_somebodys_name(verb: str) -> Attempt:
    async def attempt(thief: Thief) -> Outcome:
        headers = {"Meshbus-Identity": quote('{"name":"ana","groups":[]}')}
        named = {"operation": thief.name, "rollout": thief.name, "cluster": thief.token}
        subject = f"mesh.lifecycle.{verb}.for.gateway"
        reply = await thief.asks(subject, orjson.dumps(named), headers)
        if reply is None:
            return Outcome.NATS
        # There is no such operation, which is told to whoever may ask.
        assert (reply.headers or {}).get("Nats-Service-Error-Code") != "MB-1302"
        return Outcome.HAPPENS

    return attempt


def storing(bucket: str, key: str) -> Attempt:
    async def attempt(thief: Thief) -> Outcome:
        filled = key.format(operation=thief.name, cluster=thief.name)
        return await thief.stores(bucket, filled)

    return attempt


async def in_the_history(thief: Thief) -> Outcome:
    subject = subjects.compliance(thief.name, "sums")
    return Outcome.HAPPENS if await thief.publishes(subject, b"{}") else Outcome.NATS


ATTEMPTS: dict[str, Attempt] = {
    "rights by a command": by_command,
    "rights by a command of the mesh": by_mesh_command,
    "rights under the name of translator": under("translator"),
    "rights under the name of perf": under("perf"),
    "rights under the name of topology": under("topology"),
    "a command for others": of_others,
    "rights in a granted plan": in_a_plan,
    "a granted plan": as_granted,
    "a grant for another cluster": for_another_cluster,
    "a grant for another operation": for_another_operation,
    "a grant for another body": for_another_body,
    "rights in a gate": in_a_gate,
    "a repair of something else": of_something_else,
    "rights in a following": in_a_following(brings=marked),
    "somebody's traffic in a following": in_a_following(brings=stealing),
    "a new translation": a_new_translation,
    "a foreign credential": through_a_credential,
    "a cluster's metrics": of_a_cluster,
    "a load test": of_load,
    "an operation of nobody's": of_the_gateway(
        "apply.by.token", authorization="Bearer a-stolen-token"
    ),
    "an operation of the operator's": of_the_gateway("apply"),
    "a question in somebody's name": in_somebodys_name("cancel"),
    "the way back of a rollout in somebody's name": in_somebodys_name("rolloutback"),
    "what an operation id stands for": storing("ops", "{operation}"),
    "the end of an operation": storing("ops", "{operation}.{cluster}"),
    "an operation's credential": storing("credentials", "operation.{operation}.{cluster}"),
    "a registered credential": storing("credentials", "cluster.{cluster}"),
    "what is followed": storing("following", "{cluster}.a"),
    "where a rollout stands": storing("rollouts", "rollout.{operation}"),
    "a mesh's root": storing("roots", "{operation}"),
    "what counts as valid": storing("definitions", "{operation}"),
    "how compliance went": in_the_history,
    "what counts as applied": storing("intents", "{cluster}.applied.a"),
}


def is_there(thief: Thief) -> bool:
    found = thief.cluster.kubectl(
        "get", "clusterrolebinding", thief.name, "-o", "name", "--ignore-not-found"
    )
    return bool(found.strip())


@pytest.mark.parametrize("user", USERS)
async def test_what_a_key_can_make_happen(
    user: str, stack: Stack, buses: dict[str, Bus], cluster: Cluster
) -> None:
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster

    async def tried(power: str) -> Outcome:
        name = f"{user}-{secrets.token_hex(4)}"
        thief = Thief(stack, buses[user], buses["admin"], cluster, token, name)
        try:
            return await ATTEMPTS[power](thief)
        finally:
            there = is_there(thief)
            cluster.kubectl("delete", "clusterrolebinding", name, "--ignore-not-found")
            if power.startswith("rights by"):
                assert there is (user in ("gateway", "lifecycle", "operator")), power
            else:
                assert not there, power

    found = {power.name: await tried(power.name) for power in POWERS}
    assert found == {power.name: power.outcomes[user] for power in POWERS}


async def test_a_stored_kubeconfig_does_not_say_where_a_command_goes(
    stack: Stack, buses: dict[str, Bus], cluster: Cluster
) -> None:
    """The bucket holds this cluster's under the name of another one."""
    name = f"operator-{secrets.token_hex(4)}"
    command = Command(operation=name, kind="manifest", body=dump_manifest([binding(name)]))
    body, headers = envelopes.encode(command, content_type=envelopes.MSGPACK)
    subject = subjects.apply_command(service="lifecycle", cluster=OTHER, operation=name)
    await buses["operator"].client.jetstream().publish(subject, body, headers=headers)
    record: OperationRecord | None = None

    async def has_ended() -> bool:
        nonlocal record
        key = subjects.operation_key(name, OTHER)
        entry = await Bucket(buses["admin"], "ops").get(key)
        record = OperationRecord.model_validate_json(entry.value) if entry else None
        return record is not None and record.state.is_terminal

    await eventually(has_ended, what="the command to be refused", within_s=60.0)
    assert record is not None
    assert record.error is not None
    assert record.error.code == CredentialMissing.code
    assert "another API server" in record.error.cause


def test_every_power_is_tried() -> None:
    assert list(ATTEMPTS) == [power.name for power in POWERS]
