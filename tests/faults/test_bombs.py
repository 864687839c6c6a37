"""Bombs: small requests that hold a million values, at every entrance, in every shape.

None of them may cost a service more than a second of its processor's time or much memory, and
nobody else may notice: `/livez` stays green, and a call that comes later is answered earlier.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from services.chassis.bus.connection import Bus, connect
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed import loopback
from tests.testbed.clusters import Cluster
from tests.testbed.generations import Generation, GenerationClient
from tests.testbed.meshery import Meshery
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus, message_count
from tests.testbed.weights import Weighing

MOST_CPU_S = 1.0
MOST_MEMORY_MIB = 200.0
_WITHIN_S = 120.0
_LARGEST_MESSAGE = 900_000
_LIMIT = 4_000_000 - 300
"""Characters of a body that the gateway takes."""


def _filled(head: str, part: str, tail: str) -> str:
    return head + part * ((_LIMIT - len(head) - len(tail)) // len(part)) + tail


# Made when a test throws one: every worker reads this file.
SHAPES: dict[str, Callable[[], str]] = {
    "lists": lambda: _filled("a: [", "[],", "[]]"),
    "mappings": lambda: _filled("a: [", "{},", "{}]"),
    "numbers": lambda: _filled("a: [", "1,", "1]"),
    "floats": lambda: _filled("a: [", "1e3,", "1]"),
    "other numbers": lambda: f"a: [{','.join(map(str, range(580_000)))}]",
    "other floats": lambda: f"a: [{','.join(f'{number}e1' for number in range(450_000))}]",
    "other hexadecimals": lambda: f"a: [{','.join(f'0x{number:x}' for number in range(450_000))}]",
    "quoted": lambda: _filled("a: [", '"",', '""]'),
    "items": lambda: _filled("a:\n", "- x\n", ""),
    "keys": lambda: "\n".join(f"k{number}: v" for number in range(350_000)),
    "nested": lambda: _filled("a: ", "[" * 90 + "]" * 90 + "\n", "").replace("]\n[", "],["),
    "deep": lambda: _filled("a: ", "[", ""),
    "aliases": lambda: "a: &a [x, x]\n" + _filled("b: [", "*a,", "*a]"),
    "merges": lambda: _filled("a: ", "{<<: ", ""),
    "documents": lambda: _filled("", "a: b\n---\n", ""),
    "empty documents": lambda: _filled("", "---\n", ""),
    "tags": lambda: _filled("a: [", "! x,", "x]"),
    "anchors": lambda: _filled("a: [", "&a x,", "x]"),
    "comments": lambda: _filled("a: b\n", "#\n", ""),
    "JSON": lambda: _filled('{"a":[', "[],", "[]]}"),
    "JSON texts": lambda: _filled('{"a":[', '"",', '""]}'),
    "JSON keys": lambda: _filled('{"a":1', ',"b":1', "}"),
    "within the budget": lambda: "a: [" + "[]," * 190_000 + "[]]",
}
TYPICAL = "lists"
JSON_SHAPES = [name for name in SHAPES if name.startswith("JSON")]


@dataclass(frozen=True, slots=True)
class Target:
    """Where bombs are thrown at."""

    stack: Stack
    cluster: Cluster
    meshery: Meshery

    @property
    def token(self) -> str:
        return parse_kubeconfig(self.cluster.kubeconfig_text).cluster


Throw = Callable[[Target, str], Awaitable[str]]
"""Throws a shape, waits until it is dealt with, and returns what was said."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """A way for a text into a service."""

    service: str
    throw: Throw


# --- ways in -------------------------------------------------------------------------------------


async def _call(target: Target, generation: Generation, name: str, fields: dict[str, Any]) -> str:
    client = GenerationClient(generation, target.stack.gateway_address)
    try:
        answer = await client.call(name, fields, timeout_seconds=_WITHIN_S)
        return str(answer)
    except grpc.aio.AioRpcError as error:
        return str(error.details())
    finally:
        await client.close()


def _operation(kind: str, before: str = "") -> Throw:
    async def throw(target: Target, shape: str) -> str:
        final = await target.meshery.run(kind, body=before + shape, namespace="default")
        return f"{final.event.error_code} {final.event.summary} {final.event.details}"

    return throw


async def _body(target: Target, shape: str) -> str:
    # A word that makes the gateway itself look into the body.
    fields = {"opName": "custom", "custom_body": f"# registrant\n{shape}"}
    return await _call(
        target, Generation.G, "ApplyOperation", fields | {"kube_configs": ["no kubeconfig"]}
    )


async def _kubeconfigs(target: Target, shape: str) -> str:
    small = f"{shape[:150_000]}\n"
    texts = [f"{small}# {number}" for number in range(30)]
    return await _call(
        target, Generation.G, "ApplyOperation", {"opName": "custom", "kube_configs": texts}
    )


async def _kubeconfigs_that_pass(target: Target, shape: str) -> str:
    """Each of them is a kubeconfig, with more in it than one has."""
    text = target.cluster.kubeconfig_text.strip()
    texts = [f"{text}\nx{number}: [{'[],' * 40_000}]\n" for number in range(40)]
    return await _call(
        target, Generation.G, "ApplyOperation", {"opName": "custom", "kube_configs": texts}
    )


async def _instance(target: Target, shape: str) -> str:
    fields = {"k8sConfig": shape[:250_000].encode(), "contextName": "one"}
    return await _call(target, Generation.C, "CreateMeshInstance", fields)


async def _components(target: Target, shape: str) -> str:
    fields = {"oam_comps": [shape], "kube_configs": [target.cluster.kubeconfig_text]}
    return await _call(target, Generation.F, "ProcessOAM", fields)


async def _configuration(target: Target, shape: str) -> str:
    return await _call(
        target, Generation.F, "ProcessOAM", {"oam_comps": ["{}"], "oam_config": shape}
    )


async def _declarations(target: Target, shape: str) -> str:
    fields = {"declarations": [shape], "kube_configs": [target.cluster.kubeconfig_text]}
    return await _call(target, Generation.G, "Provision", fields)


def _many(generation: Generation, name: str, field: str, value: str) -> Throw:
    """As many parts as a message can hold, each of them next to nothing."""

    async def throw(target: Target, shape: str) -> str:
        count = 5_000_000 // (2 + len(value))
        return await _call(target, generation, name, {field: [value] * count})

    return throw


def _command(service: str, subject: str, *, is_json: bool) -> Throw:
    async def throw(target: Target, shape: str) -> str:
        if is_json:
            body = b'{"operation":"bomb","kind":"istio","x":[' + b"[]," * 5_000_000 + b"[]]}"
        else:
            many = 12_000_000
            body = b"\x81\xa1x\xdd" + many.to_bytes(4, "big") + b"\x90" * many
        headers = {
            "Content-Encoding": "deflate",
            "Content-Type": "application/json" if is_json else "application/msgpack",
        }
        async with admin_bus(target.stack) as bus:
            before = await message_count(bus, "DLQ")
            jetstream = bus.client.jetstream()
            await jetstream.publish(
                subject.format(cluster=target.token), zlib.compress(body), headers=headers
            )
            async with asyncio.timeout(_WITHIN_S):
                while await message_count(bus, "DLQ") == before:
                    await asyncio.sleep(0.05)
            buried = await jetstream.get_last_msg("DLQ", f"dlq.{service}")
            return str((buried.headers or {})["Meshbus-Reason"])

    return throw


def _question(subject: str) -> Throw:
    async def throw(target: Target, shape: str) -> str:
        text = shape.encode()
        while len(packed := zlib.compress(text)) > _LARGEST_MESSAGE:
            text = text[: len(text) // 2]
        async with _operator(target.stack) as bus:
            headers = {"Content-Encoding": "deflate"}
            answer = await bus.client.request(subject, packed, timeout=_WITHIN_S, headers=headers)
            return f"{answer.headers} {answer.data[:1000]!r}"

    return throw


@asynccontextmanager
async def _operator(stack: Stack) -> AsyncIterator[Bus]:
    bus = await connect(stack.settings("operator"), service="operator")
    try:
        yield bus
    finally:
        await bus.close()


def _options(kind: str) -> str:
    return f"apiVersion: meshbus.io/v1\nkind: {kind}\n---\n"


_ISTIO_OPERATOR = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n---\n"
_BROKEN = '{"a": '
"""What every entrance refuses, and no operation is begun for."""

ENTRANCES: dict[str, Entrance] = {
    "a body": Entrance("gateway", _body),
    "kubeconfigs": Entrance("gateway", _kubeconfigs),
    "kubeconfigs that pass": Entrance("gateway", _kubeconfigs_that_pass),
    "CreateMeshInstance": Entrance("gateway", _instance),
    "ProcessOAM": Entrance("gateway", _components),
    "ProcessOAM's configuration": Entrance("gateway", _configuration),
    "Provision": Entrance("gateway", _declarations),
    "many kubeconfigs": Entrance(
        "gateway", _many(Generation.G, "ApplyOperation", "kube_configs", "")
    ),
    "many components": Entrance("gateway", _many(Generation.F, "ProcessOAM", "oam_comps", "{}")),
    "many declarations": Entrance("gateway", _many(Generation.G, "Provision", "declarations", "")),
    "istio": Entrance("lifecycle", _operation("istio", _ISTIO_OPERATOR)),
    "a sample": Entrance("lifecycle", _operation("httpbin", _options("ApplicationOptions"))),
    "custom": Entrance("translator", _operation("custom")),
    "a policy": Entrance(
        "translator", _operation("deny-all-policy-operation", _options("PolicyOptions"))
    ),
    "traffic": Entrance("translator", _operation("bookinfo-delay", _options("RoutingOptions"))),
    "a test": Entrance("perf", _operation("performance-test")),
    "a question to the translator": Entrance("translator", _question("mesh.translator.translate")),
    "a question to perf": Entrance("perf", _question("mesh.perf.run")),
    "a command in msgpack": Entrance(
        "lifecycle", _command("lifecycle", "cmd.lifecycle.{cluster}.mesh", is_json=False)
    ),
    "a command in JSON": Entrance(
        "translator", _command("translator", "cmd.translator.{cluster}.apply.bomb", is_json=True)
    ),
}
SHAPELESS = {
    "many kubeconfigs",
    "many components",
    "many declarations",
    "kubeconfigs that pass",
    "a command in msgpack",
    "a command in JSON",
}
LEAVES_THE_REST = {"istio", "a sample", "a policy", "traffic"}
"""They take their own document of a body; with others that can be read they begin."""
READABLE = {"within the budget", "comments"}
TAKES_JSON = {"ProcessOAM", "ProcessOAM's configuration", "Provision"}


def _matrix() -> Iterator[object]:
    """Every entrance with every shape that it looks into; the short run has one for each."""
    for name in ENTRANCES:
        shapes = [TYPICAL] if name in SHAPELESS else list(SHAPES)
        if name in TAKES_JSON:
            shapes = JSON_SHAPES
        if name in LEAVES_THE_REST:
            shapes = [shape for shape in shapes if shape not in READABLE]
        for number, shape in enumerate(shapes):
            marks = [pytest.mark.full] if number else []
            yield pytest.param(name, shape, id=f"{name}-{shape}", marks=marks)


# --- the bed -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    services = ("lifecycle", "translator", "perf", "gateway")
    with Stack(tmp_path_factory.mktemp("bombs"), services=services) as running:
        yield running


@pytest.fixture(scope="module")
async def target(stack: Stack, cluster: Cluster) -> AsyncIterator[Target]:
    """Every service has read something before: what it loads once is not the bomb's."""
    async with Meshery(stack.gateway_address, [cluster.kubeconfig_text]).connected() as meshery:
        found = Target(stack, cluster, meshery)
        for name in sorted(ENTRANCES.keys() - SHAPELESS):
            await ENTRANCES[name].throw(found, _BROKEN)
        yield found


@asynccontextmanager
async def _alive(stack: Stack, service: str) -> AsyncIterator[list[bytes]]:
    """Asks for `/livez` all the time; every answer must be good."""
    answers: list[bytes] = []

    async def ask() -> None:
        while True:
            url = f"{stack.health_url(service)}/livez"
            answers.append(await asyncio.to_thread(loopback.fetch, url, timeout_s=30.0))
            await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask(), name="livez")
    try:
        yield answers
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize(("name", "shape"), list(_matrix()))
async def test_a_bomb_is_small_and_nobody_notices(name: str, shape: str, target: Target) -> None:
    entrance = ENTRANCES[name]
    process = target.stack.processes[entrance.service]
    weighing = Weighing.of(process.pid)
    async with _alive(target.stack, entrance.service) as answers:
        said = await entrance.throw(target, SHAPES[shape]())
    cpu_s, peak_mib = weighing.cpu_s(), weighing.peak_mib()
    print(f"BOMB {name} {shape}: {cpu_s:.2f} s, {peak_mib:.0f} MiB: {said[:160]!r}")
    assert "MB-" in said, said[:500]
    assert "MB-9" not in said, said[:500]
    assert cpu_s < MOST_CPU_S
    assert peak_mib < MOST_MEMORY_MIB
    assert set(answers) <= {b"ok\n"}
    assert process.is_running


async def test_a_later_call_is_answered_earlier(target: Target) -> None:
    """What is taken costs most: a text just within the budget."""
    ended: list[str] = []

    async def bomb() -> None:
        await _body(target, SHAPES["within the budget"]())
        ended.append("bomb")

    client = GenerationClient(Generation.G, target.stack.gateway_address)
    try:
        await client.call("MeshVersions", {}, timeout_seconds=_WITHIN_S)
        thrown = asyncio.create_task(bomb())
        await asyncio.sleep(0)
        for _ in range(3):
            await client.call("MeshVersions", {}, timeout_seconds=_WITHIN_S)
        ended.append("calls")
        await thrown
    finally:
        await client.close()
    assert ended == ["calls", "bomb"]
