"""The service API as a person meets it: through the `nats` CLI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.bus.connection import Bus
from services.chassis.bus.queries import Query, serve_queries
from services.chassis.errors import ClusterBusy
from tests.testbed import building
from tests.testbed.buses import NatsServer

_USAGE = '{"cluster": "<name>"}'


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

    served = await serve_queries(
        bus,
        service=name,
        description="Answers questions of tests",
        queries=[
            Query("echo", _USAGE, echo),
            Query("busy", _USAGE, busy),
            Query("broken", _USAGE, broken),
        ],
    )
    await bus.client.flush()
    yield name
    await served.stop()


async def test_service_is_listed(nats_cli: NatsCli, service: str) -> None:
    listed = await nats_cli("micro", "ls")

    assert f"mesh-{service}" in listed
    assert "Answers questions of tests" in listed


async def test_service_tells_its_questions_and_their_usage(nats_cli: NatsCli, service: str) -> None:
    told = json.loads(await nats_cli("micro", "info", f"mesh-{service}", "--json"))

    endpoints = {endpoint["subject"]: endpoint for endpoint in told["info"]["endpoints"]}
    assert set(endpoints) == {f"mesh.{service}.{verb}" for verb in ("echo", "busy", "broken")}
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
    assert counted == {"echo": 1, "busy": 1, "broken": 0}
