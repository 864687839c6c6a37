"""Attacks on the door: reused ports, idle connections, and strangers with and without tokens."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from nats.errors import TimeoutError as NatsTimeout

from deploy.nats.permissions import people
from services.chassis.bus.connection import connect
from services.chassis.bus.queries import ask
from services.chassis.bus.records import Records
from services.chassis.bus.streams import call_api
from services.chassis.errors import NotAuthenticated
from services.chassis.messages import ClusterRecord, RequestRecord
from services.chassis.policy import read_policy
from tests.real.gateway.callers import Caller, Relay, TokenFile, calling, silent
from tests.real.gateway.rig import (
    Rig,
    cluster_of,
    event,
    eventually,
    kubeconfig,
    rigged,
)
from tests.testbed import loopback
from tests.testbed.generations import GenerationClient
from tests.testbed.pki import Authority

# HTTP/2's preface and an empty SETTINGS frame: a connection that is complete, and idle.
PRLIMIT = str(shutil.which("prlimit"))
"""Of util-linux."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

POLICY = f"""\
people:
  ana: {{groups: [sre]}}
  ben: {{}}
  mallory: {{}}
rules:
- groups: [sre]
  operations: ["*"]
  questions: [gateway.*]
  events: all
- identities: [cleo]
  operations: ["*"]
  namespaces: [shop]
- identities: [ben]
  operations: [custom, bookinfo]
  clusters: [{cluster_of("bens")}]
  questions: [gateway.operations, gateway.deregister, gateway.apply]
"""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A gateway that asks who is there."""

    rig: Rig
    tokens: TokenFile

    def caller(self, name: str) -> Any:
        token = self.tokens.of.get(name, name)
        return calling(self.rig.stack.gateway_address, token)


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    known = TokenFile.written(folder / "tokens.yaml", ana=["sre"], ben=[], cleo=[], eve=[])
    (folder / "policy.yaml").write_text(POLICY)
    settings = {
        "MESHBUS_GATEWAY_TOKENS": str(known.path),
        "MESHBUS_POLICY": str(folder / "policy.yaml"),
    }
    users = people(read_policy(POLICY))
    async with rigged(folder / "rig", settings, people=users) as rig:
        yield Guarded(rig, known)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def custom(name: str, operation: str, **fields: Any) -> dict[str, Any]:
    return {
        "opName": "custom",
        "kube_configs": [kubeconfig(name)],
        "operation_id": operation,
        **fields,
    }


# --- who asks -------------------------------------------------------------------------------------


async def test_a_call_without_a_token_that_holds_is_refused(guarded: Guarded) -> None:
    before = await guarded.rig.published()
    for name in ("", "meshbus_guessed", "Bearer"):
        async with guarded.caller(name) as stranger:
            for call in (stranger.apply(**custom("bens", "stranger")), stranger.name()):
                error = await refused(call)
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                assert (error.details() or "").startswith("MB-1301: ")
            assert (await refused(stranger.stream())).code() is grpc.StatusCode.UNAUTHENTICATED
    assert await guarded.rig.published() == before


async def test_a_known_name_without_a_rule_may_do_nothing(guarded: Guarded) -> None:
    async with guarded.caller("eve") as eve:
        for call in (eve.name(), eve.apply(**custom("bens", "eves")), eve.stream()):
            error = await refused(call)
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert (error.details() or "").startswith("MB-1302: ")


async def test_the_policy_says_what_where(guarded: Guarded) -> None:
    async with guarded.caller("ben") as ben, guarded.caller("ana") as ana:
        assert await ben.apply(**custom("bens", "bens-1")) == "bens-1"
        others = custom("anas", "bens-2")
        both = custom("bens", "bens-3", kube_configs=[kubeconfig("bens"), kubeconfig("anas")])
        for fields in (others, both, custom("bens", "bens-4", opName="istio")):
            error = await refused(ben.apply(**fields))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await ana.apply(**custom("anas", "anas-1")) == "anas-1"
        assert sorted(await ben.offered()) == ["bookinfo", "custom"]
        assert "istio" in await ana.offered()
    commands = " ".join(await guarded.rig.commands())
    assert "bens-1" in commands
    assert "anas-1" in commands
    assert not [name for name in ("bens-2", "bens-3", "bens-4") if name in commands]


async def test_a_rule_for_a_namespace_covers_only_what_stays_in_it(guarded: Guarded) -> None:
    async with guarded.caller("cleo") as cleo:

        async def apply(operation: str, **fields: Any) -> Any:
            return await cleo.apply(
                **custom("cleos", operation, **{"opName": "bookinfo", **fields})
            )

        assert await apply("cleo-1", namespace="shop") == "cleo-1"
        elsewhere: list[dict[str, Any]] = [
            {"namespace": "default"},
            {"namespace": "shop", "custom_body": "kind: Namespace"},
            # It may write anywhere, and the mesh is everywhere.
            {"namespace": "shop", "opName": "custom"},
            {"namespace": "shop", "opName": "istio"},
        ]
        for fields in elsewhere:
            error = await refused(apply("cleo-2", **fields))
            assert (error.details() or "").startswith("MB-1302: "), fields


async def test_an_id_of_another_identity_is_not_taken_over(guarded: Guarded) -> None:
    async with guarded.caller("ben") as ben, guarded.caller("ana") as ana:
        await ben.apply(**custom("bens", "bens-own"))
        error = await refused(ana.apply(**custom("bens", "bens-own")))
    assert (error.details() or "").startswith("MB-1004: ")


async def test_the_audit_says_who_and_what_became_of_it(guarded: Guarded) -> None:
    async with guarded.caller("ben") as ben:
        await ben.apply(**custom("bens", "audited", username="somebody", custom_body="# secret-8"))
        await refused(ben.apply(**custom("audit-others", "audited-not")))

    async def written() -> list[dict[str, Any]]:
        found = await audited(guarded.rig)
        operations = {entry["operation"] for entry in found}
        return found if {"audited", "audited-not"} <= operations else []

    entries = await eventually(written, what="the audit")
    by_operation = {entry["operation"]: entry for entry in entries}
    good, bad = by_operation["audited"], by_operation["audited-not"]
    assert (good["identity"], good["by"], good["call"]) == ("ben", "token", "ApplyOperation")
    assert (good["outcome"], good["clusters"]) == ("accepted", [cluster_of("bens")])
    assert good["username"] == "somebody"
    assert (bad["outcome"], bad["code"], bad["identity"]) == ("refused", "MB-1302", "ben")
    text = orjson.dumps(entries).decode()
    secrets = [*guarded.tokens.of.values(), "a-token-of-no-use", "secret-8"]
    assert [secret for secret in secrets if secret in text] == []


async def audited(rig: Rig) -> list[dict[str, Any]]:
    """What the gateway has written down."""
    context = rig.bus.client.jetstream()
    state = (await context.stream_info("AUDIT")).state
    messages = [await context.get_msg("AUDIT", n) for n in range(1, state.last_seq + 1)]
    return [orjson.loads(message.data or b"") for message in messages]


async def test_a_flood_of_refused_calls_is_counted_in_the_audit(guarded: Guarded) -> None:
    async with guarded.caller("meshbus_flood") as stranger:
        await asyncio.gather(*(refused(stranger.name()) for _ in range(200)))
    entries = [entry for entry in await audited(guarded.rig) if entry["code"] == "MB-1301"]
    told = [entry for entry in entries if entry["call"] == "MeshName"]
    assert 1 <= len(told) < 10


# --- the service API ------------------------------------------------------------------------------


async def asked(rig: Rig, user: str, verb: str, question: Any, *, name: str = "") -> Any:
    """What `mesh.gateway.<verb>.as.<name>` says to a person's own NATS user; "" for no answer."""
    bus = await connect(rig.stack.settings(f"person_{user}"), service=f"person_{user}")
    subject = f"mesh.gateway.{verb}.as.{name}" if name else f"mesh.gateway.{verb}"
    try:
        reply = await bus.client.request(subject, orjson.dumps(question), timeout=5)
    except (TimeoutError, NatsTimeout):
        return ""
    finally:
        await bus.close()
    code = (reply.headers or {}).get("Nats-Service-Error-Code")
    return code or orjson.loads(reply.data)


async def test_people_ask_under_their_own_names_only(guarded: Guarded) -> None:
    rig = guarded.rig
    async with guarded.caller("ben") as ben, guarded.caller("ana") as ana:
        await ben.apply(**custom("bens", "asked-by-ben"))
        await ana.apply(**custom("bens", "asked-by-ana"))
    shown = await asked(rig, "ben", "operations", {"limit": 100}, name="ben")
    operations = {one["request"]["operation"] for one in shown["operations"]}
    assert "asked-by-ben" in operations
    assert "asked-by-ana" not in operations
    hidden = {"operation": "asked-by-ana"}
    assert await asked(rig, "ben", "operations", hidden, name="ben") == "MB-3004"
    seen = await asked(rig, "ana", "operations", {"operation": "asked-by-ben"}, name="ana")
    assert seen["request"]["identity"] == "ben"
    # A rule for one cluster is none for others; without a rule there is nothing.
    foreign = {"cluster": cluster_of("anas")}
    assert await asked(rig, "ben", "deregister", foreign, name="ben") == "MB-1302"
    assert await asked(rig, "ben", "streams", {}, name="ben") == "MB-1302"
    assert await asked(rig, "mallory", "operations", {}, name="mallory") == "MB-1302"


async def test_a_sign_in_that_fails_is_in_the_audit(guarded: Guarded) -> None:
    """The console carries the token of whoever tries to the gateway."""
    rig = guarded.rig
    console = await connect(rig.stack.settings("topology"), service="topology")
    try:
        with pytest.raises(NotAuthenticated):
            await ask(
                console,
                {},
                service="gateway",
                verb="whoami",
                within=timedelta(seconds=20),
                authorization="Bearer a-token-that-nobody-has",
            )
    finally:
        await console.close()

    async def written() -> list[dict[str, Any]]:
        return [one for one in await audited(rig) if one["call"] == "mesh.gateway.whoami"]

    [entry] = await eventually(written, what="the audit")
    assert (entry["outcome"], entry["code"], entry["identity"]) == ("refused", "MB-1301", "")
    assert "a-token-that-nobody-has" not in orjson.dumps(entry).decode()


async def test_an_operation_on_registered_clusters_is_accepted_over_the_service_api(
    guarded: Guarded,
) -> None:
    rig = guarded.rig
    for name in ("bens", "anas"):
        record = ClusterRecord(cluster=cluster_of(name), name=name, server="https://x:6443")
        await Records(rig.bucket("clusters"), ClusterRecord).put(record.cluster, record)

    def question(operation: str, *names: str, **fields: Any) -> dict[str, Any]:
        clusters = [cluster_of(name) for name in names]
        return {"kind": "custom", "clusters": clusters, "operation": operation, **fields}

    async def apply(user: str, asking: dict[str, Any]) -> Any:
        return await asked(rig, user, "apply", asking, name=user)

    assert await apply("ana", question("api-1", "bens", "anas")) == {"operation": "api-1"}
    assert await apply("ben", question("api-2", "bens")) == {"operation": "api-2"}
    assert await apply("ben", question("api-3", "anas")) == "MB-1302"
    assert await apply("ben", question("api-4", "bens", "anas")) == "MB-1302"
    assert await apply("ana", question("api-5", "unknown")) == "MB-3004"
    assert await apply("ana", question("api-6", "anas", kube_configs=["x"])) == "MB-1001"
    assert await apply("mallory", question("api-7", "bens")) == "MB-1302"
    commands = [subject for subject in await rig.commands() if ".apply.api-" in subject]
    assert commands == sorted(
        f"cmd.lifecycle.{cluster_of(name)}.apply.{operation}"
        for name, operation in (("bens", "api-1"), ("anas", "api-1"), ("bens", "api-2"))
    )
    # Lifecycle takes the registered credentials: the gateway has none to seal.
    keys = await rig.bucket("credentials").keys(matching="operation.>")
    assert [key for key in keys if key.startswith("operation.api-")] == []
    stored = await Records(rig.bucket("ops"), RequestRecord).get("api-2")
    assert stored is not None
    assert stored[0].identity == "ben"


async def test_nats_keeps_people_from_each_others_names(guarded: Guarded) -> None:
    rig = guarded.rig
    for name in ("ana", ""):
        assert await asked(rig, "ben", "operations", {}, name=name) == ""
    told = " ".join(rig.stack.refusals("person_ben"))
    assert "mesh.gateway.operations.as.ana" in told


async def test_a_question_under_a_name_is_in_the_audit(guarded: Guarded) -> None:
    await asked(guarded.rig, "ana", "streams", {}, name="ana")

    async def written() -> bool:
        return any(
            (entry["call"], entry["identity"], entry["by"])
            == ("mesh.gateway.streams", "ana", "nats")
            for entry in await audited(guarded.rig)
        )

    await eventually(written, what="the audit of a question")


@pytest.mark.parametrize("user", ["topology", "operator"])
async def test_nobody_takes_an_entry_out_of_the_audit(guarded: Guarded, user: str) -> None:
    """Not a service that writes some itself, not the operator; deleting is denied to all."""
    rig = guarded.rig
    async with guarded.caller("ben") as ben:
        await ben.apply(**custom("bens", f"kept-from-{user}"))

    async def written() -> bool:
        return bool(await audited(rig))

    await eventually(written, what="an entry")
    before = len(await audited(rig))
    for call, body in (
        ("STREAM.MSG.DELETE.AUDIT", {"seq": 1}),
        ("STREAM.PURGE.AUDIT", {}),
    ):
        answer = await call_api(rig.bus.client, call, body)
        assert "error" in answer, f"{call} as admin"
    bus = await connect(rig.stack.settings(user), service=user)
    try:
        own = "STREAM.UPDATE.AUDIT_topology"
        for call in ("STREAM.MSG.DELETE.AUDIT", "STREAM.UPDATE.AUDIT", "STREAM.DELETE.AUDIT", own):
            with pytest.raises((TimeoutError, NatsTimeout)):
                await bus.client.request(f"$JS.API.{call}", b"{}", timeout=0.3)
    finally:
        await bus.close()
    assert len(await audited(rig)) >= before


# --- events ---------------------------------------------------------------------------------------


async def test_a_strangers_stream_uses_up_nobodys_events(guarded: Guarded) -> None:
    rig = guarded.rig
    async with guarded.caller("ben") as ben, guarded.caller("ana") as ana:
        await ben.apply(**custom("bens", "watched"))
        await ana.apply(**custom("anas", "hidden"))
        # Ben, who may see his own, listens first and takes what is his.
        others = await ben.stream()
        await rig.publisher.event(event("hidden", 1, "of ana"))
        last = await rig.publisher.event(event("watched", 1, "of ben"))
        assert await next_summary(others) == "of ben"

        async def marked() -> bool:
            entry = await rig.bucket("delivery").get("identity.ben")
            return entry is not None and bool(
                orjson.loads(entry.value)["sequence"] >= last.sequence
            )

        await eventually(marked, what="Ben's mark")
        others.cancel()
        # Ana comes later: nothing of hers is used up, and she may see all.
        own = await ana.stream()
        told = [await next_summary(own)]
        while told[-1] != "of ben":
            told.append(await next_summary(own))
        assert "of ana" in told
        own.cancel()
        # And Ben gets nothing twice.
        again = await ben.stream()
        await rig.publisher.event(event("watched", 2, "more of ben"))
        assert await next_summary(again) == "more of ben"


async def next_summary(stream: grpc.aio.UnaryStreamCall[Any, Any]) -> str:
    """The next one that a worker told: that none is connected, the gateway says when it likes."""
    async with asyncio.timeout(30):
        while True:
            event: Any = await stream.read()
            summary = str(event.summary)
            if "custom accepted" not in summary:
                return summary


# --- connections ----------------------------------------------------------------------------------


async def test_a_reused_source_port_inherits_no_kubeconfig(rig: Rig) -> None:
    target = (loopback.HOST, rig.stack.gateway_port)
    async with Relay(target, loopback.take_port()).running() as address:
        async with GenerationClient("C", address) as first:
            given = {"k8sConfig": kubeconfig("reused").encode()}
            await first.call("CreateMeshInstance", given)
            own = {"opName": "custom", "operation_id": "reused-own"}
            await first.call("ApplyOperation", own)
        async with GenerationClient("C", address) as second:
            foreign = {"opName": "custom", "operation_id": "reused-foreign"}
            error = await refused(second.call("ApplyOperation", foreign))
    assert (error.details() or "").startswith("MB-1003: ")
    commands = await rig.commands()
    assert f"cmd.lifecycle.{cluster_of('reused')}.apply.reused-own" in commands
    assert not [subject for subject in commands if "reused-foreign" in subject]


@pytest.mark.parametrize(
    ("greeting", "at"), [(b"", "calls"), (PREFACE, "calls"), (b"", "health")], ids=str
)
async def test_idle_connections_leave_room(rig: Rig, greeting: bytes, at: str) -> None:
    """Over a thousand of them, with the 1 024 files that a process has by default."""
    name, port = f"flooded-{at}-{len(greeting)}", loopback.take_port()
    rig.stack.add(
        "gateway",
        name=name,
        settings={"MESHBUS_GATEWAY_PORT": str(port)},
        under=[PRLIMIT, "--nofile=1024:1024"],
    )
    rig.stack.wait_ready(name)
    health = rig.stack.health_url(name)
    attacked = port if at == "calls" else int(health.rpartition(":")[2])
    held = await asyncio.to_thread(silent, attacked, 1100, source="127.0.0.2", greeting=greeting)

    async def is_ready() -> bool:
        # Within the second until the port looks at its connections, one may be refused.
        with suppress(ConnectionError):
            answer = await asyncio.to_thread(loopback.fetch, f"{health}/readyz", timeout_s=10.0)
            return answer == b"ok\n"
        return False

    try:
        await eventually(is_ready, what="room for a probe")
        async with calling(f"{loopback.HOST}:{port}") as client:
            # Some seconds are gRPC's own pause between two tries.
            assert await client.name(timeout_s=20, wait=True) == "ISTIO"
    finally:
        for connection in held:
            connection.close()
        rig.stack.processes[name].stop()


async def test_certificates_are_renewed_while_the_gateway_serves(tmp_path: Path) -> None:
    old, new = Authority("old"), Authority("new")
    files = {name: tmp_path / name for name in ("server.crt", "server.key", "ca.crt")}

    def write(authority: Authority) -> None:
        pair = authority.issue_server("gateway", ["localhost", "127.0.0.1"])
        contents = (pair.public_pem, pair.private_pem, authority.certificate_pem)
        for path, content in zip(files.values(), contents, strict=True):
            path.with_suffix(".new").write_bytes(content)
            os.replace(path.with_suffix(".new"), path)

    write(old)
    settings = {
        "MESHBUS_GATEWAY_TLS_CERTIFICATE": str(files["server.crt"]),
        "MESHBUS_GATEWAY_TLS_KEY": str(files["server.key"]),
        "MESHBUS_GATEWAY_TLS_CLIENT_CA": str(files["ca.crt"]),
    }
    async with rigged(tmp_path / "rig", settings) as rig:

        async def name(authority: Authority) -> str:
            pair = authority.issue_client("meshery")
            credentials = grpc.ssl_channel_credentials(
                authority.certificate_pem, pair.private_pem, pair.public_pem
            )
            address = rig.stack.gateway_address
            async with calling(address, credentials=credentials) as client:
                return await client.name(timeout_s=5)

        assert await name(old) == "ISTIO"
        await refused(name(new))
        # Half of a renewal changes nothing.
        files["server.key"].write_bytes(old.issue_client("other").private_pem)
        assert await name(old) == "ISTIO"
        write(new)
        assert await name(new) == "ISTIO"
        await refused(name(old))


async def test_a_call_that_hangs_ends(tmp_path: Path) -> None:
    """Meshery sets no deadline, so the gateway has one."""
    async with rigged(tmp_path, {"MESHBUS_GATEWAY_ANSWER_DEADLINE": "500ms"}) as rig:
        rig.stack.nats.process.pause()
        try:
            async with calling(rig.stack.gateway_address) as client:
                error = await refused(client.apply(**custom("hangs", "hangs")))
        finally:
            rig.stack.nats.process.resume()
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert isinstance(client, Caller)
