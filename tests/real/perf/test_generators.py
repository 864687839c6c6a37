"""The generators with the real fortio: counts, failures, and that nothing is left behind.

Targets are servers that count for themselves. No package carries wrk2: its adapter runs a program
that writes what wrk2 would write.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.errors import (
    GeneratorFailed,
    GeneratorMissing,
    MeshbusError,
    TargetSilent,
    TargetUnknown,
    TargetUnreachable,
    TargetUntrusted,
)
from services.perf.adapters.generators import FortioGenerator, Wrk2Generator
from services.perf.adapters.processes import Limits, Pipe, carried_out, in_memory
from services.perf.definitions.loads import Load, Protocol, Target
from services.perf.generators import fortio
from services.perf.generators.fortio import LogReader
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.tallies import Tally
from tests.testbed import loopback, pki
from tests.testbed.backends import Backend, Backends
from tests.testbed.building import binary
from tests.testbed.processes import Process, wait_until
from tests.testbed.waiting import eventually

CANARY = "canary-77aa"
DELAY_S = 0.005
RECORDED = Path(__file__).parents[2] / "unit" / "perf" / "recorded"
SOON = Limits(interrupt_after_s=20, kill_after_s=20)


# --- targets -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backends() -> Iterator[Backends]:
    with Backends() as running:
        yield running


@pytest.fixture(scope="module")
def shared(backends: Backends) -> Backend:
    return backends.add("target")


@pytest.fixture
def target(shared: Backend) -> Backend:
    """An HTTP server that answers after 5 ms, with its count at zero."""
    shared.requests.clear()
    shared.delay_s, shared.fails_every = DELAY_S, 0
    return shared


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Counts the calls that have the header of the tests."""

    def __init__(self) -> None:
        self.calls = 0
        self.delay_s = 0.0

    async def Check(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[
            health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        ],
    ) -> health_pb2.HealthCheckResponse:
        self.calls += ("x-key", CANARY) in (context.invocation_metadata() or ())
        await asyncio.sleep(self.delay_s)
        return health_pb2.HealthCheckResponse(status="SERVING")


@pytest.fixture
async def health() -> AsyncIterator[tuple[Health, str]]:
    service, port = Health(), loopback.take_port()
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    server.add_insecure_port(f"{loopback.HOST}:{port}")
    await server.start()
    yield service, f"{loopback.HOST}:{port}"
    await server.stop(None)


@pytest.fixture
async def echo() -> AsyncIterator[tuple[list[bytes], str]]:
    """A TCP echo server, and the messages of 24 bytes that it has seen."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                seen.append(await reader.readexactly(24))
                writer.write(seen[-1])
        writer.close()

    port = loopback.take_port()
    async with await asyncio.start_server(answer, loopback.HOST, port):
        yield seen, f"{loopback.HOST}:{port}"


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.Authority("perf-tests")


@pytest.fixture(scope="module")
def secured(
    built: None, authority: pki.Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Protocol, str]]:
    """fortio's own servers with a certificate of `authority`: HTTP and gRPC."""
    folder = tmp_path_factory.mktemp("secured")
    authority.issue_server("target", [loopback.HOST]).write(folder, "server")
    http, rpc = loopback.take_port(), loopback.take_port()
    files = ["-cert", str(folder / "server.crt"), "-key", str(folder / "server.key")]
    ports = ["-http-port", f"{loopback.HOST}:{http}", "-grpc-port", f"{loopback.HOST}:{rpc}"]
    off = [word for name in ("tcp", "udp", "redirect") for word in (f"-{name}-port", "disabled")]
    server = Process(
        "target", [binary("fortio"), "server", *files, *ports, *off], log=folder / "log"
    )
    server.start()
    wait_until(
        lambda: "servers started" in (folder / "log").read_text(),
        timeout_s=20,
        what="fortio's servers",
        processes=[server],
    )
    https = f"https://{loopback.HOST}:{http}/"
    yield {Protocol.HTTP1: https, Protocol.HTTP2: https, Protocol.GRPC: f"{loopback.HOST}:{rpc}"}
    server.kill()


@pytest.fixture(scope="module")
def translated(
    built: None, shared: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """fortio as a proxy that takes HTTP/2 without TLS and asks the counting server."""
    port, log = loopback.take_port(), tmp_path_factory.mktemp("translated") / "log"
    route = f"{loopback.HOST}:{port} http://{loopback.HOST}:{shared.port}"
    proxy = Process("proxy", [binary("fortio"), "proxies", "-M", route], log=log)
    proxy.start()
    wait_until(
        lambda: "servers started" in log.read_text(), timeout_s=20, what="proxy", processes=[proxy]
    )
    yield f"http://{loopback.HOST}:{port}/"
    proxy.kill()


# --- loads ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator(built: None) -> FortioGenerator:
    return FortioGenerator(str(binary("fortio")))


def load(
    url: str,
    *,
    protocol: Protocol = Protocol.HTTP1,
    rate: float = 100,
    duration_s: float = 0.5,
    connections: int = 4,
    **more: object,
) -> Load:
    fields = {"url": url, "protocol": protocol, "timeout_s": 2, **more}
    return Load(
        target=Target.model_validate(fields),
        rate=rate,
        duration_s=duration_s,
        requests=round(rate * duration_s),
        connections=connections,
    )


def http(backend: Backend) -> str:
    return f"http://{loopback.HOST}:{backend.port}/buy?token={CANARY}"


def running(port: int) -> list[int]:
    """Process ids of generators that are aimed at `port`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes()
                if b"-access-log-file" in words and f":{port}".encode() in words:
                    found.append(int(folder.name))
    return found


async def failure(generator: FortioGenerator, one: Load) -> MeshbusError:
    with pytest.raises(MeshbusError) as raised:
        await generator.run(one, Tally())
    error = raised.value
    assert error.cause
    assert error.remedy
    assert CANARY not in str(error)
    return error


# --- counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("requests", "connections"), [(60, 4), (50, 8), (7, 4), (2, 4), (1, 4)])
async def test_http_counts_are_those_of_the_server(
    requests: int, connections: int, generator: FortioGenerator, target: Backend
) -> None:
    tally = Tally(interval_s=0.2)
    one = load(http(target), rate=requests / 0.5, connections=connections)
    await generator.run(one, tally, offset_s=7.0)
    assert tally.requests == requests == target.requests.total()
    assert tally.responses.count == requests
    assert tally.codes == {"200": requests}
    assert tally.failed == 0
    assert tally.durations.least_us >= DELAY_S * 1e6
    assert sum(interval.durations.count for interval in tally.intervals.values()) == requests
    assert min(tally.intervals) >= 35
    assert tally.sockets == min(connections, max(1, requests // 2))
    assert tally.bytes_received > requests * len("target")


async def test_http2_counts_are_those_of_the_server(
    generator: FortioGenerator, target: Backend, translated: str
) -> None:
    tally = Tally()
    await generator.run(load(translated, protocol=Protocol.HTTP2, rate=60), tally)
    assert tally.requests == 30 == target.requests.total()
    assert tally.codes == {"200": 30}
    # A server that knows HTTP/1.1 only: it is HTTP/2 that is spoken.
    await failure(generator, load(http(target), protocol=Protocol.HTTP2, rate=20))


async def test_grpc_counts_are_those_of_the_server(
    generator: FortioGenerator, health: tuple[Health, str]
) -> None:
    service, address = health
    tally = Tally()
    one = load(address, protocol=Protocol.GRPC, rate=60, headers={"X-Key": CANARY})
    await generator.run(one, tally)
    assert tally.requests == 30 == service.calls
    assert tally.codes == {"SERVING": 30}
    assert tally.sockets == 4


async def test_tcp_counts_are_those_of_the_server(
    generator: FortioGenerator, echo: tuple[list[bytes], str]
) -> None:
    seen, address = echo
    tally = Tally()
    await generator.run(load(address, protocol=Protocol.TCP, rate=96), tally)
    assert tally.requests == 48 == len(seen) == len(set(seen))
    assert tally.codes == {"OK": 48}
    assert (tally.bytes_sent, tally.bytes_received, tally.sockets) == (1152, 1152, 4)


async def test_full_speed_does_not_count_its_first_requests(
    generator: FortioGenerator, target: Backend
) -> None:
    target.delay_s = 0
    tally = Tally()
    await generator.run(load(http(target), rate=0, connections=3), tally)
    assert tally.requests == target.requests.total() - 3 > 20
    assert tally.responses.counts == tally.durations.counts


async def test_half_of_the_answers_are_errors(generator: FortioGenerator, target: Backend) -> None:
    target.fails_every = 2
    tally = Tally()
    await generator.run(load(http(target)), tally)
    assert tally.codes == {"200": 25, "503": 25}
    assert tally.failed == 25


async def test_only_errors_are_a_result_too(generator: FortioGenerator, target: Backend) -> None:
    target.fails_every = 1
    tally = Tally()
    await generator.run(load(http(target)), tally)
    assert tally.codes == {"503": 50}


async def test_long_bodies_go_there_and_back(
    generator: FortioGenerator, secured: dict[Protocol, str]
) -> None:
    """Longer than an argument of a process may be, and than fortio's usual buffer."""
    tally = Tally()
    one = load(secured[Protocol.HTTP1], rate=20, body="x" * 300_000, insecure=True)
    await generator.run(one, tally)
    assert tally.codes == {"200": 10}
    assert tally.bytes_received > 3_000_000


async def test_figures_are_those_that_fortio_tells(
    generator: FortioGenerator, target: Backend
) -> None:
    tally = Tally()
    one = load(http(target), rate=200, duration_s=1)
    reader = LogReader(one, tally, time.time_ns())
    with Pipe(reader.feed) as pipe:
        paths = fortio.Paths(log=f"/dev/fd/{pipe.writing}")
        words = fortio.command(one, program=generator.program, paths=paths)
        ended = await carried_out(words, limits=SOON, pipe=pipe)
    told = json.loads(ended.output)["DurationHistogram"]
    assert tally.requests == told["Count"] == 200
    for ours, theirs in (
        (tally.durations.least_us, told["Min"]),
        (tally.durations.most_us, told["Max"]),
        (tally.durations.mean_us, told["Avg"]),
        (tally.durations.deviation_us, told["StdDev"]),
    ):
        assert ours == pytest.approx(theirs * 1e6, abs=2)
    for percentile in (50, 75, 90, 99):
        bucket = _bucket(told["Data"], percentile)
        ours_s = tally.durations.percentile_us(percentile) / 1e6
        assert bucket["Start"] * 0.999 <= ours_s <= bucket["End"] * 1.001


def _bucket(data: list[dict[str, float]], percentile: float) -> dict[str, float]:
    return next(bucket for bucket in data if bucket["Percent"] >= percentile)


async def test_requests_that_wait_have_longer_response_times(
    generator: FortioGenerator, target: Backend
) -> None:
    """One connection, 20 ms a request and 80 requests a second: the last one waits most."""
    target.delay_s = 0.02
    tally = Tally()
    await generator.run(load(http(target), rate=80, duration_s=1, connections=1), tally)
    assert tally.durations.percentile_us(50) < 100_000
    assert tally.responses.percentile_us(99) > 400_000


async def test_a_target_that_is_too_slow_gets_fewer_requests(
    generator: FortioGenerator, target: Backend
) -> None:
    target.delay_s = 0.1
    tally = Tally()
    await generator.run(load(http(target), connections=1), tally)
    assert 5 <= tally.requests < 25
    assert tally.requests == target.requests.total()


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", Protocol)
async def test_nobody_listens(protocol: Protocol, generator: FortioGenerator) -> None:
    address = f"{loopback.HOST}:{loopback.take_port()}"
    is_http = protocol in (Protocol.HTTP1, Protocol.HTTP2)
    headers = {} if protocol is Protocol.TCP else {"Authorization": f"Bearer {CANARY}"}
    url = f"http://{address}/?token={CANARY}" if is_http else address
    error = await failure(generator, load(url, protocol=protocol, headers=headers))
    assert isinstance(error, TargetUnreachable), error
    assert address in error.summary


@pytest.mark.parametrize("protocol", Protocol)
async def test_the_name_is_unknown(protocol: Protocol, generator: FortioGenerator) -> None:
    is_http = protocol in (Protocol.HTTP1, Protocol.HTTP2)
    url = f"http://nobody.invalid/?token={CANARY}" if is_http else "nobody.invalid:80"
    error = await failure(generator, load(url, protocol=protocol))
    assert isinstance(error, TargetUnknown), error


@pytest.mark.parametrize("protocol", [Protocol.HTTP1, Protocol.HTTP2, Protocol.GRPC])
async def test_certificates_are_checked(
    protocol: Protocol,
    generator: FortioGenerator,
    authority: pki.Authority,
    secured: dict[Protocol, str],
) -> None:
    url = secured[protocol]
    tally = Tally()

    def brief(url: str, **more: object) -> Load:
        return load(url, protocol=protocol, rate=40, duration_s=0.2, **more)  # type: ignore[arg-type]

    known = authority.certificate_pem.decode()
    await generator.run(brief(url, ca_certificate=known), tally)
    address = f"https://{url}" if protocol is Protocol.GRPC else url
    await generator.run(brief(address, insecure=True), tally)
    assert (tally.requests, tally.failed) == (16, 0)
    other = pki.Authority("another").certificate_pem.decode()
    error = await failure(generator, brief(url, ca_certificate=other))
    assert isinstance(error, TargetUntrusted), error
    error = await failure(generator, brief(address))
    assert isinstance(error, TargetUntrusted), error


async def test_tls_is_not_spoken(generator: FortioGenerator, target: Backend) -> None:
    error = await failure(generator, load(http(target).replace("http:", "https:")))
    assert isinstance(error, TargetUntrusted), error


async def test_no_answer_in_time(generator: FortioGenerator, target: Backend) -> None:
    target.delay_s = 2
    error = await failure(generator, load(http(target), rate=10, timeout_s=0.2))
    assert isinstance(error, TargetSilent), error


async def test_no_grpc_answer_in_time(
    generator: FortioGenerator, health: tuple[Health, str]
) -> None:
    """fortio has no timeout there: late answers do not count, and without any it is ended."""
    service, address = health
    one = load(address, protocol=Protocol.GRPC, rate=10, timeout_s=0.2)
    service.delay_s = 0.4
    error = await failure(generator, one)
    assert isinstance(error, TargetSilent), error
    service.delay_s = 60
    error = await failure(generator, one)
    assert isinstance(error, TargetSilent), error


async def test_another_protocol(
    generator: FortioGenerator, health: tuple[Health, str], target: Backend
) -> None:
    error = await failure(generator, load(f"http://{health[1]}/"))
    assert isinstance(error, TargetUnreachable), error
    assert "another protocol" in error.cause
    error = await failure(
        generator, load(f"{loopback.HOST}:{target.port}", protocol=Protocol.GRPC, rate=20)
    )
    assert "another protocol" in error.cause, error


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    missing = FortioGenerator(str(tmp_path / "fortio"))
    assert not missing.is_installed
    with pytest.raises(GeneratorMissing):
        missing.check(load("http://a/"))
    assert not Wrk2Generator("no-such-wrk2").is_installed


async def test_a_program_that_fails(tmp_path: Path) -> None:
    program = script(tmp_path, f"echo 'panic: {CANARY}' >&2; exit 3")
    error = await failure(
        FortioGenerator(program), load("http://a/", headers={"Authorization": CANARY})
    )
    assert isinstance(error, GeneratorFailed)
    assert "panic" in error.cause


# --- ending --------------------------------------------------------------------------------------


@pytest.mark.alone
async def test_cancelled_it_leaves_nothing(generator: FortioGenerator, target: Backend) -> None:
    one = load(http(target), rate=50.05, duration_s=60, connections=64)
    task = asyncio.create_task(generator.run(one, Tally()))
    await eventually(lambda: target.requests.total() > 10, what="load")
    assert len(running(target.port)) == len(fortio.processes(one)) == 2
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running(target.port) == []
    took = time.monotonic() - began
    print(f"ended within {took:.2f} s")
    assert took < 5


async def test_cancelled_twice_it_leaves_nothing(tmp_path: Path) -> None:
    """A program that does not listen to SIGINT, and one that it started."""
    pids = tmp_path / "pids"
    stubborn = script(tmp_path, f"trap '' INT; sleep 60 & echo $$ $! > {pids}; wait; sleep 60")
    task = asyncio.create_task(carried_out([stubborn], limits=SOON))
    await eventually(lambda: pids.exists() and pids.read_text().endswith("\n"), what="a start")
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for pid in pids.read_text().split():
        await eventually(lambda pid=pid: not alive(int(pid)), what=f"{pid} to be gone")


async def test_an_overdue_program_is_ended(tmp_path: Path) -> None:
    stubborn = script(tmp_path, "trap '' INT; sleep 60")
    limits = Limits(interrupt_after_s=2.0, kill_after_s=2.3)  # the shell must be up
    ended = await carried_out([stubborn], limits=limits)
    assert ended.was_overdue
    assert ended.status == -signal.SIGKILL


async def test_a_killed_worker_takes_its_generators_along(
    generator: FortioGenerator, target: Backend
) -> None:
    """The worker runs on uvloop, as the service does."""
    one = load(http(target), rate=50, duration_s=60)
    program = textwrap.dedent(f"""
        import uvloop
        from services.perf.adapters.generators import FortioGenerator
        from services.perf.definitions.loads import Load
        from services.perf.measurements.tallies import Tally
        load = Load.model_validate_json({one.model_dump_json()!r})
        uvloop.run(FortioGenerator({generator.program!r}).run(load, Tally()))
    """)
    with subprocess.Popen([sys.executable, "-c", program]) as worker:
        try:
            await eventually(lambda: target.requests.total() > 5, what="load", within_s=60)
            assert running(target.port)
        finally:
            worker.kill()
    await eventually(lambda: not running(target.port), what="no generator")


# --- processes -----------------------------------------------------------------------------------


def script(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_a_child_sees_nothing_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MESHBUS_NATS_PASSWORD", CANARY)
    monkeypatch.setenv("HTTP_PROXY", CANARY)
    ended = await carried_out([script(tmp_path, "env; ulimit -c")], limits=SOON)
    assert "PATH=" in ended.output.decode()
    assert CANARY not in ended.output.decode()
    assert ended.output.decode().splitlines()[-1] == "0"


async def test_what_a_child_is_given_is_on_no_disk(tmp_path: Path) -> None:
    heard: list[bytes] = []
    with Pipe(heard.append) as pipe, in_memory(CANARY * 9000) as file:
        copy = f"cat /dev/fd/{file} /dev/fd/{file} > /dev/fd/{pipe.writing}"
        ended = await carried_out([script(tmp_path, copy)], limits=SOON, pipe=pipe, files=[file])
    assert (ended.status, b"".join(heard).decode()) == (0, CANARY * 18000)


async def test_of_long_complaints_both_ends_are_kept() -> None:
    shout = "import sys; sys.stderr.write('first' + 'x' * 3_000_000 + 'last')"
    ended = await carried_out([sys.executable, "-c", shout], limits=SOON)
    assert ended.stderr.startswith("first")
    assert ended.stderr.endswith("last")
    assert len(ended.stderr) < 20_000


# --- wrk2 ----------------------------------------------------------------------------------------


async def test_what_wrk2_writes_is_counted(tmp_path: Path) -> None:
    program = script(tmp_path, f"echo $@ > {tmp_path}/words; cat {RECORDED}/wrk2-steady.txt")
    tally = Tally()
    await Wrk2Generator(program).run(load("http://a/", rate=500, duration_s=30), tally)
    assert tally.requests == 14_998
    assert Histogram.of(tally.message().durations).percentile_us(50) > 1000
    assert "-R 500 -d 30s" in (tmp_path / "words").read_text()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("echo 'unable to connect to a:80 Connection refused' >&2; exit 1", TargetUnreachable),
        ("echo 'unable to resolve a:80 Name or service not known' >&2; exit 1", TargetUnknown),
        (f"cat {RECORDED}/wrk2-silent.txt", TargetSilent),
        (f"cat {RECORDED}/wrk2-steady.txt; exit 1", GeneratorFailed),
        ("echo 'invalid option' >&2; exit 1", GeneratorFailed),
    ],
)
async def test_wrk2s_failures(text: str, kind: type[MeshbusError], tmp_path: Path) -> None:
    with pytest.raises(kind):
        await Wrk2Generator(script(tmp_path, text)).run(load("http://a/"), Tally())
