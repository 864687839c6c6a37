"""The service API as a person meets it: through the `nats` CLI."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.chassis.bus.connection import Bus
from services.chassis.bus.queries import Query, answering, ask
from services.chassis.bus.streams import call_api
from services.chassis.errors import ClusterBusy, RequestTooLarge, TooManyValues, WorkerUnavailable
from tests.testbed import building
from tests.testbed.buses import NatsServer, connected
from tests.testbed.proxies import FaultProxy

_USAGE = '{"cluster": "<name>"}'
_VERBS = ("echo", "busy", "broken", "read", "long", "many")


class NatsCli:
    """The real `nats` program, with a home of its own."""

    def __init__(self, server: NatsServer, home: Path) -> None:
        self._flags = [f"--server={server.url}", "--timeout=5s"]
        self._environment = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "PATH": "/usr/bin"}

    async def __call__(self, *arguments: str) -> str:
        """What the command prints; fails when it does."""
        process = await asyncio.create_subprocess_exec(
            building.binary("nats"),
            *arguments,
            *self._flags,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()


@pytest.fixture
def nats_cli(built: None, server: NatsServer, tmp_path: Path) -> NatsCli:
    return NatsCli(server, tmp_path)


@pytest.fixture
async def service(bus: Bus, name: str) -> AsyncIterator[str]:
    """The name of a service that answers `echo`, `busy` and `broken`."""

    async def echo(asked: dict[str, Any]) -> Any:
        return {"asked": asked}

    async def busy(_: dict[str, Any]) -> Any:
        raise ClusterBusy("the cluster is busy with operation op-1", subject="op-1")

    async def broken(_: dict[str, Any]) -> Any:
        raise KeyError("a secret")

    async def long(asked: dict[str, Any]) -> Any:
        return {"text": str(asked["letter"]) * 3_000_000}

    async def many(asked: dict[str, Any]) -> Any:
        return [0] * int(asked["values"])

    async with answering(
        bus,
        service=name,
        description="Answers questions of tests",
        queries=[
            Query("echo", _USAGE, echo),
            Query("busy", _USAGE, busy),
            Query("broken", _USAGE, broken),
            Query("read", _USAGE, echo, text_field="manifest"),
            Query("long", _USAGE, long),
            Query("many", _USAGE, many),
        ],
    ):
        await bus.client.flush()
        yield name


async def test_service_is_listed(nats_cli: NatsCli, service: str) -> None:
    listed = await nats_cli("micro", "ls")

    assert f"mesh-{service}" in listed
    assert "Answers questions of tests" in listed


async def test_service_tells_its_questions_and_their_usage(nats_cli: NatsCli, service: str) -> None:
    told = json.loads(await nats_cli("micro", "info", f"mesh-{service}", "--json"))

    endpoints = {endpoint["subject"]: endpoint for endpoint in told["info"]["endpoints"]}
    assert set(endpoints) == {f"mesh.{service}.{verb}" for verb in _VERBS}
    assert endpoints[f"mesh.{service}.echo"]["metadata"]["usage"] == _USAGE


@pytest.mark.parametrize(("body", "asked"), [('{"cluster": "c1"}', {"cluster": "c1"}), ("", {})])
async def test_question_is_answered_in_json(
    nats_cli: NatsCli, service: str, body: str, asked: dict[str, Any]
) -> None:
    answer = await nats_cli("req", "--raw", f"mesh.{service}.echo", body)

    assert json.loads(answer) == {"asked": asked}


async def test_refusal_is_coded(nats_cli: NatsCli, service: str) -> None:
    answer = await nats_cli("req", f"mesh.{service}.busy", "{}")

    assert "Nats-Service-Error-Code: MB-2002" in answer
    assert "Nats-Service-Error: the cluster is busy with operation op-1." in answer
    report = json.loads(await nats_cli("req", "--raw", f"mesh.{service}.busy", "{}"))
    assert (report["code"], report["subject"]) == ("MB-2002", "op-1")
    assert report["remedy"]


async def test_defect_is_coded_and_keeps_its_text(nats_cli: NatsCli, service: str) -> None:
    answer = await nats_cli("req", f"mesh.{service}.broken", "{}")

    assert "Nats-Service-Error-Code: MB-9001" in answer
    assert "secret" not in answer


@pytest.mark.parametrize("body", ["not json", "[1, 2]", '"text"'])
async def test_malformed_question_is_told_what_to_send(
    nats_cli: NatsCli, service: str, body: str
) -> None:
    report = json.loads(await nats_cli("req", "--raw", f"mesh.{service}.echo", body))

    assert report["code"] == "MB-1001"
    assert report["remedy"] == f"send {_USAGE}"


async def test_questions_are_counted(nats_cli: NatsCli, service: str) -> None:
    await nats_cli("req", f"mesh.{service}.busy", "{}")
    await nats_cli("req", f"mesh.{service}.echo", "{}")

    told = json.loads(await nats_cli("micro", "stats", f"mesh-{service}", "--json"))

    [stats] = told
    counted = {endpoint["name"]: endpoint["num_requests"] for endpoint in stats["endpoints"]}
    assert counted == {**dict.fromkeys(_VERBS, 0), "echo": 1, "busy": 1}


# ---- One service asks another --------------------------------------------------------------------

WITHIN = timedelta(seconds=10)


async def test_an_answer_comes_back_decoded(bus: Bus, service: str) -> None:
    answer = await ask(bus, {"a": 1}, service=service, verb="echo", within=WITHIN)
    assert answer == {"asked": {"a": 1}}


async def test_a_refusal_is_raised_as_what_it_was(bus: Bus, service: str) -> None:
    with pytest.raises(ClusterBusy, match="operation op-1") as caught:
        await ask(bus, {}, service=service, verb="busy", within=WITHIN)
    assert (caught.value.subject, caught.value.remedy) == ("op-1", ClusterBusy.usual_remedy)


async def test_nobody_to_ask_is_told_at_once(bus: Bus) -> None:
    with pytest.raises(WorkerUnavailable, match="no nobody worker is connected"):
        await ask(bus, {}, service="nobody", verb="echo", within=WITHIN)


async def test_large_questions_and_answers_are_compressed(bus: Bus, service: str) -> None:
    letters = "x" * 3_000_000
    answer = await ask(bus, {"a": letters}, service=service, verb="echo", within=WITHIN)
    assert answer == {"asked": {"a": letters}}


async def test_an_answer_may_hold_more_than_a_text_from_outside(bus: Bus, service: str) -> None:
    answer = await ask(bus, {"values": 300_000}, service=service, verb="many", within=WITHIN)
    assert len(answer) == 300_000
    with pytest.raises(TooManyValues, match="2000000"):
        await ask(bus, {"values": 2_100_000}, service=service, verb="many", within=WITHIN)


async def test_what_does_not_fit_is_refused_by_size(bus: Bus, service: str) -> None:
    noise = random.Random(1).randbytes(1_500_000).hex()
    with pytest.raises(RequestTooLarge):
        await ask(bus, {"a": noise}, service=service, verb="echo", within=WITHIN)


async def test_a_person_is_told_that_an_answer_is_too_large(
    nats_cli: NatsCli, service: str
) -> None:
    report = json.loads(await nats_cli("req", "--raw", f"mesh.{service}.long", '{"letter": "a"}'))
    assert report["code"] == "MB-1005"


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ("kind: A\n---\nkind: B\n", {"manifest": "kind: A\n---\nkind: B\n"}),
        ('{"kind": "A"}', {"manifest": '{"kind": "A"}'}),
        ('{"manifest": "kind: A", "b": 1}', {"manifest": "kind: A", "b": 1}),
    ],
)
async def test_a_text_is_a_question_where_one_is_taken(
    nats_cli: NatsCli, service: str, body: str, asked: dict[str, Any]
) -> None:
    answer = await nats_cli("req", "--raw", f"mesh.{service}.read", body)
    assert json.loads(answer) == {"asked": asked}


async def test_a_text_that_is_not_utf_8_is_named_with_its_line(bus: Bus, service: str) -> None:
    reply = await bus.client.request(f"mesh.{service}.read", b"a: 1\nb: \xff\n", timeout=10)
    report = json.loads(reply.data)
    assert report["code"] == "MB-1201"
    assert report["summary"].startswith("line 2")


async def test_a_question_that_takes_long_holds_up_no_other(bus: Bus, name: str) -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    async def patient(asked: dict[str, Any]) -> Any:
        if asked.get("wait"):
            begun.set()
            await released.wait()
        return asked

    stack = AsyncExitStack()
    await stack.enter_async_context(
        answering(bus, service=name, description="", queries=[Query("wait", _USAGE, patient)])
    )
    await bus.client.flush()
    long = asyncio.create_task(ask(bus, {"wait": 1}, service=name, verb="wait", within=WITHIN))
    await begun.wait()
    assert await ask(bus, {"wait": 0}, service=name, verb="wait", within=WITHIN) == {"wait": 0}
    # A service that stops still answers what it has begun.
    stopping = asyncio.create_task(stack.aclose())
    released.set()
    assert await long == {"wait": 1}
    await stopping
    with pytest.raises(WorkerUnavailable):
        await ask(bus, {}, service=name, verb="wait", within=WITHIN)


async def test_what_nats_itself_sends_is_no_question(bus: Bus, name: str) -> None:
    """Whoever may write to a stream and read it back has NATS send that to any subject."""
    asked: list[dict[str, Any]] = []

    async def note(question: dict[str, Any]) -> Any:
        asked.append(question)
        return {}

    stream, forged, answers = f"S_{name}", f"{name}.forged", f"{name}.answers"
    question = f"mesh.{name}.note"
    config = {"name": stream, "subjects": [f"{name}.>"], "allow_direct": True}
    await call_api(bus.client, f"STREAM.CREATE.{stream}", config)
    try:
        async with answering(
            bus, service=name, description="Takes notes", queries=[Query("note", "{}", note)]
        ):
            await bus.client.jetstream().publish(forged, b'{"from": "a stream"}')
            get = f"$JS.API.DIRECT.GET.{stream}.{forged}"
            for options in (b"", b'{"no_hdr": true}'):
                await bus.client.publish(get, options, reply=question)
            # Nor is an answer written to where somebody wants it.
            await bus.client.publish(question, b'{"from": "a person"}', reply=answers)
            await ask(bus, {"from": "somebody"}, service=name, verb="note", within=WITHIN)
        assert asked == [{"from": "somebody"}]
        told = await call_api(bus.client, f"STREAM.INFO.{stream}", {})
        assert told["state"]["messages"] == 1
    finally:
        await call_api(bus.client, f"STREAM.DELETE.{stream}", {})


async def test_an_answer_goes_out_by_the_connection_of_its_question(
    server: NatsServer, bus: Bus, name: str
) -> None:
    """By the next one the server refuses it; whoever asked asks again."""
    taken, ready, back = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(_: dict[str, Any]) -> Any:
        taken.set()
        await ready.wait()
        return {"text": "here"}

    async def asked() -> Any:
        return await ask(bus, {}, service=name, verb="slow", within=timedelta(seconds=3))

    queries = [Query("slow", _USAGE, slow)]
    with FaultProxy(server.port) as proxy, capture_logs() as logs:
        async with (
            connected(f"nats://{proxy.address}") as theirs,
            answering(theirs, service=name, description="Is slow", queries=queries),
        ):
            await theirs.client.flush()
            theirs.on_reconnect(back.set)
            first = asyncio.create_task(asked())
            await asyncio.wait_for(taken.wait(), 10.0)
            proxy.cut()
            await asyncio.wait_for(back.wait(), 10.0)
            ready.set()
            with pytest.raises(WorkerUnavailable):
                await first
            assert await asked() == {"text": "here"}
    assert [entry["event"] for entry in logs].count("answer_dropped") == 1
