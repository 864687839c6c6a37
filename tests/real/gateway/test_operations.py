"""ApplyOperation: checked, stored, published, answered; and never run twice."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from typing import Any

import grpc
import orjson
import pytest

from services.chassis.bus import subjects
from services.chassis.bus.records import Records
from services.chassis.bus.streams import call_api
from services.chassis.messages import (
    AdvertisedOperation,
    Category,
    Event,
    OperationRecord,
    OperationState,
    Phase,
    RequestRecord,
    ServiceCatalog,
    Severity,
    SlotKind,
    Verb,
)
from tests.real.gateway.rig import (
    PATIENCE_S,
    Rig,
    cluster_of,
    eventually,
    heard,
    kubeconfig,
    opened,
    rigged,
)
from tests.testbed import loopback
from tests.testbed.generations import GenerationClient
from tests.testbed.wires import BusWire


def fresh_id() -> str:
    return str(uuid.uuid4())


def asked(operation: str, *clusters: str, kind: str = "custom", **more: Any) -> dict[str, Any]:
    return {
        "opName": kind,
        "operation_id": operation,
        "kube_configs": [kubeconfig(name) for name in clusters],
        **more,
    }


async def refusal(client: GenerationClient, fields: dict[str, Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call("ApplyOperation", fields)
    return caught.value


def _begun(operation: str, cluster: str) -> OperationRecord:
    """In the hands of a worker that never ends it."""
    return OperationRecord(
        operation=operation,
        kind="custom",
        cluster=cluster,
        state=OperationState.RUNNING,
        worker="one that dies",
    )


async def test_a_command_holds_what_was_asked(rig: Rig) -> None:
    operation = fresh_id()
    async with rig.client("F") as client:
        answer = await client.call(
            "ApplyOperation",
            asked(
                operation,
                "holds",
                namespace="shop",
                username="someone",
                custom_body="kind: List",
                delete_op=True,
                version="1.31.0",
            ),
        )
    assert (answer.error, answer.operation_id) == ("", operation)
    cluster = cluster_of("holds")
    command = await rig.stored_command(f"cmd.lifecycle.{cluster}.apply.{operation}")
    assert command.verb is Verb.DELETE
    assert (command.namespace, command.username) == ("shop", "someone")
    assert (command.body, command.version) == ("kind: List", "1.31.0")
    assert (command.cluster, command.cluster_name) == (cluster, "holds")
    assert command.credential == subjects.operation_credential(operation, cluster)
    assert await rig.bucket("credentials").get(command.credential)


async def test_an_operation_without_an_id_or_namespace_gets_both(rig: Rig) -> None:
    async with rig.client("F") as client:
        answer = await client.call("ApplyOperation", asked("", "nameless"))
    assert uuid.UUID(answer.operation_id).version == 4
    subject = f"cmd.lifecycle.{cluster_of('nameless')}.apply.{answer.operation_id}"
    assert (await rig.stored_command(subject)).namespace == "default"


async def test_the_same_id_twice_runs_once(rig: Rig) -> None:
    operation = fresh_id()
    async with rig.client("F") as client:
        before = await rig.published()
        calls = [client.call("ApplyOperation", asked(operation, "twice")) for _ in range(5)]
        answers = await asyncio.gather(*calls)
        assert {answer.operation_id for answer in answers} == {operation}
        assert await rig.published() == before + 1
        await rig.end_part(operation, cluster_of("twice"))
        again = await client.call("ApplyOperation", asked(operation, "twice"))
    assert again.operation_id == operation
    assert await rig.published() == before + 1
    key = subjects.operation_credential(operation, cluster_of("twice"))
    # It is the worker's to delete.
    assert await rig.bucket("credentials").get(key)


async def test_a_repeat_after_the_end_leaves_no_credential(rig: Rig) -> None:
    operation, cluster = fresh_id(), cluster_of("ended")
    key = subjects.operation_credential(operation, cluster)
    async with rig.client("F") as client:
        await client.call("ApplyOperation", asked(operation, "ended"))
        await rig.end_part(operation, cluster)
        await rig.bucket("credentials").delete(key)
        await client.call("ApplyOperation", asked(operation, "ended"))
    assert await rig.bucket("credentials").get(key) is None


async def test_an_id_stands_for_one_request(rig: Rig) -> None:
    operation = fresh_id()
    async with rig.client("F") as client:
        await client.call("ApplyOperation", asked(operation, "reused"))
        key = subjects.operation_credential(operation, cluster_of("reused"))
        sealed = await rig.bucket("credentials").get(key)
        for other in (
            asked(operation, "reused", delete_op=True),
            asked(operation, "reused", namespace="elsewhere"),
            asked(operation, "reused", custom_body="a: b"),
            asked(operation, "reused", version="1.30.2"),
            asked(operation, "reused", "reused-too"),
            asked(operation, "reused", kind="bookinfo"),
        ):
            error = await refusal(client, other)
            assert error.code() is grpc.StatusCode.ALREADY_EXISTS
            assert (error.details() or "").startswith("MB-1004: ")
    # Neither swapped nor joined by another.
    assert await rig.bucket("credentials").get(key) == sealed
    other_key = subjects.operation_credential(operation, cluster_of("reused-too"))
    assert await rig.bucket("credentials").get(other_key) is None


@pytest.mark.parametrize("filled", [0, 100_000], ids=["short", "long"])
async def test_the_record_of_a_request_cannot_be_tried_for_its_password(
    rig: Rig, filled: int
) -> None:
    """Whoever reads `ops` knows all of a request but its secrets, and may hash guesses."""
    operation, body = fresh_id(), "password: one-of-a-thousand" + "\n" * filled
    request = ["custom", "default", body, "apply", "", [cluster_of("guessed")]]
    by_guess = hashlib.sha256(orjson.dumps(request)).hexdigest()
    key = subjects.operation_key(operation)
    fields = asked(operation, "guessed", custom_body=body)
    async with rig.client("F") as client:
        await client.call("ApplyOperation", fields)
        entry = await rig.bucket("ops").get(key)
        assert entry is not None
        record = RequestRecord.model_validate_json(entry.value)
        assert record.fingerprint != by_guess
        assert (await client.call("ApplyOperation", fields)).operation_id == operation
        # As gateways wrote it that had no key for it: an upgrade must not make a repeat another.
        former = record.model_copy(update={"fingerprint": by_guess})
        await rig.bucket("ops").put(key, former.model_dump_json().encode())
        assert (await client.call("ApplyOperation", fields)).operation_id == operation
        error = await refusal(client, fields | {"custom_body": body.replace("one-", "two-")})
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_what_a_crash_left_unpublished_is_published_by_a_repeat(rig: Rig) -> None:
    template, operation = fresh_id(), fresh_id()
    async with rig.client("F") as client:
        await client.call("ApplyOperation", asked(template, "crashed"))
        # The state of a gateway that died between the record and the command.
        entry = await rig.bucket("ops").get(subjects.operation_key(template))
        assert entry is not None
        record = entry.value.replace(template.encode(), operation.encode())
        await rig.bucket("ops").create(subjects.operation_key(operation), record)
        await client.call("ApplyOperation", asked(operation, "crashed"))
    assert f"cmd.lifecycle.{cluster_of('crashed')}.apply.{operation}" in await rig.commands()
    key = subjects.operation_credential(operation, cluster_of("crashed"))
    assert await rig.bucket("credentials").get(key)


async def test_one_kubeconfig_given_twice_is_one_cluster(rig: Rig) -> None:
    operation = fresh_id()
    before = await rig.published()
    async with rig.client("F") as client:
        await client.call("ApplyOperation", asked(operation, "same", "same"))
    assert await rig.published() == before + 1


async def test_a_busy_cluster_names_the_holder_and_leaves_nothing(rig: Rig) -> None:
    holder, operation = fresh_id(), fresh_id()
    cluster = cluster_of("busy")
    async with rig.client("F") as client:
        await client.call("ApplyOperation", asked(holder, "busy", kind="istio"))
        error = await refusal(client, asked(operation, "busy", kind="istio"))
        assert error.code() is grpc.StatusCode.ABORTED
        assert (error.details() or "").startswith("MB-2002: ")
        assert holder in (error.details() or "")
        assert "busy" in (error.details() or "")
        assert await rig.bucket("ops").get(subjects.operation_key(operation)) is None
        key = subjects.operation_credential(operation, cluster)
        assert await rig.bucket("credentials").get(key) is None
        # Manifests flow beside it, and the id is free again when the slot is.
        await client.call("ApplyOperation", asked(fresh_id(), "busy"))
        await rig.end_part(holder, cluster)
        await client.call("ApplyOperation", asked(operation, "busy", kind="istio"))
    command = await rig.stored_command(f"cmd.lifecycle.{cluster}.mesh")
    assert command.operation == operation


async def test_of_several_clusters_the_free_ones_run(fresh: Rig) -> None:
    holder, operation = fresh_id(), fresh_id()
    taken, free = cluster_of("taken"), cluster_of("free")
    async with fresh.client("F") as client:
        await client.call("ApplyOperation", asked(holder, "taken", kind="istio"))
        answer = await client.call(
            "ApplyOperation", asked(operation, "taken", "free", kind="istio")
        )
        assert answer.operation_id == operation
        assert (await fresh.stored_command(f"cmd.lifecycle.{free}.mesh")).operation == operation
        assert (await fresh.stored_command(f"cmd.lifecycle.{taken}.mesh")).operation == holder
        failed = [e for e in await fresh.events_of(operation) if e.phase is Phase.FAILED]
        assert [(e.cluster, e.error and e.error.code) for e in failed] == [(taken, "MB-2002")]
        assert holder in failed[0].summary
        # Asked again it answers the same, also when the slot has become free meanwhile.
        await fresh.end_part(holder, taken)
        before = await fresh.published()
        await client.call("ApplyOperation", asked(operation, "taken", "free", kind="istio"))
        assert await fresh.published() == before
        told = await fresh.ask("operations", {"operation": operation})
    assert told["parts"][taken]["state"] == "failed"
    assert told["parts"][free] is None


async def test_an_absent_worker_is_told_once_and_the_operation_waits(fresh: Rig) -> None:
    operation = fresh_id()
    async with fresh.client("F") as client:
        stream = await opened(client)
        await client.call("ApplyOperation", asked(operation, "alone", "also"))
        (notice,) = await heard(stream, 1)
    assert notice.event_type == 1
    assert notice.operation_id == operation
    assert "no lifecycle worker is connected" in notice.summary
    assert "alone, also" in notice.summary
    assert len(await fresh.commands()) == 2


async def test_a_connected_worker_is_not_called_absent(fresh: Rig) -> None:
    inbox = fresh.bus.client.new_inbox()
    subscription = await fresh.bus.client.subscribe(inbox)
    # A parked pull, as a worker has one.
    await fresh.bus.client.publish(
        "$JS.API.CONSUMER.MSG.NEXT.CMD.lifecycle", b'{"batch": 1}', reply=inbox
    )
    operation = AdvertisedOperation(
        name="absent", description="-", category=Category.CUSTOM, slot=SlotKind.APPLY
    )
    await fresh.advertise(ServiceCatalog(service="translator", operations=[operation]))
    first, second, third = fresh_id(), fresh_id(), fresh_id()
    async with fresh.client("F") as client:
        stream = await opened(client)
        await client.call("ApplyOperation", asked(first, "attended"))
        await subscription.next_msg(timeout=5)
        await client.call("ApplyOperation", asked(second, "attended"))
        # The check of one without a worker begins after both, and ends after them.
        await client.call("ApplyOperation", asked(third, "attended", kind="absent"))
        (only,) = await heard(stream, 1)
    assert only.operation_id == third


async def test_no_worker_is_missed_for_an_operation_that_has_ended(fresh: Rig) -> None:
    """Its end may come later than the look for a worker on a busy machine, but not every time."""
    async with fresh.client("F") as client:
        for _ in range(20):
            ended, waits = fresh_id(), fresh_id()
            await client.call("ApplyOperation", asked(ended, "ended"))
            final = Event(
                operation=ended,
                kind="custom",
                service="lifecycle",
                cluster=cluster_of("ended"),
                phase=Phase.DONE,
                summary="done",
            )
            await fresh.publisher.event(final)
            await client.call("ApplyOperation", asked(waits, "waits"))
            # This look begins after the other one, and ends after it.
            await eventually(lambda one=waits: fresh.events_of(one), what="the notice of a wait")
            if [told.phase for told in await fresh.events_of(ended)] == [Phase.DONE]:
                return
    pytest.fail("each operation that had ended was told to wait")


async def test_an_operation_that_nobody_begins_fails_at_its_deadline(tmp_path: Any) -> None:
    settings = {"MESHBUS_GATEWAY_OPERATION_DEADLINE": "PT2S"}
    operation = fresh_id()
    async with rigged(tmp_path, settings) as rig, rig.client("F") as client:
        stream = await opened(client)
        await client.call("ApplyOperation", asked(operation, "late", kind="istio"))
        notice, final = await heard(stream, 2)
        assert notice.event_type == 1
        assert (final.event_type, final.error_code) == (2, "MB-2007")
        assert final.operation_id == operation
        assert "late" in final.summary
        told = await rig.ask("operations", {"operation": operation})
        assert told["parts"][cluster_of("late")]["state"] == "failed"
        assert await rig.commands() == []


async def test_an_operation_whose_worker_is_gone_fails_after_a_patience(tmp_path: Any) -> None:
    """The command left its queue at the deadline, so that no other worker will ever get it."""
    settings = {"MESHBUS_GATEWAY_OPERATION_DEADLINE": "PT2S"}
    operation, cluster = fresh_id(), cluster_of("gone")
    key = subjects.operation_key(operation, cluster)
    async with rigged(tmp_path, settings) as rig, rig.client("F") as client:
        stream = await opened(client)
        await client.call("ApplyOperation", asked(operation, "gone"))
        ops = Records(rig.bucket("ops"), OperationRecord)
        await ops.create(key, _begun(operation, cluster))
        final = None
        while final is None or final.event_type != 2:
            [final] = await heard(stream, 1)
        assert (final.operation_id, final.error_code) == (operation, "MB-2009")
        stored = await ops.get(key)
        assert stored is not None
        # A worker that is alive after all sees another attempt than its own, and stops.
        assert (stored[0].state, stored[0].attempt) == (OperationState.FAILED, 2)


async def test_an_end_that_was_recorded_and_not_told_is_told(tmp_path: Any) -> None:
    """The gateway dies when it has recorded that it gives an operation up. Another one tells it,
    and no gateway tells it twice."""
    settings = {"MESHBUS_GATEWAY_OPERATION_DEADLINE": "PT2S"}
    operation, cluster = fresh_id(), cluster_of("gone")
    key = subjects.operation_key(operation, cluster)
    async with rigged(tmp_path, settings) as rig:
        with BusWire(rig.stack.nats.port) as wire:
            port = str(loopback.take_port())
            wired = {**settings, "MESHBUS_NATS_URL": wire.url, "MESHBUS_GATEWAY_PORT": port}
            rig.stack.add("gateway", name="gateway-2", settings=wired)
            rig.stack.wait_ready("gateway-2")
            rig.stack.processes["gateway"].kill()
            second = rig.stack.processes["gateway-2"]
            snare = wire.arm(f"$KV.ops.{key}", then=second.kill, after=True)
            async with rig.client("F", address=f"{loopback.HOST}:{port}") as client:
                await client.call("ApplyOperation", asked(operation, "gone"))
            ops = Records(rig.bucket("ops"), OperationRecord)
            await ops.create(key, _begun(operation, cluster))
            await asyncio.to_thread(snare.sprung.wait, PATIENCE_S)
        stored = await ops.get(key)
        assert stored is not None
        assert stored[0].state is OperationState.FAILED
        assert not [e for e in await rig.events_of(operation) if e.is_final]

        async def ends(of: str = operation) -> list[Event]:
            return [e for e in await rig.events_of(of) if e.is_final]

        rig.restart_gateway()
        [end] = await eventually(ends, what="the final event")
        assert end == stored[0].final
        assert (end.phase, end.error and end.error.code) == (Phase.FAILED, "MB-2009")
        rig.stack.processes["gateway"].stop()
        rig.restart_gateway()
        later = fresh_id()
        async with rig.client("F") as client:
            await client.call("ApplyOperation", asked(later, "late", kind="istio"))
        # Its turn comes after that of the first one.
        await eventually(lambda: ends(later), what="the end of the later one")
        assert await ends() == [end]
        assert rig.stack.processes["gateway"].log.read_text().count("end_repeated") == 1


async def test_a_restart_keeps_watching_deadlines(tmp_path: Any) -> None:
    settings = {"MESHBUS_GATEWAY_OPERATION_DEADLINE": "PT2S"}
    operation = fresh_id()
    async with rigged(tmp_path, settings) as rig:
        async with rig.client("F") as client:
            await client.call("ApplyOperation", asked(operation, "late"))
        rig.stack.processes["gateway"].kill()
        rig.restart_gateway()

        async def failed() -> bool:
            events = await rig.events_of(operation)
            return [e.severity for e in events if e.phase is Phase.FAILED] == [Severity.ERROR]

        await eventually(failed, what="the final event")


async def test_a_replica_that_is_gone_for_good_has_its_deadlines_watched(tmp_path: Any) -> None:
    settings = {"MESHBUS_GATEWAY_OPERATION_DEADLINE": "PT2S"}
    operation = fresh_id()
    async with rigged(tmp_path, settings) as rig:
        port = str(loopback.take_port())
        other = {**settings, "MESHBUS_GATEWAY_PORT": port}
        rig.stack.add("gateway", name="gateway-2", settings=other)
        rig.stack.wait_ready("gateway-2")
        async with rig.client("F") as client:
            await client.call("ApplyOperation", asked(operation, "late"))
        rig.stack.processes["gateway"].kill()

        async def failed() -> bool:
            events = await rig.events_of(operation)
            return [e.severity for e in events if e.phase is Phase.FAILED] == [Severity.ERROR]

        await eventually(failed, what="the final event")


async def test_a_client_that_leaves_does_not_take_its_operation_along(rig: Rig) -> None:
    operations = [fresh_id() for _ in range(40)]
    async with rig.client("F") as client:
        for number, operation in enumerate(operations):
            call = asyncio.ensure_future(
                client.call("ApplyOperation", asked(operation, f"left-{number}"))
            )
            await asyncio.sleep(number / 20_000)  # cancelled at another moment each time
            call.cancel()
            await asyncio.wait({call})
        await client.call("ApplyOperation", asked(fresh_id(), "after"))

    async def whole() -> bool:
        """Every operation that left a record has its command, too."""
        records = await rig.bucket("ops").keys()
        commands = " ".join(await rig.commands())
        begun = [op for op in operations if subjects.operation_key(op) in records]
        return all(op in commands for op in begun)

    await eventually(whole, what="no half operation")


async def test_a_killed_gateway_loses_no_operation_and_runs_none_twice(fresh: Rig) -> None:
    operations = [fresh_id() for _ in range(300)]

    async def send(client: GenerationClient, operation: str) -> bool:
        try:
            await client.call("ApplyOperation", asked(operation, "killed"))
        except grpc.aio.AioRpcError:
            return False
        return True

    async with fresh.client("F") as client:
        calls = [asyncio.ensure_future(send(client, op)) for op in operations]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        fresh.stack.processes["gateway"].kill()
        first = await asyncio.gather(*calls)
    assert not all(first), "the gateway was killed too late to be of use"
    fresh.restart_gateway()
    async with fresh.client("F") as client:
        assert all(await asyncio.gather(*(send(client, op) for op in operations)))
    assert await fresh.published() == len(operations)
    assert len(await fresh.commands()) == len(operations)


async def test_the_gateway_alone_registers_nothing(fresh: Rig) -> None:
    """It cannot tell a credential that works from one that somebody made up."""
    cluster = cluster_of("unproven")
    async with fresh.client("F") as client:
        stream = await opened(client)
        await client.call("ApplyOperation", asked(fresh_id(), "unproven"))
        await heard(stream, 1)  # the notice of the wait comes after all that follows acceptance
    assert await fresh.ask("clusters", {}) == {"clusters": []}
    assert await fresh.bucket("credentials").get(subjects.registered_credential(cluster)) is None


async def test_who_is_asked_to_forget_a_cluster_is_lifecycle(fresh: Rig) -> None:
    assert await fresh.ask("deregister", {"cluster": "any"}) == {"code": "MB-2012"}


async def test_operations_can_be_asked_for(fresh: Rig) -> None:
    first, second = fresh_id(), fresh_id()
    async with fresh.client("F") as client:
        for operation in (first, second):
            await client.call("ApplyOperation", asked(operation, "told"))
    listed = await fresh.ask("operations", {})
    assert [o["request"]["operation"] for o in listed["operations"]] == [second, first]
    assert await fresh.ask("operations", {"operation": "nobody's"}) == {"code": "MB-3004"}
    assert await fresh.ask("operations", {"limit": 0}) == {"code": "MB-1001"}


async def test_operations_are_found_by_what_they_are(fresh: Rig) -> None:
    ids = [f"found-{number}" for number in range(5)]
    async with fresh.client("F") as client:
        for number, operation in enumerate(ids):
            await client.call("ApplyOperation", asked(operation, "red" if number < 2 else "blue"))

    async def found(**listing: object) -> tuple[list[str], bool]:
        told = await fresh.ask("operations", listing)
        return [one["request"]["operation"] for one in told["operations"]], told["more"]

    newest = ids[::-1]
    assert await found() == (newest, False)
    assert await found(limit=3) == (newest[:3], True)
    middle = (await fresh.ask("operations", {"limit": 3}))["operations"][-1]["request"]["accepted"]
    assert await found(limit=3, before=middle) == (newest[3:], False)
    assert await found(cluster=cluster_of("red")) == (["found-1", "found-0"], False)
    assert await found(search="FOUND-3 custom") == (["found-3"], False)
    # What no worker has begun counts as running.
    assert await found(state="running", limit=2) == (newest[:2], True)
    assert await found(state="failed") == ([], False)
    for wrong in ({"before": "yesterday"}, {"state": "odd"}, {"search": 300 * "x"}, {"limit": "2"}):
        assert await fresh.ask("operations", wrong) == {"code": "MB-1001"}, wrong


async def test_ids_that_are_no_subject_tokens_work(rig: Rig) -> None:
    operation = "deploy of shop.prod / *.> ünïcode"
    async with rig.client("F") as client:
        answer = await client.call("ApplyOperation", asked(operation, "odd"))
        again = await client.call("ApplyOperation", asked(operation, "odd"))
    assert answer.operation_id == again.operation_id == operation
    told = await rig.ask("operations", {"operation": operation})
    assert told["request"]["operation"] == operation


async def test_nats_away_is_said_and_the_same_id_works_afterwards(fresh: Rig) -> None:
    operation = fresh_id()
    async with fresh.client("F") as client:
        fresh.stack.nats.kill()
        error = await refusal(client, asked(operation, "away"))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert (error.details() or "").startswith("MB-2001: ")
        fresh.stack.nats.start()
        await fresh.bus.client.flush()

        async def accepted() -> bool:
            try:
                await client.call("ApplyOperation", asked(operation, "away"))
            except grpc.aio.AioRpcError:
                return False
            return True

        await eventually(accepted, what="the gateway to be back")
    assert await fresh.published() == 1
    answer = await call_api(fresh.bus.client, "STREAM.INFO.CMD", {})
    assert answer["state"]["messages"] == 1
