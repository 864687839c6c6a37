"""A person with the nats CLI: looks around, follows events, sends commands by hand.

Everything goes through the real CLI as the NATS user `operator`, whose rights must be enough.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import jsonschema_rs
import pytest

from docs import asyncapi
from services.chassis.bus import streams, subjects
from services.chassis.bus.connection import connect
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.records import Bucket
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed import loopback
from tests.testbed.clusters import Cluster
from tests.testbed.processes import BedError
from tests.testbed.stack import ROOT, Stack
from tests.testbed.waiting import eventually

FINAL = {"done", "failed", "cancelled"}
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{by: hand}}\n"


@dataclass(slots=True)
class Operator:
    """A terminal with the nats CLI, and one with `nats sub 'live.evt.*.*.*'` in it."""

    stack: Stack
    cluster: str
    """Token of the shared cluster, which is registered."""
    lines: list[str] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def nats(self, *arguments: str, stdin: str | None = None) -> str:
        return await asyncio.to_thread(self.stack.nats_cli, *arguments, stdin=stdin)

    async def ask(self, subject: str, question: str = "") -> Any:
        return json.loads(await self.nats("req", "--raw", subject, question))

    async def send(self, subject: str, **command: str) -> str:
        """Publishes a command as JSON; returns its operation."""
        operation = f"by-hand-{uuid.uuid4()}"
        await self.nats("pub", subject, json.dumps({"operation": operation, **command}))
        return operation

    async def ended(self, operation: str, *, within_s: float = 60.0) -> list[dict[str, Any]]:
        """The events of an operation that the terminal shows, once it has ended."""
        async with asyncio.timeout(within_s):
            while True:
                found = [e for e in map(json.loads, self.lines) if e["operation"] == operation]
                if found and found[-1]["phase"] in FINAL:
                    return found
                self._changed.clear()
                await self._changed.wait()

    async def messages(self, stream: str) -> int:
        info = json.loads(await self.nats("stream", "info", stream, "--json"))
        return int(info["state"]["messages"])

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """`nats sub 'live.evt.*.*.*'` for the block, each message one line."""
        former = await self._subscribed()
        terminal = await asyncio.create_subprocess_exec(
            *self.stack.nats_command("sub", "--raw", "live.evt.*.*.*"),
            env=self.stack.nats_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        reading = asyncio.create_task(self._read(terminal))
        try:

            async def is_subscribed() -> bool:
                # An earlier test's terminal may not be gone yet.
                return bool(await self._subscribed() - former)

            await eventually(is_subscribed, what="the subscription")
            yield
        finally:
            terminal.terminate()
            await terminal.wait()
            await reading

    async def _read(self, terminal: asyncio.subprocess.Process) -> None:
        assert terminal.stdout is not None
        async for line in terminal.stdout:
            self.lines.append(line.decode())
            self._changed.set()

    async def _subscribed(self) -> set[int]:
        """The connections that follow all events."""
        url = f"{self.stack.nats.monitoring_url}/connz?subs=1"
        connections = (await asyncio.to_thread(loopback.fetch_json, url))["connections"]
        return {
            int(c["cid"])
            for c in connections
            if "live.evt.*.*.*" in (c.get("subscriptions_list") or [])
        }


@pytest.fixture
async def operator(stack: Stack, cluster: Cluster) -> AsyncIterator[Operator]:
    """At a stack where the shared cluster is registered; nothing may be refused to anybody."""
    before = _refusals(stack)
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    await _register(stack, token, cluster.kubeconfig_text)
    operator = Operator(stack, token)
    async with operator.following():
        yield operator
    assert _refusals(stack) == before


def _refusals(stack: Stack) -> list[str]:
    return [r for user in ("operator", "gateway", "lifecycle") for r in stack.refusals(user)]


async def _register(stack: Stack, token: str, kubeconfig: str) -> None:
    """As lifecycle does after the first contact with a cluster, and with its rights."""
    bus = await connect(stack.settings("lifecycle"), service="lifecycle")
    try:
        await Sealer(Bucket(bus, "credentials")).register(token, kubeconfig)
    finally:
        await bus.close()


async def test_the_services_and_their_questions_can_be_found(operator: Operator) -> None:
    listing = await operator.nats("micro", "ls")
    assert "mesh-gateway" in listing
    assert "mesh-lifecycle" in listing
    described = await operator.nats("micro", "info", "mesh-lifecycle")
    assert "mesh.lifecycle.versions" in described
    assert "versions" in await operator.nats("micro", "stats", "mesh-lifecycle")


async def test_the_contract_has_every_question_that_is_answered(operator: Operator) -> None:
    answered = set()
    for service in asyncapi.SERVICES:
        told = await operator.ask(f"$SRV.INFO.mesh-{service}")
        answered |= {endpoint["subject"] for endpoint in told["endpoints"]}
    assert answered == {
        f"mesh.{service}.{query.verb}{form}"
        for service, query in asyncapi.questions()
        for form in ("", ".as.*", ".by.token" if service == "gateway" else ".for.gateway")
    }


async def test_services_answer_in_json(operator: Operator) -> None:
    versions = (await operator.ask("mesh.lifecycle.versions"))["versions"]
    assert versions == sorted(versions, reverse=True)
    assert "1.31.0" in versions
    assert "open" in await operator.ask("mesh.gateway.streams")
    refused = await operator.ask("mesh.lifecycle.status", "{}")
    assert refused["code"].startswith("MB-")
    assert refused["remedy"]


async def test_reports_show_all_streams_and_consumers(operator: Operator) -> None:
    report = await operator.nats("stream", "report")
    for stream in streams.streams(lease_ttl=timedelta(seconds=1)):
        assert stream.name in report
    assert "lifecycle" in await operator.nats("consumer", "report", "CMD")
    assert "OK" in await operator.nats("server", "check", "connection")
    assert "OK" in await operator.nats("server", "check", "jetstream")


async def test_the_system_user_sees_the_server(operator: Operator) -> None:
    stack = operator.stack
    report = await asyncio.to_thread(stack.nats_cli, "server", "list", user="system")
    assert stack.nats.name in report
    assert stack.refusals("system") == []


async def test_events_read_like_a_log(operator: Operator) -> None:
    name = f"log-{uuid.uuid4().hex[:8]}"
    operation = f"by-hand-{name}"
    command = {"operation": operation, "kind": "manifest", "body": CONFIG_MAP.format(name=name)}
    subject = subjects.apply_command(
        service="lifecycle", cluster=operator.cluster, operation=operation
    )
    await operator.nats("pub", subject, json.dumps(command))
    events = await operator.ended(operation)
    assert events[0]["phase"] == "started"
    assert events[-1]["phase"] == "done"
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    contract = asyncapi.document()["components"]
    told = jsonschema_rs.validator_for(
        {"$ref": "#/components/schemas/Event", "components": contract}
    )
    for event in events:
        told.validate(event)
        assert event["summary"]
        assert event["cluster"] == operator.cluster
        assert event["service"] == "lifecycle"


async def test_what_a_service_hands_on_has_to_be_signed(operator: Operator) -> None:
    """For a person who sends to the translator by hand: lifecycle does not take its word alone."""
    name = f"signed-{uuid.uuid4().hex[:8]}"
    command = {
        "operation": name,
        "kind": "custom",
        "cluster": operator.cluster,
        "body": CONFIG_MAP.format(name=name),
    }

    def subject(operation: str) -> str:
        return subjects.apply_command(
            service="translator", cluster=operator.cluster, operation=operation
        )

    unsigned = json.dumps({**command, "operation": f"un{name}"})
    await operator.nats("pub", subject(f"un{name}"), unsigned)
    refused = (await operator.ended(f"un{name}"))[-1]
    assert (refused["phase"], refused["error"]["code"]) == ("failed", "MB-2013")
    assert "sign" in refused["error"]["remedy"]
    signed = await asyncio.to_thread(_signed, operator.stack, json.dumps(command))
    await operator.nats("pub", "--force-stdin", subject(name), stdin=signed)
    ended = (await operator.ended(name))[-1]
    assert ended["phase"] == "done", ended
    # Another body under the same grant is nobody's.
    other = {**json.loads(signed), "operation": f"re{name}"}
    await operator.nats("pub", "--force-stdin", subject(f"re{name}"), stdin=json.dumps(other))
    assert (await operator.ended(f"re{name}"))[-1]["error"]["code"] == "MB-2014"


def _signed(stack: Stack, command: str) -> str:
    """By the command that Meshbus ships."""
    done = subprocess.run(
        [sys.executable, "-m", "services.chassis.bus", "sign"],
        cwd=ROOT,
        env={**os.environ, "MESHBUS_SIGNING_KEY": stack.ring.signing_key},
        input=command,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


async def test_a_command_by_hand_installs_the_mesh(operator: Operator, left_bare: Cluster) -> None:
    subject = subjects.mesh_command(service="lifecycle", cluster=operator.cluster)
    operation = await operator.send(subject, kind="istio", version="1.31.0")
    events = await operator.ended(operation, within_s=120)
    assert events[-1]["phase"] == "done", events[-1]
    found = left_bare.kubectl("get", "deployment", "-n", "istio-system", "-o", "name")
    assert "deployment.apps/istiod" in found
    question = json.dumps({"operation": operation, "cluster": operator.cluster})
    assert (await operator.ask("mesh.lifecycle.status", question))["state"] == "succeeded"
    # The cluster's own credential outlives the operation: the next one needs it as well.
    removal = await operator.send(subject, kind="istio", verb="delete")
    assert (await operator.ended(removal))[-1]["phase"] == "done"


async def test_garbage_goes_to_the_dead_letters_once_and_frees_its_slot(
    operator: Operator, left_bare: Cluster
) -> None:
    subject = subjects.mesh_command(service="lifecycle", cluster=operator.cluster)
    before = await operator.messages("DLQ")
    await operator.nats("pub", subject, "this is not a command")
    await eventually(lambda: _is_empty(operator, "CMD"), what="the slot to be free")
    operation = await operator.send(subject, kind="istio", verb="delete")
    assert (await operator.ended(operation))[-1]["phase"] == "done"
    assert await operator.messages("DLQ") == before + 1
    letter = await operator.nats("stream", "get", "DLQ", "--last-for=dlq.lifecycle")
    assert "this is not a command" not in letter, "a dead letter's body is sealed"
    assert subject in letter
    assert "MB-" in letter


async def test_a_garbled_subject_is_a_dead_letter_too(operator: Operator) -> None:
    before = await operator.messages("DLQ")
    await operator.nats("pub", f"cmd.lifecycle.{operator.cluster}.nonsense.here", "{}")
    await eventually(lambda: _is_empty(operator, "CMD"), what="the queue to be empty")
    assert await operator.messages("DLQ") == before + 1


async def test_a_command_may_not_borrow_a_credential(operator: Operator) -> None:
    operation = f"by-hand-{uuid.uuid4()}"
    subject = subjects.apply_command(
        service="lifecycle", cluster="anothercluster", operation=operation
    )
    body = {
        "operation": operation,
        "kind": "manifest",
        "credential": subjects.registered_credential(operator.cluster),
    }
    await operator.nats("pub", subject, json.dumps(body))
    last = (await operator.ended(operation))[-1]
    assert last["phase"] == "failed"
    assert "credential" in last["error"]["summary"]


async def test_naming_the_registered_credential_does_not_use_it_up(operator: Operator) -> None:
    key = subjects.registered_credential(operator.cluster)
    for _ in range(2):
        operation = f"by-hand-{uuid.uuid4()}"
        name = f"cm-{uuid.uuid4().hex[:8]}"
        subject = subjects.apply_command(
            service="lifecycle", cluster=operator.cluster, operation=operation
        )
        body = {
            "operation": operation,
            "kind": "manifest",
            "body": CONFIG_MAP.format(name=name),
            "credential": key,
        }
        await operator.nats("pub", subject, json.dumps(body))
        assert (await operator.ended(operation))[-1]["phase"] == "done"


async def test_credentials_are_out_of_the_operators_reach(stack: Stack) -> None:
    with pytest.raises(BedError):
        await asyncio.to_thread(
            stack.nats_cli, "--timeout=500ms", "kv", "get", "credentials", "cluster.any"
        )


async def _is_empty(operator: Operator, stream: str) -> bool:
    return await operator.messages(stream) == 0
